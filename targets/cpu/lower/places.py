"""Where each tensor lies: in a buffer of its own, in the caller's memory, or in another's buffer.

A view costs nothing: reshapes and slices of a buffer, and the operands of a concatenation, which
their producers write straight into its result. Kernels take strides, so they do not notice. The
border of a buffer serves all views of whole pixels in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Concat, Op, QDense, Reshape, Slice, ZeroStuff
from qcomp.ir.tensor import DType, TensorId
from qcomp.targets.cpu.lower.context import Place
from qcomp.targets.cpu.lower.windows import border, is_stored, window_readers
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.memory import Halo, bordered_layout, dense_layout
from qcomp.targets.cpu.program import Arena, Argument
from qcomp.targets.cpu.storage import Storage

_CHANNELS = 3  # axis of NHWC


@dataclass(frozen=True)
class Border:
    """The halo of a buffer, and what fills it before anything is written inside."""

    place: Place
    value: int


@dataclass(frozen=True)
class _Part:
    """A tensor's part of a concatenation's result."""

    whole: TensorId
    axis: int
    first: int


def plan_places(
    graph: Graph, ops: Sequence[Op], isa: Isa
) -> tuple[dict[TensorId, Place], dict[str, Border]]:
    """The place of every activation, and the borders by the name of their buffer."""
    planner = _Planner(graph, isa, *_parts(graph, ops))
    places = {t: planner.place(t) for t in (*graph.inputs.values(), *(op.output for op in ops))}
    return places, planner.borders


def _parts(
    graph: Graph, ops: Sequence[Op]
) -> tuple[Mapping[TensorId, _Part], Mapping[TensorId, Halo]]:
    """The operands that are written into their concatenation, and the halo of every tensor."""
    halos = {t: _halo(graph, t) for t in (*graph.inputs.values(), *(op.output for op in ops))}
    parts: dict[TensorId, _Part] = {}
    for op in ops:
        if not isinstance(op, Concat) or _is_direct(graph, op.output):
            continue
        first = 0
        for t in op.inputs:
            if t not in parts and _may_be_part(graph, op, t, halos):
                parts[t] = _Part(op.output, op.axis, first)
                halos[op.output] = halos[op.output].union(halos[t])
            first += graph.type(t).shape[op.axis]
    return parts, halos


def _may_be_part(graph: Graph, op: Concat, t: TensorId, halos: Mapping[TensorId, Halo]) -> bool:
    """Only neighbours in channels can share a border; a reshape wants its operand contiguous."""
    producer = graph.producer(t)
    return (
        producer is not None
        and not isinstance(producer, Reshape | Slice)
        and not any(isinstance(reader, Reshape) for reader in graph.consumers(t))
        and op.inputs.count(t) == 1
        and graph.tensor(t).qparams == graph.tensor(op.output).qparams
        and (halos[t].is_none or op.axis == _CHANNELS)
    )


def _halo(graph: Graph, tensor: TensorId) -> Halo:
    """The border that the convolutions reading the tensor want."""
    halo = Halo()
    for op in window_readers(graph, tensor):
        halo = halo.union(border(graph, op))
    return halo


def _is_direct(graph: Graph, tensor: TensorId) -> bool:
    """Written straight to the caller's memory."""
    return list(graph.outputs.values()).count(tensor) == 1 and not graph.consumers(tensor)


class _Planner:
    """Finds places: those of wholes and of sources before those of their views."""

    def __init__(
        self,
        graph: Graph,
        isa: Isa,
        parts: Mapping[TensorId, _Part],
        halos: Mapping[TensorId, Halo],
    ) -> None:
        self._graph, self._isa, self._parts, self._halos = graph, isa, parts, halos
        self._places: dict[TensorId, Place] = {}
        self.borders: dict[str, Border] = {}

    def place(self, t: TensorId) -> Place:
        if t not in self._places:
            self._places[t] = self._view(t) or self._callers(t) or self._own(t)
        return self._places[t]

    def _view(self, t: TensorId) -> Place | None:
        if t in self._parts:
            part = self._parts[t]
            whole = self.place(part.whole)
            starts = [part.first if i == part.axis else 0 for i in range(self._graph.type(t).rank)]
            return _box(whole, starts, self._graph.type(t).shape)
        if _is_direct(self._graph, t) or not self._halos[t].is_none:
            return None
        op = self._graph.producer(t)
        if isinstance(op, ZeroStuff) and not is_stored(self._graph, op):
            return self.place(op.x)
        if not isinstance(op, Reshape | Slice) or self._graph.is_constant(op.x):
            return None
        source = self.place(op.x)
        if not isinstance(source.base, Arena):
            return None
        if isinstance(op, Reshape):
            return _reshaped(source, self._graph.type(t).shape)
        return self._sliced(op, source)

    def _sliced(self, op: Slice, source: Place) -> Place | None:
        """Where all neighbours are taken, and no reshape wants the result contiguous.

        With gaps only for concatenations: those copy it in any case.
        """
        readers = self._graph.consumers(op.output)
        if any(isinstance(r, Reshape) for r in readers):
            return None
        if any(s != 1 for s in op.steps) and not all(isinstance(r, Concat) for r in readers):
            return None
        return _box(source, op.starts, op.sizes, op.steps)

    def _callers(self, t: TensorId) -> Place | None:
        graph = self._graph
        layout = dense_layout(graph.type(t).shape, graph.type(t).dtype.bytes)
        if _is_direct(graph, t) and graph.producer(t) is not None:
            return Place(Argument(list(graph.outputs.values()).index(t), is_output=True), layout)
        inputs = list(graph.inputs.values())
        reads_slack = any(window_readers(graph, t)) or any(
            isinstance(op, QDense) for op in graph.consumers(t)
        )
        if t in inputs and not reads_slack:  # of kernels that read past the end of their source
            return Place(Argument(inputs.index(t), is_output=False), layout)
        return None

    def _own(self, t: TensorId) -> Place:
        type, halo = self._graph.type(t), self._halos[t]
        base = Arena(t, 0, self._isa.machine.storage is Storage.BIASED and type.dtype is DType.I8)
        if halo.is_none:
            return Place(base, dense_layout(type.shape, type.dtype.bytes))
        place = Place(base, bordered_layout(type.shape, halo, type.dtype.bytes))
        qparams = self._graph.tensor(t).qparams
        assert qparams is not None  # convolutions read integers
        self.borders[t] = Border(place, qparams.zero_point)
        return place


def _box(
    whole: Place, starts: Sequence[int], shape: tuple[int, ...], steps: Sequence[int] = ()
) -> Place:
    """A part of a tensor, in its buffer; all neighbours without `steps`."""
    layout = whole.layout
    offset = layout.offset + sum(a * s for a, s in zip(starts, layout.strides, strict=True))
    strides = tuple(a * s for a, s in zip(steps or [1] * len(shape), layout.strides, strict=True))
    return Place(whole.base, replace(layout, shape=shape, strides=strides, offset=offset))


def _reshaped(source: Place, shape: tuple[int, ...]) -> Place | None:
    layout = source.layout
    if not layout.is_contiguous:
        return None
    strides = dense_layout(shape, layout.element).strides
    return Place(source.base, replace(layout, shape=shape, strides=strides))
