"""Split a layer whose results are only read in parts, where the parts have ranges far apart.

    y = conv(x, W) + b;  p = y[..., :4];  q = y[..., 4:]
becomes
    p = conv(x, W[:4]) + b[:4];  q = conv(x, W[4:]) + b[4:]

with a scale for each, and nothing is left to copy. Readers are slices, or gathers of neighbours;
those that overlap are read from one part. Functions of one value, transpositions and reshapes
between the layer and the slices are moved behind these: so the queries, keys and values of an
attention that one dense layer makes get ranges of their own. A layer of groups is split between
groups, each part reading a slice of x, so that the layer before it may be split as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Conv2d, Op, Reshape, Slice, Weighted
from qcomp.ir.tensor import Mark, NormalStatistics, TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.quantization_noise import MomentsOf
from qcomp.passes.lib.spans import (
    Span,
    is_between_groups,
    part_before,
    parts_of,
    readers,
    way_to_layer,
    with_extent,
)
from qcomp.quant.moments import Moments

APART = 2.0
"""Parts are worth layers of their own where one's range is so many times another's: one bit."""


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
            splitting.visit(op)


class _Splitting:
    def __init__(self, graph: Graph, moments: MomentsOf, log: PassLog) -> None:
        self._graph, self._moments, self._log = graph, moments, log

    @cached_property
    def _ranges(self) -> dict[TensorId, Moments]:
        """Of the graph before it was changed."""
        return dict(self._moments(self._graph.clone()))

    def visit(self, op: Op) -> None:
        """Split the op, if all of its readers take parts of its result along one axis."""
        parts = parts_of(self._graph, op.output)
        way = [way_to_layer(self._graph, op, part) for part in parts]
        if len(parts) < 2 or not all(way):
            return
        ratio = max(self._ratio(spans) for spans in zip(*way, strict=True))
        layer = self._graph.op(way[0][-1][0])
        assert isinstance(layer, Weighted)
        if ratio < APART:
            self._log.skipped(op.id, f"its parts have ranges within {ratio:.2g} times each other")
        elif not all(is_between_groups(self._graph, layer, spans[-1][1]) for spans in way):
            self._log.skipped(op.id, "its parts do not end between groups")
        else:
            for part in parts:
                self._make(op, part)
            self._graph.erase(op.output)
            names = ", ".join(f"{p.start} to {p.stop - 1}" for p in parts)
            self._log.did(f"{op.id}: channels {names}, {ratio:.3g} times apart", op=op.id)

    def _ratio(self, spans: Sequence[tuple[TensorId, Span]]) -> float:
        """How often the smallest range of a part of a tensor goes into the largest; where the parts
        are no channels, nothing is known, and dead ones don't count.
        """
        id = spans[0][0]
        shape = self._graph.type(id).shape
        if id not in self._ranges or spans[0][1].axis != len(shape) - 1:
            return 1.0
        reach = np.broadcast_to(self._ranges[id].reach, shape[-1])
        found = (float(reach[span.start : span.stop].max()) for _, span in spans)
        widths = [width for width in found if width > 0]
        return max(widths) / min(widths) if widths else 1.0

    def _make(self, op: Op, part: Span) -> None:
        """The op for this part alone, which its readers there read instead."""
        found = readers(self._graph, op.output, part.axis)
        mine = [(reader, span) for reader, span in found if span.start in part]
        whole = [r for r, span in mine if _is_exactly(self._graph, r, span, part)]
        id = whole[0].output if whole else self._graph.fresh_id(f"{op.id}.{part.start}")
        new = _part_of(self._graph, op, part, id)
        normal = _normal_of(self._graph, op.output, part)
        if whole:
            self._graph.replace_op(new, normal=normal)
        else:
            self._graph.add_op(new, self._graph.tensor(op.output).marked(Mark.CUT))
            self._graph.update_tensor(replace(self._graph.tensor(id), normal=normal))
        for reader, span in mine:
            if reader in whole[1:]:
                self._graph.replace_uses(reader.output, id)
                self._graph.erase(reader.output)
            elif reader not in whole:
                shifted = Span(part.axis, span.start - part.start, span.stop - part.start)
                self._graph.replace_op(_slice(self._graph, reader, id, shifted))


# ----------------------------------------------------------------------- the parts


def _part_of(graph: Graph, op: Op, part: Span, id: TensorId) -> Op:
    """The op for a part of its result; slices what it reads as far as it must."""
    if isinstance(op, Weighted):
        return _part_of_layer(graph, op, part, id)
    before = part_before(graph, op, part)
    assert before is not None
    new = replace(op, inputs=(_sliced(graph, op.inputs[0], before), *op.inputs[1:]), output=id)
    return replace(new, shape=with_extent(new.shape, part)) if isinstance(new, Reshape) else new


def _part_of_layer(graph: Graph, op: Weighted, part: Span, id: TensorId) -> Weighted:
    x, groups = op.x, op.groups
    if groups > 1:
        outputs = graph.type(op.output).shape[-1] // groups
        inputs = graph.type(op.x).shape[-1] // groups
        first, groups = part.start // outputs, part.count // outputs
        x = _sliced(graph, op.x, Span(part.axis, first * inputs, (first + groups) * inputs))
    constants = (_rows(graph, t, part) for t in (op.weight, op.bias))
    new = replace(op, inputs=(x, *constants), output=id)
    return replace(new, groups=groups) if isinstance(new, Conv2d) else new


def _sliced(graph: Graph, id: TensorId, part: Span) -> TensorId:
    shape = graph.type(id).shape
    op = Slice(
        inputs=(id,),
        output=graph.fresh_id(f"{id}.{part.start}"),
        starts=tuple(part.start if i == part.axis else 0 for i in range(len(shape))),
        sizes=with_extent(shape, part),
        steps=(1,) * len(shape),
    )
    return graph.add_op(op, graph.tensor(id).marked(Mark.CUT))


def _rows(graph: Graph, id: TensorId, part: Span) -> TensorId:
    """These rows of a constant."""
    rows = graph.data(id)[part.start : part.stop]
    return graph.add_constant(f"{id}.{part.start}", rows, graph.tensor(id).marked(Mark.CUT))


def _is_exactly(graph: Graph, reader: Op, span: Span, part: Span) -> bool:
    """Whether a reader takes all of the part, and nothing off other axes."""
    if span != part or graph.is_kept(reader):
        return False
    if not isinstance(reader, Slice):
        return True
    others = [i for i in range(len(reader.starts)) if i != part.axis]
    shape = with_extent(graph.type(reader.x).shape, part)
    return reader.sizes == shape and all(reader.steps[i] == 1 for i in others)


def _slice(graph: Graph, reader: Op, x: TensorId, span: Span) -> Op:
    """A reader of some neighbours, as a slice of a part."""
    shape = graph.type(reader.inputs[0]).shape
    starts, sizes, steps = (0,) * len(shape), shape, (1,) * len(shape)
    if isinstance(reader, Slice):
        starts, sizes, steps = reader.starts, reader.sizes, reader.steps
    return Slice(
        inputs=(x,),
        output=reader.output,
        starts=(*starts[: span.axis], span.start, *starts[span.axis + 1 :]),
        sizes=with_extent(sizes, span),
        steps=steps,
    )


def _normal_of(graph: Graph, id: TensorId, part: Span) -> NormalStatistics | None:
    """What is known of the channels of a part."""
    normal = graph.tensor(id).normal
    if normal is None or part.axis != graph.type(id).rank - 1:
        return normal
    rows = slice(part.start, part.stop)
    return NormalStatistics(mean=normal.mean[rows], std=normal.std[rows])
