"""Channels of activations that one positive factor can be taken from together.

A channel's values may be divided by s > 0 if the layers that make them divide their weights by s,
the layers that read them multiply theirs, and the ops between are positive-homogeneous per channel:
f(x / s) = f(x) / s for ReLU, PReLU, pooling, means, movements, sums of values with the same s. The
channels that must have the same s are a class: those of the smallest equivalence that holds what
each op ties together. Class 0 are those whose factor is 1, as of inputs and outputs of the graph.

A gate y = x * g(x), such as SiLU, is homogeneous with its g(x) apart: x / s * g(s * (x / s)). So is
a product with a value of any other kind.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qcomp.ir.evaluate import MEANINGS
from qcomp.ir.exemptions import Exemptions
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    UP_TO_ONE,
    AbsMax,
    Add,
    ArgMax,
    Attention,
    AveragePool2d,
    BatchNorm,
    Binary,
    BroadcastTo,
    Clamp,
    Compare,
    Concat,
    Conv2d,
    Dense,
    DepthToSpace,
    Div,
    Embedding,
    Function,
    Gather,
    Gru,
    LogPower,
    LogSoftmax,
    Lstm,
    MatMul,
    Maximum,
    MaxPool2d,
    Minimum,
    Mul,
    Normalize,
    Op,
    Pad,
    PRelu,
    Reduce,
    Reshape,
    Resize2d,
    Rnn,
    ScaleDown,
    ScaleUp,
    Select,
    Slice,
    Softmax,
    SpaceToDepth,
    Sub,
    Tile,
    Transpose,
    Unary,
    Weighted,
    ZeroStuff,
)
from qcomp.ir.ops.base import Domain
from qcomp.ir.tensor import DType, TensorId

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ChannelClasses:
    """The class of each channel of each f32 activation: `of[t]` are [C] of `count` classes.

    `bounded` are the results whose clamp ends at a number, which a factor moves; `opened` are those
    of opened gates.
    """

    of: Mapping[TensorId, Indices]
    count: int
    bounded: frozenset[TensorId]
    opened: frozenset[TensorId]
    _ties: _Ties

    def why_fixed(self, id: TensorId) -> str:
        """Why a value's channels have the factor 1: the nearest reason among what is tied."""
        return self._ties.why_fixed(id)


def channel_classes(graph: Graph, opened: Collection[TensorId]) -> ChannelClasses:
    """The classes of a float graph in which the gates with these results are opened."""
    ties = _Ties(graph, frozenset(opened))
    for id in graph.inputs.values():
        ties.pin(id, f"%{id} is an input of the graph")
    for id in graph.outputs.values():
        ties.pin(id, f"%{id} is an output of the graph")
    for op in graph.ops():
        RULES.get(type(op), _pin)(ties, op)
    return ties.classes()


@dataclass(eq=False)
class _Ties:
    """What the ops tie; node 0 is the factor 1, the channels of a tensor follow one another."""

    graph: Graph
    opened: frozenset[TensorId]
    first: dict[TensorId, int] = field(default_factory=dict)
    nodes: int = 1
    edges: list[tuple[Indices, Indices]] = field(default_factory=list)
    bounded: list[TensorId] = field(default_factory=list)
    reasons: dict[TensorId, str] = field(default_factory=dict)
    neighbours: dict[TensorId, list[TensorId]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for tensor in self.graph.tensors():
            if tensor.type.dtype is DType.F32 and not tensor.is_constant:
                self.first[tensor.id] = self.nodes
                self.nodes += self.channels(tensor.id)

    def channels(self, id: TensorId) -> int:
        shape = self.graph.type(id).shape
        return shape[-1] if shape else 1

    def pin(self, id: TensorId, reason: str) -> None:
        """Channels keep the factor 1; what is no f32 activation has none anyway."""
        if id in self.first:
            nodes = self.first[id] + np.arange(self.channels(id))
            self.edges.append((nodes, np.zeros_like(nodes)))
            self.reasons.setdefault(id, reason)

    def why_fixed(self, id: TensorId) -> str:
        seen, front = {id}, deque([id])
        while front:
            at = front.popleft()
            if at in self.reasons:
                return self.reasons[at]
            new = [t for t in self.neighbours[at] if t not in seen]
            seen.update(new)
            front.extend(new)
        return "its channels have no factor of their own"

    def tie(self, a: TensorId, b: TensorId) -> None:
        """Channel by channel; a single channel is tied to all of the other's."""
        count = max(self.channels(a), self.channels(b))
        each = np.arange(count)
        self.tie_channels(a, each % self.channels(a), b, each % self.channels(b))

    def tie_channels(self, a: TensorId, of_a: Indices, b: TensorId, of_b: Indices) -> None:
        self.edges.append((self.first[a] + of_a, self.first[b] + of_b))
        self.neighbours[a].append(b)
        self.neighbours[b].append(a)

    def classes(self) -> ChannelClasses:
        ends = [np.concatenate(side) for side in zip(*self.edges, strict=True)]
        graph = coo_array((np.ones(len(ends[0]), np.int8), tuple(ends)), (self.nodes, self.nodes))
        _, labels = connected_components(graph, directed=False)
        _, numbers = np.unique(np.where(labels == labels[0], -1, labels), return_inverse=True)
        of = {t: numbers[n : n + self.channels(t)] for t, n in self.first.items()}
        return ChannelClasses(
            of, int(numbers.max()) + 1, frozenset(self.bounded), self.opened, self
        )


def _pin(ties: _Ties, op: Op) -> None:
    for id in (*op.inputs, op.output):
        ties.pin(id, f"%{op.id} ({op.mnemonic}) is not positive-homogeneous per channel")


def _clamped(ties: _Ties, op: Weighted | Clamp | Binary) -> None:
    """A clamp at 0 or nowhere is homogeneous; one to (0, h) becomes a minimum per channel."""
    low, high = op.clamp.low, op.clamp.high
    if low not in (0.0, -np.inf) or high < 0.0:
        ties.pin(op.output, f"%{op.id} clamps to ({low}, {high})")
    elif high not in (0.0, np.inf):
        ties.bounded.append(op.output)


def _weighted(ties: _Ties, op: Op) -> None:
    assert isinstance(op, Weighted)
    _clamped(ties, op)


def _clamp(ties: _Ties, op: Op) -> None:
    assert isinstance(op, Clamp)
    ties.tie(op.x, op.output)
    _clamped(ties, op)


def _same(ties: _Ties, op: Op) -> None:
    ties.tie(op.inputs[0], op.output)


def _unary(ties: _Ties, op: Op) -> None:
    assert isinstance(op, Unary)
    straight = op.function in (Function.LEAKY_RELU, Function.ABS, Function.NEG)
    if straight or (op.function is Function.AFFINE and op.beta == 0.0) or op.output in ties.opened:
        ties.tie(op.x, op.output)
    else:
        _pin(ties, op)


def _sum(ties: _Ties, op: Op) -> None:
    """Of sums, differences and extremes; a constant operand is divided by the factors, too."""
    assert isinstance(op, Binary)
    for id in op.inputs:
        if id in ties.first:
            ties.tie(id, op.output)
    _clamped(ties, op)


def _mul(ties: _Ties, op: Op) -> None:
    """The factor of one operand is that of the result; the other operand keeps the factor 1."""
    assert isinstance(op, Mul)
    scaled, gate = (op.b, op.a) if _is_gate(ties, op.a, op.b) else (op.a, op.b)
    if scaled == gate or ties.channels(scaled) != ties.channels(op.output):
        _pin(ties, op)
        return
    ties.pin(gate, f"%{gate} is what %{op.id} multiplies by")
    ties.tie(scaled, op.output)
    _clamped(ties, op)


def _is_gate(ties: _Ties, id: TensorId, other: TensorId) -> bool:
    """Whether an operand's factor should be 1 rather than the other's."""
    if id not in ties.first or other not in ties.first:
        return id not in ties.first
    return _is_bounded(ties.graph, id) and not _is_bounded(ties.graph, other)


def _is_bounded(graph: Graph, id: TensorId) -> bool:
    op = graph.producer(id)
    while op is not None and isinstance(op, Reshape | Transpose | BroadcastTo | Resize2d):
        op = graph.producer(op.x)
    return isinstance(op, Softmax) or (isinstance(op, Unary) and op.function in UP_TO_ONE)


def _div(ties: _Ties, op: Op) -> None:
    assert isinstance(op, Div)
    if op.a not in ties.first or ties.channels(op.a) != ties.channels(op.output):
        _pin(ties, op)
        return
    ties.pin(op.b, f"%{op.b} is what %{op.id} divides by")
    ties.tie(op.a, op.output)
    _clamped(ties, op)


def _reduce(ties: _Ties, op: Op) -> None:
    assert isinstance(op, Reduce)
    type = ties.graph.type(op.x)
    if type.rank - 1 in op.axes:
        _pin(ties, op)
    else:
        ties.tie(op.x, op.output)


def _moved(ties: _Ties, op: Op) -> None:
    """Numbers of channels, moved as the op moves values, tell which it ties."""
    if isinstance(op, Pad | ZeroStuff) and op.value != 0.0:
        _pin(ties, op)
        return
    if op.output not in ties.first:
        return
    start, starts, operands = 1, {}, []  # 0 is what a padding puts in
    for position, id in enumerate(op.inputs):
        if id in ties.first:
            starts[id] = start
            each = start + np.arange(ties.channels(id))
            operands.append(np.broadcast_to(each, ties.graph.type(id).shape))
            start += ties.channels(id)
        elif position in op.constant_operands:
            operands.append(ties.graph.data(id))
        else:  # values of a constant, which no factor reaches
            operands.append(np.full(ties.graph.type(id).shape, -1))
            ties.pin(op.output, f"%{op.id} ({op.mnemonic}) takes a constant in")
    moved = np.asarray(MEANINGS[type(op)](op, *operands)).reshape(-1, ties.channels(op.output))
    sources, results = _pairs(moved)
    for id, begin in starts.items():
        mine = (sources >= begin) & (sources < begin + ties.channels(id))
        ties.tie_channels(id, sources[mine] - begin, op.output, results[mine])


def _pairs(moved: Indices) -> tuple[Indices, Indices]:
    """The different (number, column) of a matrix."""
    if not len(moved):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    columns = np.arange(moved.shape[1])
    if (moved == moved[0]).all():
        return moved[0].astype(np.int64), columns
    coded = np.unique(moved.astype(np.int64) * moved.shape[1] + columns)
    return coded // moved.shape[1], coded % moved.shape[1]


RULES: Mapping[type[Op], Callable[[_Ties, Op], None]] = {
    Conv2d: _weighted,
    Dense: _weighted,
    Clamp: _clamp,
    PRelu: _same,
    MaxPool2d: _same,
    AveragePool2d: _same,
    Resize2d: _same,
    Unary: _unary,
    Add: _sum,
    Sub: _sum,
    Minimum: _sum,
    Maximum: _sum,
    Mul: _mul,
    Div: _div,
    Reduce: _reduce,
    Reshape: _moved,
    Transpose: _moved,
    Concat: _moved,
    Slice: _moved,
    Pad: _moved,
    Gather: _moved,
    BroadcastTo: _moved,
    Tile: _moved,
    DepthToSpace: _moved,
    SpaceToDepth: _moved,
    ZeroStuff: _moved,
}
EXEMPT: Exemptions = {
    Domain.INTEGER: "has scales already",
    Domain.BORDER: "has scales already",
    AbsMax: "compares values of all channels",
    ScaleDown: "has one number for all channels",
    ScaleUp: "has one number for all channels",
    Normalize: "is the same for a factor of all channels of a group",
    MatMul: "sums over channels of both operands",
    Attention: "sums over channels of q and k",
    BatchNorm: "is folded into layers before; one that is left has numbers per channel",
    ArgMax: "compares channels",
    Compare: "compares values",
    Embedding: "takes rows of a table by whole numbers",
    Select: "chooses between operands of one factor",
    LogPower: "adds the squares of two operands",
    Softmax: "compares channels",
    LogSoftmax: "compares channels",
    Gru: "its states meet weights that it has",
    Lstm: "its states meet weights that it has",
    Rnn: "its states meet weights that it has",
}
"""Ops without a row keep the factor 1 on both sides."""
