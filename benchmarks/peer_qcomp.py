"""qcomp as a peer of bench_peers.py, which imports this file when QCOMP_BENCH_ADAPTERS names it.

The peers' environment has no qcomp. A network is compiled by the command line of the interpreter
QCOMP_PYTHON (default: the .venv of this checkout); what is loaded and timed is the generated
library alone, through ctypes.

All activations have 8 bits, by the recipe "fast": "auto" may give some 16, which is another network
to time; other than that, times do not depend on the recipe.

qcomp_int8 takes and gives int8, as LiteRT does. qcomp_int8_float_io takes and gives floats, as
onnxruntime and OpenVINO do: the conversions of the generated header are part of its time.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bench_peers import Adapter, Prepared, fsize, peer
from float_io import float_io
from numpy.typing import NDArray

Array = NDArray[Any]

NAME = "net"
COMPILE = "from qcomp.cli import main; main()"
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Level:
    """What one of bench_peers' instruction sets is called by qcomp and by the C compiler."""

    target: str
    march: str


LEVELS = {
    "native": Level("native", "native"),
    "avx512_vnni": Level("avx512-vnni", "x86-64-v4"),
    "avx2_vnni": Level("avx-vnni", "x86-64-v3"),
    "avx2": Level("avx2", "x86-64-v3"),
}


@peer
class QcompInt8(Adapter):
    """int8 in, int8 out: quantized before the clock starts, dequantized after it stops."""

    name = "qcomp_int8"
    rebuild_per_isa = True

    def isas(self) -> list[str]:
        return list(LEVELS)

    def build(self, m: Any, calib: Sequence[Sequence[Array]], cfg: Any, out: Path) -> str:
        """The saved directory, in `out`."""
        folder, calibration = out / "library", out / "calibration.npz"
        samples = [np.concatenate(arrays) for arrays in zip(*calib, strict=True)]
        with calibration.open("wb") as file:
            arrays: dict[str, Any] = dict(zip(input_names(m.onnx), samples, strict=True))
            np.savez(file, **arrays)
        qcomp = [
            os.environ.get("QCOMP_PYTHON", str(HERE.parent / ".venv/bin/python")),
            "-c",
            COMPILE,
        ]
        options = ["--target", LEVELS[cfg.isa].target, "--calibration", str(calibration)]
        options += ["--recipe", "fast", "--threads-pool"]
        checked([*qcomp, "compile", m.onnx, "-o", folder, "--name", NAME, *options])
        return str(folder)

    def load(self, m: Any, art: str, x: Sequence[Array], cfg: Any) -> Any:
        folder = Path(art)
        manifest = json.loads((folder / f"{NAME}.manifest.json").read_text(encoding="utf-8"))
        library, run = self.entry(folder, manifest)
        run_on(library, folder, cfg.threads)
        inputs = self.inputs(manifest, x)
        outputs = self.outputs(manifest)
        arrays = [*inputs, *outputs, *self.memory(manifest)]
        bound = functools.partial(run, *(ctypes.c_void_p(a.ctypes.data) for a in arrays))
        if status := bound():
            raise RuntimeError(f"{NAME}_run returned status {status}")
        prepared = Prepared(bound, lambda: self.floats(manifest, outputs), fsize(library._name))
        prepared.keep = (library, arrays)
        return prepared

    def entry(
        self, folder: Path, manifest: dict[str, Any]
    ) -> tuple[ctypes.CDLL, Callable[..., int]]:
        """The library and the function that is timed."""
        if manifest["library"] is None:
            raise RuntimeError("qcomp wrote no shared library: it found no linker")
        library = ctypes.CDLL(str(folder / manifest["library"]))
        return library, library[manifest["run"]]

    def inputs(self, manifest: dict[str, Any], x: Sequence[Array]) -> list[Array]:
        return [quantized(a, t) for a, t in zip(x, manifest["inputs"], strict=True)]

    def outputs(self, manifest: dict[str, Any]) -> list[Array]:
        return [np.empty(t["shape"], t["dtype"]) for t in manifest["outputs"]]

    def memory(self, manifest: dict[str, Any]) -> list[Array]:
        """The arena, aligned."""
        size, align = manifest["arena_bytes"], manifest["arena_align"]
        raw = np.empty(size + align, np.uint8)
        start = -raw.ctypes.data % align
        return [raw[start : start + size]]

    def floats(self, manifest: dict[str, Any], outputs: Sequence[Array]) -> list[Array]:
        return [dequantized(a, t) for a, t in zip(outputs, manifest["outputs"], strict=True)]


@peer
class QcompInt8FloatIo(QcompInt8):
    """Floats in, floats out: a C function around the library converts inside the timed run."""

    name = "qcomp_int8_float_io"

    def build(self, m: Any, calib: Sequence[Sequence[Array]], cfg: Any, out: Path) -> str:
        folder = Path(super().build(m, calib, cfg, out))
        manifest = json.loads((folder / f"{NAME}.manifest.json").read_text(encoding="utf-8"))
        source = folder / "float_io.c"
        source.write_text(float_io(NAME, manifest), encoding="utf-8")
        options = ["-std=c99", "-O3", f"-march={LEVELS[cfg.isa].march}", "-shared", "-fPIC"]
        files = [source, folder / manifest["static_library"], "-o", folder / "float_io.so"]
        checked([os.environ.get("CC", "cc"), *options, *files])
        return str(folder)

    def entry(
        self, folder: Path, manifest: dict[str, Any]
    ) -> tuple[ctypes.CDLL, Callable[..., int]]:
        library = ctypes.CDLL(str(folder / "float_io.so"))
        return library, library.float_io

    def inputs(self, manifest: dict[str, Any], x: Sequence[Array]) -> list[Array]:
        return [np.ascontiguousarray(a, np.float32) for a in x]

    def outputs(self, manifest: dict[str, Any]) -> list[Array]:
        return [np.empty(t["shape"], np.float32) for t in manifest["outputs"]]

    def memory(self, manifest: dict[str, Any]) -> list[Array]:
        return []

    def floats(self, manifest: dict[str, Any], outputs: Sequence[Array]) -> list[Array]:
        return list(outputs)


def run_on(library: ctypes.CDLL, folder: Path, threads: int) -> None:
    """Make the library run on `threads` threads, by the pool that was saved with it."""
    if threads == 1:
        library[f"{NAME}_set_parallel_for"](None, None)
        return
    options = ["-std=c11", "-O2", "-shared", "-fPIC", "-pthread"]
    files = [folder / "qcomp_pool.c", "-o", folder / "qcomp_pool.so"]
    checked([os.environ.get("CC", "cc"), *options, *files])
    pool = ctypes.CDLL(str(folder / "qcomp_pool.so"))
    pool.qcomp_pool_create.restype = ctypes.c_void_p
    threads_of_pool = ctypes.c_void_p(pool.qcomp_pool_create(threads))
    if not threads_of_pool:
        raise RuntimeError(f"the system refuses {threads} threads")
    library[f"{NAME}_set_parallel_for"](pool.qcomp_pool_run, threads_of_pool)


def input_names(model: str) -> list[str]:
    """The names of an ONNX model's inputs that are no weights."""
    graph = onnx.load(model, load_external_data=False).graph
    weights = {w.name for w in graph.initializer}
    return [i.name for i in graph.input if i.name not in weights]


def quantized(x: Array, tensor: dict[str, Any]) -> Array:
    """As the generated header does: divide by the scale, round half to even, saturate."""
    steps = np.rint(x.astype(np.float32) / np.float32(tensor["scale"])) + tensor["zero_point"]
    limits = np.iinfo(tensor["dtype"])
    return np.ascontiguousarray(np.clip(steps, limits.min, limits.max), tensor["dtype"])


def dequantized(q: Array, tensor: dict[str, Any]) -> Array:
    steps = (q.astype(np.int32) - tensor["zero_point"]).astype(np.float32)
    real: Array = steps * np.float32(tensor["scale"])
    return real


def checked(command: Sequence[str | Path]) -> None:
    """Run it; RuntimeError with the last line of what it said."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise RuntimeError(f"{Path(command[0]).name}: {said[-1]}")
