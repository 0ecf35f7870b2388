"""Split a layer whose results are only read in parts, where the parts have ranges far apart.

    y = conv(x, W) + b;  p = y[..., :4];  q = y[..., 4:]
becomes
    p = conv(x, W[:4]) + b[:4];  q = conv(x, W[4:]) + b[4:]

with a scale for each, and nothing is left to copy. Readers are slices, or gathers of neighbouring
channels; those that overlap are read from one part. Functions of one value between the layer and
the slices are moved behind these. A layer of groups is split between groups, each part reading a
slice of x, so that the layer before it may be split as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Clamp, Conv2d, Gather, Op, Slice, Unary, Weighted
from qcomp.ir.tensor import Mark, NormalStatistics, TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.quantization_noise import MomentsOf
from qcomp.quant.moments import Moments

APART = 2.0
"""Parts are worth layers of their own where one's range is so many times another's: one bit."""


@dataclass(frozen=True, order=True)
class Channels:
    """Neighbouring channels [start, stop) of the last axis."""

    start: int
    stop: int

    @property
    def count(self) -> int:
        return self.stop - self.start

    def __contains__(self, channel: int) -> bool:
        return self.start <= channel < self.stop


@dataclass(frozen=True)
class SplitSlicedLayers:
    """`moments` are asked only where a layer is read in parts."""

    name: ClassVar[str] = "split-sliced-layers"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    moments: MomentsOf

    def run(self, graph: Graph, log: PassLog) -> None:
        splitting = _Splitting(graph, self.moments, log)
        for op in reversed(graph.ops()):
            if isinstance(op, Weighted | Unary | Clamp) and not graph.is_kept(op):
                splitting.visit(op)


class _Splitting:
    def __init__(self, graph: Graph, moments: MomentsOf, log: PassLog) -> None:
        self._graph, self._moments, self._log = graph, moments, log

    @cached_property
    def _ranges(self) -> dict[TensorId, Moments]:
        """Of the graph before it was changed."""
        return dict(self._moments(self._graph.clone()))

    def visit(self, op: Op) -> None:
        """Split the op, if all of its readers take parts of its channels."""
        layer, parts = _layer_above(self._graph, op), _parts(self._graph, op.output)
        if layer is None or len(parts) < 2:
            return
        ratio = max(self._ratio(t, parts) for t in _between(self._graph, layer, op))
        if ratio < APART:
            self._log.skipped(op.id, f"its parts have ranges within {ratio:.2g} times each other")
        elif not all(_between_groups(self._graph, layer, part) for part in parts):
            self._log.skipped(op.id, "its parts do not end between groups")
        else:
            for part in parts:
                self._make(op, part)
            self._graph.erase(op.output)
            names = ", ".join(f"{p.start} to {p.stop - 1}" for p in parts)
            self._log.did(f"{op.id}: channels {names}, {ratio:.3g} times apart", op=op.id)

    def _ratio(self, id: TensorId, parts: Sequence[Channels]) -> float:
        """How often the smallest range of a part goes into the largest; dead parts don't count."""
        if id not in self._ranges:
            return 1.0
        channels = self._graph.type(id).shape[-1]
        reach = np.broadcast_to(self._ranges[id].reach, channels)
        widths = [w for p in parts if (w := float(reach[p.start : p.stop].max())) > 0]
        return max(widths) / min(widths) if widths else 1.0

    def _make(self, op: Op, part: Channels) -> None:
        """The op for these channels alone, which its readers of these read instead."""
        readers = [r for r in _readers(self._graph, op.output) if r[1].start in part]
        whole = [r for r, channels in readers if _is_exactly(self._graph, r, channels, part)]
        id = whole[0].output if whole else self._graph.fresh_id(f"{op.id}.{part.start}")
        new = _part_of(self._graph, op, part, id)
        normal = _normal_of(self._graph.tensor(op.output).normal, part)
        if whole:
            self._graph.replace_op(new, normal=normal)
        else:
            self._graph.add_op(new, self._graph.tensor(op.output).marked(Mark.CUT))
            self._graph.update_tensor(replace(self._graph.tensor(id), normal=normal))
        for reader, channels in readers:
            if reader in whole[1:]:
                self._graph.replace_uses(reader.output, id)
                self._graph.erase(reader.output)
            elif reader not in whole:
                shifted = Channels(channels.start - part.start, channels.stop - part.start)
                self._graph.replace_op(_slice(self._graph, reader, id, shifted))


def _readers(graph: Graph, id: TensorId) -> list[tuple[Op, Channels]]:
    """The readers of a tensor that take neighbouring channels, with these."""
    found = [(op, _channels_read(graph, op)) for op in graph.consumers(id)]
    return [(op, channels) for op, channels in found if channels is not None]


def _channels_read(graph: Graph, op: Op) -> Channels | None:
    """The neighbouring channels that an op takes, if it does nothing else to the last axis."""
    match op:
        case Slice():
            last = graph.type(op.x).rank - 1
            if last >= 0 and op.steps[last] == 1:
                return Channels(op.starts[last], op.starts[last] + op.sizes[last])
        case Gather():
            indices = graph.data(op.indices)
            is_last = op.axis == graph.type(op.x).rank - 1
            if is_last and indices.size and bool((np.diff(indices) == 1).all()):
                return Channels(int(indices[0]), int(indices[-1]) + 1)
    return None


def _parts(graph: Graph, id: TensorId) -> list[Channels]:
    """The channels that are read together, in order; none where a reader takes all in one."""
    readers = _readers(graph, id)
    if graph.is_output(id) or len(readers) < len(graph.consumers(id)):
        return []
    parts: list[Channels] = []
    for channels in sorted(channels for _, channels in readers):
        if parts and channels.start < parts[-1].stop:
            parts[-1] = Channels(parts[-1].start, max(parts[-1].stop, channels.stop))
        else:
            parts.append(channels)
    return parts


def _layer_above(graph: Graph, op: Op | None) -> Weighted | None:
    """The layer whose results the op has, or functions of one value have made of them."""
    while isinstance(op, Unary | Clamp) and not graph.is_kept(op):
        if graph.sole_consumer(op.x) is None:
            return None
        op = graph.producer(op.x)
    return op if isinstance(op, Weighted) and not graph.is_kept(op) else None


def _between(graph: Graph, layer: Weighted, op: Op) -> list[TensorId]:
    """The results from the layer's to the op's."""
    found = [op.output]
    while found[-1] != layer.output:
        (x,) = graph.activations(graph.op(found[-1]))
        found.append(x)
    return found


def _between_groups(graph: Graph, layer: Weighted, part: Channels) -> bool:
    per_group = graph.type(layer.output).shape[-1] // layer.groups
    return layer.groups == 1 or (part.start % per_group == 0 and part.count % per_group == 0)


def _part_of(graph: Graph, op: Op, part: Channels, id: TensorId) -> Op:
    """The op with these of its result's channels; slices what it reads as far as it must."""
    if not isinstance(op, Weighted):
        return replace(op, inputs=(_sliced(graph, op.inputs[0], part), *op.inputs[1:]), output=id)
    x, groups = op.x, op.groups
    if groups > 1:
        outputs = graph.type(op.output).shape[-1] // groups
        inputs = graph.type(op.x).shape[-1] // groups
        first, groups = part.start // outputs, part.count // outputs
        x = _sliced(graph, op.x, Channels(first * inputs, (first + groups) * inputs))
    constants = (_rows(graph, t, part) for t in (op.weight, op.bias))
    new = replace(op, inputs=(x, *constants), output=id)
    return replace(new, groups=groups) if isinstance(new, Conv2d) else new


def _sliced(graph: Graph, id: TensorId, part: Channels) -> TensorId:
    shape = graph.type(id).shape
    op = Slice(
        inputs=(id,),
        output=graph.fresh_id(f"{id}.{part.start}"),
        starts=(*(0 for _ in shape[1:]), part.start),
        sizes=(*shape[:-1], part.count),
        steps=tuple(1 for _ in shape),
    )
    return graph.add_op(op, graph.tensor(id).marked(Mark.CUT))


def _rows(graph: Graph, id: TensorId, part: Channels) -> TensorId:
    """These rows of a constant."""
    rows = graph.data(id)[part.start : part.stop]
    return graph.add_constant(f"{id}.{part.start}", rows, graph.tensor(id).marked(Mark.CUT))


def _is_exactly(graph: Graph, reader: Op, channels: Channels, part: Channels) -> bool:
    """Whether a reader takes all of the part, and nothing off other axes."""
    x, y = graph.type(reader.inputs[0]).shape, graph.type(reader.output).shape
    return channels == part and x[:-1] == y[:-1] and not graph.is_kept(reader)


def _slice(graph: Graph, reader: Op, x: TensorId, channels: Channels) -> Op:
    """A reader of some channels, as a slice of a part."""
    shape = graph.type(reader.inputs[0]).shape
    starts, sizes = (0,) * len(shape), shape
    steps = (1,) * len(shape)
    if isinstance(reader, Slice):
        starts, sizes, steps = reader.starts, reader.sizes, reader.steps
    return Slice(
        inputs=(x,),
        output=reader.output,
        starts=(*starts[:-1], channels.start),
        sizes=(*sizes[:-1], channels.count),
        steps=steps,
    )


def _normal_of(normal: NormalStatistics | None, part: Channels) -> NormalStatistics | None:
    if normal is None:
        return None
    rows = slice(part.start, part.stop)
    return NormalStatistics(mean=normal.mean[rows], std=normal.std[rows])
