"""Which tensors must share one scale, and the width and qparams of every activation.

Movements, max pooling and extremes copy integers, so their operands and results have one scale; so
have the operands of minimum and maximum. Groups are the classes of the smallest equivalence that
holds all these ties. A group's range is the union of its members', and its width the largest that
one of them asks for; 16 and 32 bits are symmetric, and inputs and outputs have 16 at most.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from qcomp.config import QuantizationConfig
from qcomp.errors import PassError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Recurrent, ScaleDown, ScaleUp, Softmax, Unary
from qcomp.ir.tensor import DType, TensorId
from qcomp.ir.text import format_op
from qcomp.ir.widths import of_16_bits
from qcomp.passes.lib.group_ranges import group_ranges
from qcomp.quant.dynamic_constants import NORMALIZED, product_qparams
from qcomp.quant.qparams import FINEST_SOFTMAX, QParams, integer_range, softmax_qparams


def _pinned(graph: Graph, id: TensorId, bits: int) -> QParams | None:
    """The qparams of a softmax's result, and of an input of integers; a kept op gives floats, which
    any qparams can follow.

    An output of 8 bits has the finest steps that reach its largest probability: with many classes
    these are small, and steps of 1/256 would make ties.
    """
    tensor = graph.tensor(id)
    if tensor.kept or tensor.qparams is not None:
        return None if tensor.kept else tensor.qparams
    if readers := [r for r in graph.consumers(id) if isinstance(r, Recurrent) and r.x == id]:
        return _sums_of_gates(graph, id, readers)
    producer = graph.producer(id)
    if isinstance(producer, ScaleDown):
        return NORMALIZED
    if type(producer) is not Softmax:
        return None
    if bits > 8 or tensor.range is None or not graph.is_output(id):
        return softmax_qparams(bits, 0)
    largest = max(tensor.range[1], 2.0**-FINEST_SOFTMAX)
    return softmax_qparams(bits, math.floor(-math.log2(min(largest, 1.0))))


def _sums_of_gates(graph: Graph, id: TensorId, readers: Sequence[Recurrent]) -> QParams:
    """Steps of a power of two, in a range that holds the sums; and the states that functions
    without a bound make of them.
    """
    found = [graph.tensor(id).range]
    found += [graph.tensor(r.output).range for r in readers if not r.is_bounded]
    largest = max(abs(bound) for ends in found if ends is not None for bound in ends)
    least = [r.least_exponent for r in readers if r.least_exponent is not None]
    exponent = max([math.ceil(math.log2(max(largest, 2.0**-5))), *least])
    return QParams(2.0 ** (exponent - 15), 0, *integer_range(16))


@dataclass(frozen=True)
class Assignment:
    """`own`: qparams of the tensor itself; `group`: qparams that its copy group shares.

    They differ only if the tensor's qparams are fixed (softmax) and do not fit the group; then a
    rescaled copy feeds the group.
    """

    own: Mapping[TensorId, QParams]
    group: Mapping[TensorId, QParams]


def activation_bits(graph: Graph, config: QuantizationConfig) -> dict[TensorId, int]:
    """The width of every f32 activation: 8, 16 or 32."""
    found: dict[TensorId, int] = {}
    wide = of_16_bits(graph)
    ends = {*graph.inputs.values(), *graph.outputs.values()}
    for members in scale_groups(graph):
        widest = max(16 if t in wide else _bits(graph, config, t) for t in members)
        if any(t in ends for t in members):
            widest = min(widest, 16)
        found |= dict.fromkeys(members, widest)
    return found


def _bits(graph: Graph, config: QuantizationConfig, id: TensorId) -> int:
    """What is asked for, or what an input of integers has."""
    given = graph.tensor(id).qparams
    return _choices(graph, config, id).decided_activation_bits if given is None else given.bits


def assign_qparams(graph: Graph, config: QuantizationConfig) -> Assignment:
    """QParams of every f32 activation; PassError for one without a range."""
    own: dict[TensorId, QParams] = {}
    group: dict[TensorId, QParams] = {}
    widths = activation_bits(graph, config)
    groups = scale_groups(graph)
    for members, (low, high) in zip(groups, group_ranges(graph, groups), strict=True):
        bits = widths[members[0]]
        asked = any(_choices(graph, config, t).symmetric_activations for t in members)
        qmin, qmax = integer_range(bits)
        fixed = {t: q for t in members if (q := _pinned(graph, t, bits)) is not None}
        common = QParams.from_range(
            low,
            high,
            qmin=qmin,
            qmax=qmax,
            symmetric=asked or bits > 8,
            power_of_two=config.power_of_two_scales,
        )
        if len(set(fixed.values())) == 1:
            candidate = next(iter(fixed.values()))
            free = [graph.tensor(t).range or (low, high) for t in members if t not in fixed]
            if all(_covers(candidate, r) for r in free):
                common = candidate
        for t in members:
            own[t] = fixed.get(t, common)
            group[t] = common
    products = _scaled_products(graph, own)
    return Assignment(own | products, group | products)


def _scaled_products(graph: Graph, own: Mapping[TensorId, QParams]) -> dict[TensorId, QParams]:
    """Of what is scaled up, whose steps are those of the result over those of the scale, but for a
    power of two; PassError where none fits.
    """
    found: dict[TensorId, QParams] = {}
    for op in graph.ops():
        if isinstance(op, ScaleUp) and not graph.is_kept(op):
            if graph.is_constant(op.scale):
                raise PassError(
                    f"{format_op(graph, op)}\n  its scale is a constant: a product is meant"
                )
            low, high = graph.tensor(op.x).range or (0.0, 0.0)
            scales = own[op.scale], own[op.output]
            try:
                found[op.x] = product_qparams(max(-low, high), *scales, graph.data(op.bias))
            except ValueError as error:
                raise PassError(f"{format_op(graph, op)}\n  {error}") from error
    return found


def _choices(graph: Graph, config: QuantizationConfig, id: TensorId) -> QuantizationConfig:
    producer = graph.producer(id)
    return config.at(id, None if producer is None else producer.mnemonic)


def scale_groups(graph: Graph) -> list[list[TensorId]]:
    """The f32 activations in groups that integers are copied within, in the graph's order."""
    ties: nx.Graph[TensorId] = nx.Graph()
    order: dict[TensorId, int] = {}
    for tensor in graph.tensors():
        if tensor.type.dtype is DType.F32 and not tensor.is_constant:
            order[tensor.id] = len(order)
            ties.add_node(tensor.id)
    for op in graph.ops():
        if not graph.is_kept(op):
            tied = [t for t in op.one_scale if t in order]
            ties.add_edges_from(itertools.pairwise(tied))
    for name, output in graph.states.items():
        ends = graph.inputs[name], graph.outputs[output]
        ties.add_edges_from([ends] if all(t in order for t in ends) else [])
    classes = [sorted(c, key=order.__getitem__) for c in nx.connected_components(ties)]
    return sorted(classes, key=lambda members: order[members[0]])


def range_units(graph: Graph) -> list[list[TensorId]]:
    """Groups joined where one is a function of the other, as of SiLU: their ranges belong together.

    A clip of the operand that is not a clip of the result gains nothing.
    """
    groups = scale_groups(graph)
    place = {t: i for i, members in enumerate(groups) for t in members}
    ties: nx.Graph[int] = nx.Graph()
    ties.add_nodes_from(range(len(groups)))
    for op in graph.ops():
        if isinstance(op, Unary) and op.x in place and op.output in place:
            ties.add_edge(place[op.x], place[op.output])
    joined = sorted(sorted(part) for part in nx.connected_components(ties))
    return [[t for i in part for t in groups[i]] for part in joined]


def _covers(q: QParams, found: tuple[float, float]) -> bool:
    low, high = q.range
    return low - q.scale <= found[0] and found[1] <= high + q.scale
