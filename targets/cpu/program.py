"""A lowered model: kernels, the calls of one run in order, constant data and the memory plan."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import PTR, Unsigned, Value
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.memory import SLACK
from qcomp.targets.memory import ALIGN, MemoryPlan


@dataclass(frozen=True)
class Arena:
    """A byte of a buffer in the arena; `unsigned` where the buffer holds i8 as value + BIAS."""

    buffer: str
    offset: int
    unsigned: bool = False


@dataclass(frozen=True)
class Data:
    """A byte of the constant data; `unsigned` as in Arena."""

    offset: int
    unsigned: bool = False


@dataclass(frozen=True)
class Argument:
    """A byte of the caller's input or output number `index`."""

    index: int
    is_output: bool
    offset: int = 0
    unsigned: bool = False


Address = Arena | Data | Argument


def moved(address: Address, offset: int) -> Address:
    """`offset` bytes further."""
    return replace(address, offset=address.offset + offset) if offset else address


def as_stored(addresses: Sequence[Address]) -> Sequence[Address]:
    """For movements, which need no value: where all operands store i8 alike, their bytes."""
    if len({a.unsigned for a in addresses}) > 1:
        return addresses
    return [replace(a, unsigned=False) for a in addresses]


@dataclass(frozen=True, eq=False)
class Extent:
    """The bytes that each unit touches, [begin, end), counted from a pointer."""

    begin: NDArray[np.int64]
    end: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Reach:
    """Which bytes units read behind the first pointer, and which they write behind the second."""

    src: Extent
    dst: Extent


@dataclass(frozen=True)
class Tap:
    """A tensor that is told of: its number, and where its values are, dense."""

    tensor: TensorId
    number: int
    values: Address
    bytes: int


@dataclass(frozen=True)
class Call:
    """One kernel call; `op` is the id of the op it belongs to.

    A kernel of several units takes a range of them; ranges may run in any order, on any threads.
    """

    op: str
    kernel: str
    arguments: tuple[Address, ...]
    units: int = 0  # 0: the kernel has no range
    first: int = 0  # unit
    band: int | None = None  # neighbouring calls of different bands may run at the same time
    reach: Reach | None = field(default=None, compare=False)  # where known
    tap: Tap | None = None  # is told of behind the call


@dataclass(frozen=True)
class IndexCheck:
    """The integers that an input may have, in all of it or at addresses, each by itself."""

    index: int  # of the input
    count: int
    element_bytes: int
    low: int | Address
    high: int | Address


@dataclass
class ConstantData:
    """The read-only bytes of the library, 64-byte aligned, equal arrays stored once.

    With `beginnings`, also what another array begins with, if that is stored before.
    """

    beginnings: bool = False
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    _known: dict[bytes, Data] = field(default_factory=dict)

    def add(self, array: NDArray[Any]) -> Data:
        raw = np.ascontiguousarray(array).tobytes()
        if raw in self._known:
            return self._known[raw]
        if self.beginnings:
            for known, address in self._known.items():
                if known.startswith(raw):
                    return address
        address = Data(self.size)
        self._known[raw] = address
        padding = -len(raw) % ALIGN
        self.parts += [raw, bytes(padding)]
        self.size += len(raw) + padding
        return address

    def bytes(self) -> bytes:
        """All of it, and slack for vector loads that run past the last array."""
        return b"".join([*self.parts, bytes(SLACK)])


EmitKernel = Callable[..., None]


@dataclass
class Kernels:
    """The functions of a module for one instruction set, one per shape class."""

    module: ir.Module
    prefix: str
    attributes: tuple[str, ...] = ()
    _known: dict[Hashable, str] = field(default_factory=dict)

    def get(
        self,
        kind: str,
        key: Hashable,
        unsigned: Sequence[bool],
        emit: EmitKernel,
        *,
        ranged: bool = False,
    ) -> str:
        """The name of the kernel for `key`, emitted on first use: emit(builder, pointers).

        `unsigned` tells which pointers are to i8 stored as value + BIAS. A ranged kernel does the
        units [begin, end) of its work: emit(builder, pointers, begin, end), both words.
        """
        full_key = (kind, key, tuple(unsigned), ranged)
        if full_key not in self._known:
            name = f"{self.prefix}_{kind}_{len(self._known)}"
            self._known[full_key] = name
            b, arguments = self._begin(name, len(unsigned), ranged)
            pointers = tuple(
                Unsigned(p) if flag else p
                for p, flag in zip(arguments[-len(unsigned) :], unsigned, strict=True)
            )
            emit(b, pointers, *(arguments[:2] if ranged else ()))
        return self._known[full_key]

    def _begin(self, name: str, arity: int, ranged: bool) -> tuple[ir.IRBuilder, Sequence[Value]]:
        type = ir.FunctionType(
            ir.VoidType(), [self.module.word] * (2 if ranged else 0) + [PTR] * arity
        )
        function = ir.Function(self.module, type, name)
        function.linkage = "internal"
        function.attributes |= {"nounwind", *self.attributes}
        for argument in function.args[-arity:]:
            argument.add_attribute("noalias")
        return ir.IRBuilder(function.append_basic_block("entry")), function.args


@dataclass(frozen=True)
class Program:
    """What is left to do is to emit the entry point."""

    graph: Graph
    isa: Isa
    prefix: str  # of the kernels' names
    module: ir.Module
    calls: tuple[Call, ...]
    data: ConstantData
    memory: MemoryPlan
    results: Mapping[TensorId, TensorId]  # what the kernels of an op write, if not its own result
    buffers: Mapping[TensorId, tuple[str, ...]]  # of the arena, that hold an activation
    checks: tuple[IndexCheck, ...]  # before the first call
    live_bytes: int  # largest sum of simultaneously live tensors, without borders and slack

    @property
    def tapped(self) -> tuple[TensorId, ...]:
        """The tensors that it tells of, in order; none where it has no taps."""
        return tuple(call.tap.tensor for call in self.calls if call.tap is not None)
