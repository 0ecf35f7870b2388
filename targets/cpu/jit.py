"""Calling generated code in this process: from objects in memory, or from a shared library."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import binding as llvm
from numpy.typing import NDArray

from qcomp.errors import TargetError
from qcomp.targets.cpu.memory import ALIGN
from qcomp.targets.cpu.threads import sharing


class EntryPoint:
    """NAME_run as a Python callable on arrays; `keep` holds what owns the code.

    `sharing` says how many threads its runs use: one, unless they are inside of `sharing.among`.
    """

    def __init__(self, run: int, set_parallel_for: int, arguments: int, keep: object) -> None:
        self.address = run
        self.sharing = sharing(set_parallel_for)
        self._run = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * arguments)(run)
        self._keep = keep

    def __call__(
        self,
        inputs: Sequence[NDArray[Any]],
        outputs: Sequence[NDArray[Any]],
        arena: NDArray[np.uint8],
    ) -> None:
        """Arrays must be contiguous, of the model's shapes and types; the arena 64-byte aligned."""
        status = self._run(*(a.ctypes.data for a in (*inputs, *outputs, arena)))
        if status != 0:
            raise TargetError(f"the generated code returned status {status}")

    def bound(self, arrays: Sequence[NDArray[Any]]) -> Any:
        """A call without arguments for timing; the arrays must outlive it."""
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in arrays]
        return lambda run=self._run, p=pointers: run(*p)


def load_objects(objects: Iterable[bytes], name: str, arguments: int) -> EntryPoint:
    """Link objects for this machine into the process."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    lljit = llvm.create_lljit_compiler()
    builder = llvm.JITLibraryBuilder()
    symbols = [f"{name}_run", f"{name}_set_parallel_for"]
    for symbol in symbols:
        builder.export_symbol(symbol)
    for content in objects:
        builder.add_object_img(content)
    library = builder.link(lljit, name)
    run, set_parallel_for = (library[symbol] for symbol in symbols)
    return EntryPoint(run, set_parallel_for, arguments, (lljit, library))


def load_library(path: Path, name: str, arguments: int) -> EntryPoint:
    """Open a shared library; TargetError where it is not one for this machine.

    dlopen takes a library of the same path for the same library, even if the file was replaced
    after the first was opened, so it gets a path that never was before.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="qcomp-") as unique:
            link = Path(unique) / path.name
            link.symlink_to(path.absolute())
            library = ctypes.CDLL(str(link))
        functions = [library[f"{name}_run"], library[f"{name}_set_parallel_for"]]
    except (OSError, AttributeError) as error:
        raise TargetError(f"{path} can't be loaded on this machine: {error}") from error
    run, set_parallel_for = (ctypes.cast(f, ctypes.c_void_p).value for f in functions)
    assert run is not None
    assert set_parallel_for is not None
    return EntryPoint(run, set_parallel_for, arguments, library)


def aligned_arena(size: int) -> NDArray[np.uint8]:
    """Uninitialised memory for an arena."""
    raw = np.empty(size + ALIGN, np.uint8)
    start = -raw.ctypes.data % ALIGN
    return raw[start : start + size]
