"""Calling generated code in this process: from objects in memory, or from a shared library."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import binding as llvm
from numpy.typing import NDArray

from qcomp.errors import TargetError
from qcomp.targets.base import Artifact, Rounded, Told, aligned
from qcomp.targets.cpu.library.dispatch import (
    STATUS_BAD_ARENA,
    STATUS_BAD_CPU,
    STATUS_BAD_INPUT,
    STATUS_OK,
)
from qcomp.targets.cpu.library.objects import defined_symbols
from qcomp.targets.cpu.library.taps import RUN_TAPPED
from qcomp.targets.cpu.process.floats import FloatCall
from qcomp.targets.cpu.process.repeat import repeated
from qcomp.targets.cpu.process.threads import sharing
from qcomp.targets.identity import check_loaded
from qcomp.targets.memory import ALIGN

_RUN, _SET_PARALLEL_FOR, _SET_ISA = "_run", "_set_parallel_for", "_set_isa"
_SIZES, _TAPPED = "_sizes", f"_{RUN_TAPPED}"
_FUNCTIONS = (_RUN, _SET_PARALLEL_FOR, _SET_ISA, _SIZES, _TAPPED)
_OPTIONAL = (_SET_ISA, _TAPPED)
_STATUSES = {
    STATUS_BAD_ARENA: "QCOMP_BAD_ARENA: the arena is null or misaligned",
    STATUS_BAD_CPU: "QCOMP_BAD_CPU: the processor lacks the instruction set",
    STATUS_BAD_INPUT: "QCOMP_BAD_INPUT: an index is no row of its table, or a length none",
}

_TAP = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)


class EntryPoint:
    """NAME_run as a Python callable on arrays; `keep` holds what owns the code.

    `sharing` says how many threads its runs use: one, unless they are inside of `sharing.among`.
    """

    def __init__(self, functions: Mapping[str, int], arguments: int, keep: object) -> None:
        """`functions` are the addresses of NAME_run and the other functions, without NAME."""
        self.address = functions[_RUN]
        self.sharing = sharing(functions[_SET_PARALLEL_FOR])
        self._run = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * arguments)(self.address)
        set_isa = functions.get(_SET_ISA)
        self._set_isa = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(set_isa) if set_isa else None
        self._keep = keep
        self._sizes = functions.get(_SIZES)
        self._tapped = functions.get(_TAPPED)
        self._floats: FloatCall | None = None

    def expect(self, artifact: Artifact) -> None:
        """TargetError where the code is of another build than the artifact."""
        function = ctypes.CFUNCTYPE(ctypes.c_void_p)(self._sizes or 0)
        check_loaded(function(), artifact)

    def set_isa(self, number: int) -> bool:
        """Whether later runs use instruction set `number` of the library; 0 is the best here."""
        if self._set_isa is None:
            return number <= 1
        status: int = self._set_isa(number)
        return status == STATUS_OK

    def __call__(
        self,
        inputs: Sequence[NDArray[Any]],
        outputs: Sequence[NDArray[Any]],
        arena: NDArray[np.uint8],
    ) -> None:
        """Arrays must be contiguous, of the model's shapes and types; the arena 64-byte aligned."""
        self.bound(inputs, outputs, arena)()

    def bound(
        self,
        inputs: Sequence[NDArray[Any]],
        outputs: Sequence[NDArray[Any]],
        arena: NDArray[np.uint8],
    ) -> Callable[[], None]:
        """The same on these arrays, as often as it is called."""
        arrays, run = (*inputs, *outputs, arena), self._run
        addresses = [a.ctypes.data for a in arrays]

        def call(_owners: object = (self, arrays)) -> None:
            status = run(*addresses)
            if status != STATUS_OK:
                raise TargetError(f"the generated code returned {_STATUSES.get(status, status)}")

        return call

    def run_tapped(
        self,
        inputs: Sequence[NDArray[Any]],
        outputs: Sequence[NDArray[Any]],
        arena: NDArray[np.uint8],
        tap: Told,
    ) -> None:
        """A run that tells of tensors; TargetError where the library has no taps."""
        if self._tapped is None:
            raise TargetError("the library has no taps; compile it with them")

        def told(_user: None, number: int, data: int, size: int) -> None:
            tap(number, ctypes.string_at(data, size))

        arrays = (*inputs, *outputs, arena)
        pointers = [ctypes.c_void_p] * len(arrays)
        run = ctypes.CFUNCTYPE(ctypes.c_int, *pointers, _TAP, ctypes.c_void_p)(self._tapped)
        status = run(*(a.ctypes.data for a in arrays), _TAP(told), None)
        if status != STATUS_OK:
            raise TargetError(f"the generated code returned {_STATUSES.get(status, status)}")

    def between_floats(
        self, inputs: Sequence[Rounded], outputs: Sequence[Rounded], arena: NDArray[np.uint8]
    ) -> Callable[[], None]:
        """The same from real numbers to real numbers."""
        if self._floats is None:
            self._floats = FloatCall(inputs, outputs)
        run = self._floats.bound(self.address, inputs, outputs, arena)

        def call(_owners: object = (self, inputs, outputs, arena)) -> None:
            if (status := run()) != STATUS_OK:
                raise TargetError(f"the generated code returned {_STATUSES.get(status, status)}")

        return call

    def repeated(self, arrays: Sequence[NDArray[Any]]) -> Callable[[int], None]:
        """A function of a count that runs that often on inputs, outputs and the arena."""
        return repeated(self.address, arrays, owner=self)


def load_objects(
    objects: Iterable[bytes], name: str, arguments: int, run: str = _RUN
) -> EntryPoint:
    """Link objects for this machine into the process; `run` is the function behind the name."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    lljit = llvm.create_lljit_compiler()
    builder = llvm.JITLibraryBuilder()
    contents = list(objects)
    defined = {symbol for content in contents for symbol in defined_symbols(content)}
    functions = {f: f"{name}{f}" for f in _FUNCTIONS if f"{name}{f}" in defined}
    functions[_RUN] = f"{name}{run}"
    for symbol in functions.values():
        builder.export_symbol(symbol)
    for content in contents:
        builder.add_object_img(content)
    library = builder.link(lljit, "qcomp.network")  # apart from LLJIT's own, such as "main"
    addresses = {function: library[symbol] for function, symbol in functions.items()}
    return EntryPoint(addresses, arguments, (lljit, library))


def load_library(path: Path, name: str, arguments: int, run: str = _RUN) -> EntryPoint:
    """Open a shared library; TargetError where it is not one for this machine. `run` is the
    function behind the name.

    dlopen takes a library of the same path for the same library, even if the file was replaced
    after the first was opened, so it gets a path that never was before.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="qcomp-") as unique:
            link = Path(unique) / path.name
            link.symlink_to(path.absolute())
            library = ctypes.CDLL(str(link))
        wanted = [f for f in _FUNCTIONS if f not in _OPTIONAL or hasattr(library, f"{name}{f}")]
        symbols = {f: f"{name}{run if f == _RUN else f}" for f in wanted}
        functions = {f: ctypes.cast(library[s], ctypes.c_void_p) for f, s in symbols.items()}
    except (OSError, AttributeError) as error:
        raise TargetError(f"{path} can't be loaded on this machine: {error}") from error
    addresses = {f: pointer.value or 0 for f, pointer in functions.items()}
    return EntryPoint(addresses, arguments, library)


def aligned_arena(size: int) -> NDArray[np.uint8]:
    """Uninitialised memory for an arena."""
    return aligned(size, ALIGN)
