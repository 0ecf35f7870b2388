"""Leave affine functions at inputs and outputs to the floats outside.

    x -> (x - mean) / std -> z -> ...        ... -> y -> y * std + mean -> out

The caller's floats are quantized and dequantized in float arithmetic anyway. So the graph begins at
z and ends at y, and what was before and behind stands in `Graph.conversions`: one scale and offset
for each channel. Readings far from zero with a small spread keep their resolution so, as all ranges
of integers include zero. Constants, batch normalisations and functions `alpha * x + beta` count,
also behind transpositions. An input of integers is taken as it is.

An end is left as it is where that costs nothing: where steps would hardly be finer, and a layer at
an input takes the function into its weights as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    BatchNorm,
    Binary,
    Conv2d,
    Function,
    Op,
    Transpose,
    Unary,
    Weighted,
)
from qcomp.ir.tensor import DType, Mark, TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.channel_affine import of_batch_norm, with_constant
from qcomp.quant.conversion import Conversion
from qcomp.quant.moments import Moments

F64 = NDArray[np.float64]

FINER = 1.5
"""Steps must become so many times finer, on some channel, for an end to change by itself."""


@dataclass(frozen=True, eq=False)
class Affine:
    """scale * x + shift; both broadcast to the tensor, and differ along one axis at most."""

    scale: F64
    shift: F64

    def then(self, other: Affine) -> Affine:
        """The other one applied to the results of this one."""
        return Affine(self.scale * other.scale, self.shift * other.scale + other.shift)

    def in_layout(self, order: tuple[int, ...]) -> Affine:
        """Axis i becomes axis order[i]."""
        back = tuple(int(axis) for axis in np.argsort(order))
        return Affine(self.scale.transpose(back), self.shift.transpose(back))

    @property
    def axes(self) -> list[int]:
        """Those along which it differs."""
        shape = np.broadcast_shapes(self.scale.shape, self.shift.shape)
        return [i for i, extent in enumerate(shape) if extent > 1]

    @property
    def is_sound(self) -> bool:
        """Whether it differs along one axis at most, and can be undone in float32."""
        with np.errstate(all="ignore"):
            parts = [self.scale, 1.0 / self.scale, self.shift, self.shift / self.scale]
            finite = all(bool(np.isfinite(p.astype(np.float32)).all()) for p in parts)
        return finite and len(self.axes) <= 1


@dataclass(frozen=True)
class MoveAffineEnds:
    """`moments` are asked only where an end may move, and only of the tensors at both sides."""

    name: ClassVar[str] = "move-affine-ends"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    moments: Callable[[Graph, Collection[TensorId]], Mapping[TensorId, Moments]]

    def run(self, graph: Graph, log: PassLog) -> None:
        shared = graph.inputs.keys() & graph.outputs.keys()
        shared |= {*graph.states, *graph.states.values()}
        before = {n: _behind_input(graph, t) for n, t in graph.inputs.items() if n not in shared}
        behind = {n: _before_output(graph, n) for n in graph.outputs if n not in shared}
        ends = [end for end in (*before.values(), *behind.values()) if end.ops]
        if not ends:
            return
        watched = dict.fromkeys(t for end in ends for t in (end.outer, end.inner))
        moments = self.moments(graph.clone(), watched)
        for name, end in before.items():
            if end.ops and _is_worth_moving_in(graph, end, moments):
                _move_input(graph, name, end)
                log.did(f"{name}: {_told(end)} stand before the input", tensor=name)
        for name, end in behind.items():
            if end.ops and _is_finer_outside(end, moments):
                _move_output(graph, name, end)
                log.did(f"{name}: {_told(end)} stand behind the output", tensor=name)


@dataclass(frozen=True, eq=False)
class End:
    """Affine ops in a row, what they make of `outer`'s values in all, and where they lead.

    outer: the tensor whose values the caller sees, in whose layout the function is.
    inner: the one at the other side.
    """

    outer: TensorId
    inner: TensorId
    ops: tuple[Op, ...]
    affine: Affine


def _told(end: End) -> str:
    return ", ".join(f"%{op.id}" for op in end.ops)


def _behind_input(graph: Graph, id: TensorId) -> End:
    """The affine ops that alone read an input, one after the other.

    Integers that the caller gives as they are have no floats before them.
    """
    rank = graph.type(id).rank
    end, order, at = End(id, id, (), _identity(rank)), tuple(range(rank)), id
    if graph.tensor(id).qparams is not None:
        return end
    while (op := graph.sole_consumer(at)) is not None:
        if isinstance(op, Transpose):
            order = tuple(order[axis] for axis in op.permutation)
        else:
            step = _affine_of(graph, op, at)
            both = None if step is None else end.affine.then(step.in_layout(order))
            if both is None or not both.is_sound:
                break
            end = End(id, op.output, (*end.ops, op), both)
        at = op.output
    return end


def _before_output(graph: Graph, name: str) -> End:
    """The affine ops whose last result is returned under one name, and that nothing else reads."""
    at = id = graph.outputs[name]
    rank = graph.type(id).rank
    end, order = End(id, id, (), _identity(rank)), tuple(range(rank))
    alone = list(graph.outputs.values()).count(id) == 1 and not graph.consumers(id)
    while alone and (op := graph.producer(at)) is not None:
        x = graph.activations(op)[0] if graph.activations(op) else at
        if isinstance(op, Transpose):
            order = tuple(order[axis] for axis in np.argsort(op.permutation))
        else:
            step = None if graph.producer(x) is None else _affine_of(graph, op, x)
            both = None if step is None else step.in_layout(order).then(end.affine)
            if both is None or not both.is_sound:
                break
            end = End(id, x, (*end.ops, op), both)
        at, alone = x, graph.sole_consumer(x) is not None
    return end


def _identity(rank: int) -> Affine:
    return Affine(np.ones((1,) * rank), np.zeros((1,) * rank))


def _affine_of(graph: Graph, op: Op, x: TensorId) -> Affine | None:
    """The op as a function of x, in the layout of both, or None."""
    type = graph.type(x)
    if type != graph.type(op.output) or type.dtype is not DType.F32 or graph.is_kept(op):
        return None
    match op:
        case BatchNorm():
            norm = of_batch_norm(graph, op)
            return _padded(type.rank, norm.scale, norm.shift)
        case Unary(function=Function.AFFINE):
            return _padded(type.rank, np.array(op.alpha), np.array(op.beta))
        case Binary() if op.clamp.is_none:
            return _of_binary(graph, op, x)
    return None


def _of_binary(graph: Graph, op: Binary, x: TensorId) -> Affine | None:
    """Of an op with a constant."""
    other = op.b if op.a == x else op.a
    if not graph.is_constant(other):
        return None
    found = with_constant(op, other, graph.data(other).astype(np.float64))
    return None if found is None else _padded(graph.type(x).rank, *found)


def _padded(rank: int, scale: F64, shift: F64) -> Affine:
    """With axes of extent 1 in front."""
    shapes = [(1,) * (rank - a.ndim) + a.shape for a in (scale, shift)]
    return Affine(scale.reshape(shapes[0]), shift.reshape(shapes[1]))


# ------------------------------------------------------------------ what is gained


def _is_worth_moving_in(graph: Graph, end: End, moments: Mapping[TensorId, Moments]) -> bool:
    outside, inside = _reach(moments, end.outer), _reach(moments, end.inner)
    finer = inside > 0 and float(np.abs(end.affine.scale).max()) * outside > FINER * inside
    return finer or (bool(end.affine.shift.any()) and not _is_taken_in(graph, end.inner))


def _is_taken_in(graph: Graph, id: TensorId) -> bool:
    """Whether a layer alone reads it and pads nothing, so that it takes any affine function in."""
    op = graph.sole_consumer(id)
    while isinstance(op, Transpose):
        op = graph.sole_consumer(op.output)
    return isinstance(op, Weighted) and not (isinstance(op, Conv2d) and any(op.padding))


def _is_finer_outside(end: End, moments: Mapping[TensorId, Moments]) -> bool:
    outside, inside = _reach(moments, end.outer), _reach(moments, end.inner)
    return outside > FINER * float(np.abs(end.affine.scale).min()) * inside > 0


def _reach(moments: Mapping[TensorId, Moments], id: TensorId) -> float:
    """The width that integers must cover, zero included."""
    return float(moments[id].reach.max()) if id in moments else 0.0


# ---------------------------------------------------------------------- the change


def _move_input(graph: Graph, name: str, end: End) -> None:
    scale = 1.0 / end.affine.scale
    graph.conversions[name] = _conversion(Affine(scale, -end.affine.shift * scale))
    _remove(graph, end)


def _move_output(graph: Graph, name: str, end: End) -> None:
    graph.conversions[name] = _conversion(end.affine)
    _remove(graph, end)


def _conversion(outward: Affine) -> Conversion:
    axis = next(iter(outward.axes), 0)
    shape = np.broadcast_shapes(outward.scale.shape, outward.shift.shape)
    scale, offset = (np.broadcast_to(a, shape).ravel() for a in (outward.scale, outward.shift))
    return Conversion.of(axis, scale, offset)


def _remove(graph: Graph, end: End) -> None:
    for op in end.ops:
        (x,) = graph.activations(graph.op(op.id))
        graph.replace_uses(op.output, x)
        graph.erase(op.output)
        tensor = graph.tensor(x)
        graph.update_tensor(replace(tensor, origin=tensor.marked(Mark.FOLDED)))
