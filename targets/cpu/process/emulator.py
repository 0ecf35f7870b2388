"""C programs for other machines: built by a cross compiler, run by qemu-user or node."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcomp.errors import TargetError
from qcomp.targets.base import Artifact, Emulated
from qcomp.targets.cpu.library.link import format_of_files, gnu_prefix, static_library, static_name
from qcomp.targets.cpu.process.zig import zig

_SECONDS = 3600  # an emulator takes a hundred times as long as a processor
_NODE = """\
const {WASI} = require('node:wasi');
const code = require('node:fs').readFileSync(process.argv[2]);
const wasi = new WASI({version: 'preview1'});
const instance = new WebAssembly.Instance(new WebAssembly.Module(code), wasi.getImportObject());
process.exit(wasi.start(instance));
"""
# By the first word of the triple: the emulator, and zig's name for the machine with a C library.
_EMULATORS: Mapping[str, tuple[str, ...]] = {
    "aarch64": ("qemu-aarch64", "-cpu", "max"),
    "armv7": ("qemu-arm", "-cpu", "max"),
    "riscv64": ("qemu-riscv64",),
    "wasm32": ("node", "--no-warnings", "wasi.js"),
    "x86_64": ("qemu-x86_64", "-cpu", "max"),
}
_ZIG_TARGETS: Mapping[str, str] = {
    "aarch64": "aarch64-linux-musl",
    "armv7": "arm-linux-musleabihf",
    "riscv64": "riscv64-linux-musl",
    "wasm32": "wasm32-wasi",
    "x86_64": "x86_64-linux-musl",
}
_OF_WASI = ("-D_WASI_EMULATED_PROCESS_CLOCKS", "-lwasi-emulated-process-clocks")


@dataclass(frozen=True)
class Tools:
    """The commands of a C compiler, and of what runs its programs."""

    compiler: list[str]
    runner: list[str]

    @property
    def told(self) -> str:
        program, *options = self.runner
        shown = options if "-cpu" in options else []
        return f"{Path(self.compiler[0]).name} and {' '.join([Path(program).name, *shown])}"


def tools_for(triple: str) -> Tools:
    """TargetError names what is missing."""
    machine, *systems = triple.split("-")
    if machine not in _EMULATORS or not ("linux" in systems or machine == "wasm32"):
        raise TargetError(f"no emulator is known for {triple}")
    name, *options = _EMULATORS[machine]
    runner = shutil.which(name) or shutil.which(f"{name}-static")
    if runner is None:
        raise TargetError(f"{name} runs code for {triple}, and is not installed")
    compiler = zig("cc", "-target", _ZIG_TARGETS[machine])
    if machine == "wasm32":
        compiler = compiler and [*compiler, *_OF_WASI]
    elif gcc := shutil.which(f"{gnu_prefix(triple)}-gcc"):
        compiler = [gcc]
    if compiler is None:
        gcc = "" if machine == "wasm32" else f"{gnu_prefix(triple)}-gcc or "
        raise TargetError(f"a C compiler for {triple} is missing: {gcc}pip's ziglang")
    return Tools(compiler, [runner, *options])


def emulated(tools: Tools, artifact: Artifact, program: str) -> Emulated:
    """Build the program with the static library and run it; 0 and 1 are answers, not failures."""
    with tempfile.TemporaryDirectory(prefix="qcomp-") as folder:
        library = static_name(format_of_files(artifact), artifact.name)
        (Path(folder) / library).write_bytes(static_library(artifact))
        for name, text in {**artifact.sources, "main.c": program, "wasi.js": _NODE}.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        options = ["-std=c99", "-O1", "-static", "main.c", library, "-lm", "-o", "main"]
        _done([*tools.compiler, *options], folder, (0,))
        output = _done([*tools.runner, "main"], folder, (0, 1))
    return Emulated(output, tools.told)


def _done(command: Sequence[str], folder: str, statuses: Sequence[int]) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    if done.returncode not in statuses:
        said = (done.stderr or done.stdout).strip()
        raise TargetError(f"{Path(command[0]).name} ended with {done.returncode}: {said}")
    return done.stdout
