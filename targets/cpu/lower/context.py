"""What lowering functions work with: the graph, where tensors live, and a way to call kernels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op, QMatMul, QReduceSum
from qcomp.ir.tensor import DType, TensorId
from qcomp.ir.text import format_op
from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.border import border_spec, emit_border
from qcomp.targets.cpu.emit.builder import Value, biased, splat
from qcomp.targets.cpu.emit.nest import Body, Nest, emit_nest, nest_units, simplified
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.lower.ceiling import Ceiling
from qcomp.targets.cpu.lower.lookup import Lookup
from qcomp.targets.cpu.lower.residual import Residual
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.memory import Layout, dense_layout
from qcomp.targets.cpu.program import (
    Address,
    Arena,
    Call,
    ConstantData,
    EmitKernel,
    Kernels,
    Reach,
    moved,
)
from qcomp.targets.cpu.storage import Storage


@dataclass(frozen=True)
class Place:
    """Where a tensor is: the start of its buffer (or argument, or data) and its layout in it."""

    base: Address
    layout: Layout

    @property
    def start(self) -> Address:
        """The address of element 0."""
        return moved(self.base, self.layout.offset)


@dataclass(frozen=True)
class Prepared:
    """A body that loads constants first: make(builder, pointers to `arguments`) -> body."""

    arguments: tuple[Address, ...]
    make: Callable[[ir.IRBuilder, Sequence[Value]], Body]


@dataclass
class Lowering:
    """The state of one lowering. Lowering functions append calls and name kernels, nothing else."""

    graph: Graph
    isa: Isa
    kernels: Kernels
    places: dict[TensorId, Place]
    ceilings: Mapping[TensorId, Ceiling] = field(default_factory=dict)
    residuals: Mapping[TensorId, Residual] = field(default_factory=dict)
    lookups: Mapping[TensorId, Lookup] = field(default_factory=dict)
    data: ConstantData = field(default_factory=ConstantData)
    calls: list[Call] = field(default_factory=list)
    temporaries: dict[str, tuple[int, int]] = field(default_factory=dict)
    current: TensorId = ""
    step: int = 0

    @property
    def stores_biased(self) -> bool:
        """Whether i8 in the arena is value + BIAS, which kernels may work on."""
        return self.isa.machine.storage is Storage.BIASED

    def place(self, tensor: TensorId) -> Place:
        """Where an operand or result is; a constant is put into the data on first use."""
        if tensor not in self.places:
            array = self.graph.data(tensor)
            self.places[tensor] = Place(
                self.data.add(array), dense_layout(array.shape, array.dtype.itemsize)
            )
        return self.places[tensor]

    def constant(self, array: NDArray[Any]) -> Address:
        return self.data.add(array)

    def temporary(self, size: int, *, unsigned: bool = False) -> Arena:
        """Arena bytes that live during the current op only."""
        name = f"temporary {len(self.temporaries)}"
        self.temporaries[name] = (size, self.step)
        return Arena(name, 0, unsigned)

    def call(
        self, kind: str, key: Hashable, arguments: Sequence[Address], emit: EmitKernel
    ) -> None:
        """Call the kernel for `key`, emitting it on first use: emit(builder, pointers)."""
        name = self.kernels.get(kind, key, [a.unsigned for a in arguments], emit)
        self.calls.append(Call(self.current, name, tuple(arguments)))

    def ranged(
        self,
        kind: str,
        key: Hashable,
        arguments: Sequence[Address],
        emit: EmitKernel,
        units: int,
        reach: Reach | None = None,
    ) -> None:
        """`call` of a kernel that threads may share: emit(builder, pointers, begin, end)."""
        unsigned = [a.unsigned for a in arguments]
        name = self.kernels.get(kind, key, unsigned, emit, ranged=True)
        self.calls.append(Call(self.current, name, tuple(arguments), units, reach=reach))

    def nest(
        self,
        kind: str,
        nest: Nest,
        addresses: Sequence[Address],
        types: Sequence[ir.Type],
        body: Body | Prepared,
        key: Hashable = (),
        *,
        tables: Sequence[Address] = (),
        width: int | None = None,
        stored: bool = False,
    ) -> None:
        """Call a loop nest; `key` holds all that `body` depends on besides the nest.

        A body of `stored` works on i8 as value + BIAS, whatever the operands are stored as.
        """
        nest = simplified(nest)
        width = width or 2 * self.isa.lanes
        n, t = len(addresses), len(addresses) + len(tables)
        extra = body.arguments if isinstance(body, Prepared) else ()

        def emit(b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
            operands, span = pointers[:n], Span(begin, end)
            if stored:
                operands = [biased(p) for p in operands]
            ready = body.make(b, pointers[t:]) if isinstance(body, Prepared) else body
            emit_nest(b, nest, operands, types, ready, width, span, pointers[n:t])

        arguments = (*addresses, *tables, *extra)
        self.ranged(kind, (nest, key, width, stored), arguments, emit, nest_units(nest, width))

    def fill(self, place: Place, value: int, extents: Sequence[int], offset: int) -> None:
        """Store a value in a box of a buffer that starts `offset` bytes from the buffer's base."""
        element = place.layout.element
        type = ir.IntType(8 * element)
        nest = Nest(tuple(extents), (place.layout.strides,), (element,))
        body = lambda b, _, lanes: splat(type, lanes, value)  # noqa: E731
        target = [moved(place.base, offset)]
        width = 4 * self.isa.lanes // element
        self.nest("fill", nest, target, [type], body, (value, element), width=width)

    def fill_border(self, place: Place, value: int) -> None:
        """The halo of an NHWC tensor."""
        spec, width = border_spec(place.layout, value), self.isa.vector_bits // 8

        def emit(b: ir.IRBuilder, pointers: Sequence[Value]) -> None:
            emit_border(b, spec, width, *pointers)

        self.call("border", spec, [place.base], emit)


LowerOp = Callable[[Lowering, Any], None]


def element_types(graph: Graph, *tensors: TensorId) -> list[ir.IntType]:
    """What kernels load and store."""
    return [ir.IntType(8 * graph.type(t).dtype.bytes) for t in tensors]


def expect_activation(lowering: Lowering, op: Op) -> ir.IntType:
    """The elements of an op that is typed for any, but has a kernel for i8 and i16 only."""
    type = lowering.graph.type(op.inputs[0])
    if type.dtype not in (DType.I8, DType.I16):
        raise TargetError(
            f"{format_op(lowering.graph, op)}\n  {op.mnemonic} of {type}; "
            "expected i8 or i16 elements"
        )
    return ir.IntType(8 * type.dtype.bytes)


def expect_i32_sums(lowering: Lowering, op: QMatMul | QReduceSum, largest: int) -> None:
    """`largest` bounds the sums' magnitude; NARROW adds its rounding to them."""
    if op.requantize.form is Form.NARROW:
        largest += (1 << op.shift) >> 1
    if largest >= 2**31:
        raise TargetError(
            f"{format_op(lowering.graph, op)}\n  sums may reach {largest}; expected below 2^31"
        )


def broadcast_strides(layout: Layout, shape: Sequence[int]) -> tuple[int, ...]:
    """Strides that read `layout` as if it had `shape` (numpy broadcasting)."""
    missing = len(shape) - len(layout.shape)
    own = [0 if e == 1 else s for e, s in zip(layout.shape, layout.strides, strict=True)]
    return (*([0] * missing), *own)


def offsets(indices: NDArray[np.int64], stride: int) -> NDArray[np.int32]:
    """An index table of a nest: byte offsets."""
    return (indices * stride).astype(np.int32)
