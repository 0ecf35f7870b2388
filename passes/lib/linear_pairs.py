"""Pairs of linear ops with only positive-homogeneous ops between them.

f is positive-homogeneous per channel when f(s * x) = s * f(x) for each s > 0: ReLU, leaky ReLU,
PReLU, pooling, means, maxima, movements that leave the channels where they are. A positive factor
per channel can then be taken from the first op's weights and given to the second's.
"""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    RELU6,
    AveragePool2d,
    BroadcastTo,
    Clamp,
    ClampRange,
    Function,
    MaxPool2d,
    Op,
    Pad,
    PadMode,
    PRelu,
    Reduce,
    Reshape,
    Resize2d,
    Slice,
    Tile,
    Transpose,
    Unary,
    Weighted,
    ZeroStuff,
)
from qcomp.ir.tensor import TensorId


@dataclass(frozen=True)
class LinearPair:
    """`second` reads `first` through the ops whose results are `between`, in order.

    `repeats` is how often the channels of `first` lie one after the other in the input of
    `second`: more than 1 behind a flatten of pixels.
    """

    first: TensorId
    between: tuple[TensorId, ...]
    second: TensorId
    repeats: int


def linear_pair(graph: Graph, first: Weighted) -> LinearPair | None:
    """The pair that begins with `first`, if there is one."""
    between: list[TensorId] = []
    repeats = 1
    op: Op = first
    while True:
        if isinstance(op, Weighted | Clamp) and not _is_homogeneous(op.clamp):
            return None
        if graph.tensor(op.output).qparams is not None:
            return None  # the model has scales of its own
        following = graph.sole_consumer(op.output)
        if following is None or graph.is_output(op.output):
            return None
        if isinstance(following, Weighted):
            return LinearPair(first.id, tuple(between), following.id, repeats)
        if (grown := _repeats(graph, following, repeats)) is None:
            return None
        repeats = grown
        between.append(following.id)
        op = following


def _is_homogeneous(clamp: ClampRange) -> bool:
    """Each end is 0 or infinite. ReLU6 is let through: it takes zeros to zeros, too."""
    ends = (clamp.low, clamp.high)
    return clamp == RELU6 or all(end in (0.0, float("inf"), float("-inf")) for end in ends)


def _repeats(graph: Graph, op: Op, repeats: int) -> int | None:
    """Repetitions of the channels behind `op`, or None where it is not homogeneous per channel."""
    type = graph.type(op.inputs[0])
    last = type.rank - 1
    match op:
        case Clamp() | PRelu() | MaxPool2d() | AveragePool2d() | Resize2d():
            return repeats
        case Unary(function=Function.LEAKY_RELU | Function.ABS):
            return repeats
        case Unary(function=Function.AFFINE, beta=0.0):
            return repeats
        case ZeroStuff(value=0.0):
            return repeats
        case Pad():
            keeps_zero = op.mode is not PadMode.CONSTANT or op.value == 0.0
            return repeats if keeps_zero and op.before[-1] == op.after[-1] == 0 else None
        case Reduce():
            return repeats if last not in op.axes else None
        case Transpose():
            return repeats if op.permutation[-1] == last else None
        case Slice():
            return repeats if op.sizes[-1] == type.shape[-1] and op.steps[-1] == 1 else None
        case Tile():
            return repeats * op.repeats[-1]
        case BroadcastTo():
            return repeats if op.shape[-1] == type.shape[-1] else None
        case Reshape():
            return _repeats_of_reshape(type.shape, op.shape, repeats)
    return None


def _repeats_of_reshape(
    before: tuple[int, ...], after: tuple[int, ...], repeats: int
) -> int | None:
    """Channels stay the innermost axis, or a flatten puts whole pixels side by side."""
    if after and after[-1] % before[-1] == 0:
        return repeats * (after[-1] // before[-1])
    return None
