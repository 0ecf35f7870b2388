"""Generated code for other machines, in their emulators, between guard pages: weights too.

An emulator stays and takes one library after the other (emulated_host.c; .js in node), so a graph
takes as long as its code generation. Every graph runs with one thread and with three, and its
buffers begin and end where memory does. There are no pages and no threads in WebAssembly.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qcomp.errors import TargetError
from qcomp.targets.base import Artifact
from qcomp.targets.cpu.library.link import gnu_prefix, shared_library
from qcomp.targets.cpu.process.emulator import tools_for
from qcomp.targets.cpu.process.host import this_host
from qcomp.targets.cpu.process.zig import zig

Array = NDArray[Any]
Arrays = Mapping[str, Array]

HERE = Path(__file__).parent
POOL = HERE.parent.parent / "targets/cpu/c"
PAGE = 4096
LINE = 64  # that constants begin with

# By target: the processors to emulate, the least that its sets run on and more.
PROCESSORS: Mapping[str, tuple[str, ...]] = {
    "aarch64": ("cortex-a53", "cortex-a72"),
    "aarch64-dotprod": ("cortex-a76", "neoverse-n1"),
    "aarch64-i8mm": ("max",),
    "arm64": ("cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n1", "max"),
    "armv7": ("max",),
    "riscv64": ("rv64",),
    "wasm32": ("node",),
}

# Weights are alone in their pages, between two that are not there.
_LAYOUT = """\
PHDRS {{
  text PT_LOAD FILEHDR PHDRS FLAGS(5);
  data PT_LOAD FLAGS(6);
  dynamic PT_DYNAMIC FLAGS(6);
  weights PT_LOAD FLAGS(4);
  last PT_LOAD FLAGS(4);
}}
SECTIONS {{
  . = SIZEOF_HEADERS;
  .hash : {{ *(.hash) }} :text
  .gnu.hash : {{ *(.gnu.hash) }} :text
  .dynsym : {{ *(.dynsym) }} :text
  .dynstr : {{ *(.dynstr) }} :text
  .text : {{ *(.text .text.* .plt .iplt) }} :text
  .constants : {{ *(EXCLUDE_FILE(*_data.o) .rodata .rodata.* .srodata*) }} :text
  .unwound : {{ *(.eh_frame .ARM.exidx* .ARM.extab*) }} :text
  . = ALIGN({page});
  .dynamic : {{ *(.dynamic) }} :data :dynamic
  .data : {{ *(.got .got.plt .data .data.* .sdata*) }} :data
  .bss : {{ *(.sbss* .bss .bss.* COMMON) }} :data
  . = ALIGN({page}) + {page} + {offset};
  .weights : {{ *_data.o(.rodata) }} :weights
  . = ALIGN({page}) + {page};
  .last : {{ LONG(0) }} :last
}}
"""


class Fault(AssertionError):
    """The emulated program ended: a signal, most of the time."""


@dataclass
class Counts:
    """What was compared; `runs` of NAME_run."""

    graphs: int = 0
    runs: int = 0
    values: int = 0
    differing_bits: int = 0
    faults: int = 0
    strays: int = 0


# What ran, by its name, for the end of the run of the tests.
COUNTED = pytest.StashKey[dict[str, Counts]]()


@dataclass
class Host:
    """One emulated processor."""

    command: Sequence[str | Path]
    environment: Mapping[str, str]
    _process: subprocess.Popen[bytes] | None = None
    _errors: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def answer(self, request: str, inputs: Sequence[Array], sizes: Sequence[int]) -> list[bytes]:
        """The status line and the outputs."""
        if self._process is None:
            self._errors.seek(0)
            self._errors.truncate()
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                env={**os.environ, **self.environment},
            )  # fmt: skip
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(request.encode() + b"\n")
            for array in inputs:
                process.stdin.write(np.ascontiguousarray(array).tobytes())
            process.stdin.flush()
        parts = [process.stdout.readline(), *(process.stdout.read(size) for size in sizes)]
        if not parts[0].endswith(b"\n") or [*map(len, parts[1:])] != [*sizes]:
            status = self._stopped()
            self._errors.seek(0)
            raise Fault(f"{request}: ended with {status}: {self._errors.read().decode()[-2000:]}")
        return parts

    def _stopped(self) -> int:
        process, self._process = self._process, None
        assert process is not None
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return process.wait()

    def close(self) -> None:
        if self._process is not None:
            self._stopped()
        self._errors.close()


@dataclass
class Emulated:
    """All processors of a target; `counts` of all that was run."""

    target: str
    folder: Path
    hosts: Mapping[str, Host]
    counts: Counts = field(default_factory=Counts)

    @staticmethod
    def of(target: str, triple: str, folder: Path) -> Emulated:
        """Skips the test where tools are missing."""
        folder.mkdir(parents=True, exist_ok=True)
        if target == "wasm32":
            node = shutil.which("node")
            if node is None or not (shutil.which("wasm-ld") or zig("wasm-ld")):
                pytest.skip("node and wasm-ld run WebAssembly, and are not installed")
            host = Host([node, HERE / "emulated_host.js"], {})
            return Emulated(target, folder, {"node": host})
        try:
            runner = tools_for(triple).runner[0]
        except TargetError as error:
            pytest.skip(str(error))
        gcc = shutil.which(f"{gnu_prefix(triple)}-gcc")
        if gcc is None:
            pytest.skip(f"{gnu_prefix(triple)}-gcc is not installed")
        program = folder / "host"
        sources = [HERE / "emulated_host.c", POOL / "qcomp_pool.c"]
        options = ["-O1", "-std=c11", "-pthread", "-Wall", "-w", f"-I{POOL}", "-ldl"]
        subprocess.run([gcc, *sources, *options, "-o", program], check=True)
        where = {"QEMU_LD_PREFIX": f"/usr/{gnu_prefix(triple)}"}
        hosts = {cpu: Host([runner, "-cpu", cpu, program], where) for cpu in PROCESSORS[target]}
        return Emulated(target, folder, hosts)

    def check(self, artifact: Artifact, inputs: Sequence[Array], outputs: Arrays) -> None:
        """On each processor the code has the specification's bits, which are `outputs`."""
        self.counts.graphs += 1
        threads = (1, 3) if self.target != "wasm32" else (1,)
        for at_end in (1, 0):
            library, hole = self._linked(artifact, at_end)
            for processor, count in itertools.product(self.hosts, threads):
                request = [
                    library, artifact.name, at_end, count, len(inputs), len(outputs), hole,
                    artifact.memory.arena, *(a.nbytes for a in [*inputs, *outputs.values()]),
                ]  # fmt: skip
                self._compare(" ".join(map(str, request)), inputs, outputs, processor)

    def _compare(
        self, request: str, inputs: Sequence[Array], outputs: Arrays, processor: str
    ) -> None:
        counts, place = self.counts, f"{self.target} on {processor}"
        counts.runs += 1
        try:
            sizes = [a.nbytes for a in outputs.values()]
            line, *answers = self.hosts[processor].answer(request, inputs, sizes)
        except Fault:
            counts.faults += 1
            raise
        status, stray = map(int, line.split())
        counts.strays += stray
        differing = {}
        for (name, expected), answer in zip(outputs.items(), answers, strict=True):
            bits = np.frombuffer(answer, np.uint8) ^ np.frombuffer(expected.tobytes(), np.uint8)
            counts.values += expected.size
            differing[name] = int(np.unpackbits(bits).sum())
        counts.differing_bits += sum(differing.values())
        assert status == 0, f"{place}: status {status}"
        assert stray == 0, f"{place}: {stray} bytes beside the buffers or of inputs changed"
        assert not any(differing.values()), f"{place}: differing bits {differing}"

    def _linked(self, artifact: Artifact, at_end: int) -> tuple[Path, int]:
        """A shared library, and where in it the page lies that is not there."""
        library = self.folder / f"{artifact.name}-{at_end}.so"
        if self.target == "wasm32":
            found = shared_library(artifact, self.folder, this_host())
            assert found is not None
            return found, 0
        for name, content in artifact.files.items():
            (self.folder / name).write_bytes(content)
        layout = self.folder / "layout"
        data = artifact.files[f"{artifact.name}_data.o"]
        offset = -_constants_bytes(data) // LINE * LINE % PAGE if at_end else 0
        layout.write_text(_LAYOUT.format(page=PAGE, offset=offset), encoding="utf-8")
        command = [
            f"{gnu_prefix(artifact.requires.triple)}-ld", "-shared", "-T", layout, "-Map",
            self.folder / "map", "-z", f"max-page-size={PAGE}", "-z", "noexecstack", "-o", library,
            *(self.folder / name for name in artifact.files),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        return library, _hole(self.folder / "map", at_end)

    def close(self) -> None:
        for host in self.hosts.values():
            host.close()


def _constants_bytes(data: bytes) -> int:
    """The size of the first section of an object of ELF."""
    wide = data[4] == 2
    (start,) = struct.unpack_from("<Q" if wide else "<I", data, 40 if wide else 32)
    (entry,) = struct.unpack_from("<H", data, 58 if wide else 46)
    at = start + entry + (32 if wide else 20)
    (size,) = struct.unpack_from("<Q" if wide else "<I", data, at)
    return int(size)


def _hole(map: Path, at_end: int) -> int:
    """The page behind the weights or before them, by the linker's map."""
    for line in map.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words[:1] == [".weights"] and len(words) >= 3:
            begin, size = (int(word, 16) for word in words[1:3])
            end = begin + size
            beside = -end % PAGE < LINE if at_end else begin % PAGE == 0
            assert size == 0 or beside, line
            return -(-end // PAGE) * PAGE if at_end else begin // PAGE * PAGE - PAGE
    raise AssertionError(f"{map} has no weights")
