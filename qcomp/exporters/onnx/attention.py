"""ONNX form of attention, written out in the operators that every version has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from qcomp.exporters.onnx.writer import Layout, Writer
from qcomp.ir.evaluate.attention import visible
from qcomp.ir.ops import Op
from qcomp.ir.ops.attention import EXCLUDES, Attention, Mask, Unattended
from qcomp.ir.tensor import TensorId

_LOWEST = -1e30  # of a score that is excluded: a softmax of nothing else is a mean
_NO_MATTER = 1e29


def attention(w: Writer, op: Attention) -> None:
    q, k, v = (
        w.emit("Transpose", [w.read(t, Layout.OURS)], perm=(0, 2, 1, 3)) for t in op.inputs[:3]
    )
    heads, groups = (w.graph.type(t).shape[2] for t in (op.q, op.k))
    k, v = (_repeated(w, t, x, heads // groups) for t, x in ((op.k, k), (op.v, v)))
    scores = w.emit("MatMul", [q, w.emit("Transpose", [k], perm=(0, 1, 3, 2))])
    scores = w.emit("Mul", [scores, w.scalar(op.scale)])
    for kind, t in zip(op.masks, op.mask_operands, strict=True):
        scores = _masked(w, scores, kind, w.read(t, Layout.OURS))
    queries, keys = w.graph.type(op.q).shape[1], w.graph.type(op.k).shape[1]
    if op.ahead < keys - 1:
        seen = w.literal(visible((1, 1, queries, keys), op.ahead))
        scores = w.emit("Where", [seen, scores, w.scalar(_LOWEST)])
    weights = w.emit("Softmax", [scores], axis=3)
    y = w.emit("MatMul", [weights, v])
    if op.unattended is Unattended.ZERO:
        most = w.emit("ReduceMax", [scores, w.integers([3])], keepdims=1)
        attended = w.emit("Greater", [most, w.scalar(-_NO_MATTER)])
        y = w.emit("Where", [attended, y, w.scalar(0.0)])
    w.define(op.id, Layout.OURS, w.emit("Transpose", [y], perm=(0, 2, 1, 3)))


def _repeated(w: Writer, id: TensorId, x: str, times: int) -> str:
    """[B, G, n, d] as [B, G * times, n, d], each head `times` times."""
    if times == 1:
        return x
    b, n, g, d = w.graph.type(id).shape
    one = w.emit("Reshape", [x, w.integers([b, g, 1, n * d])])
    many = w.emit("Expand", [one, w.integers([b, g, times, n * d])])
    return w.emit("Reshape", [many, w.integers([b, g * times, n, d])])


def _masked(w: Writer, scores: str, kind: Mask, mask: str) -> str:
    lowest = w.scalar(_LOWEST)
    if kind is Mask.ADDED:
        seen = w.emit("Greater", [mask, w.scalar(EXCLUDES)])
        bounded = w.emit("Max", [mask, w.scalar(EXCLUDES)])
        return w.emit("Where", [seen, w.emit("Add", [scores, bounded]), lowest])
    holds = w.emit("Cast", [mask], to=onnx.TensorProto.BOOL)
    parts = [scores, lowest] if kind is Mask.ALLOWED else [lowest, scores]
    return w.emit("Where", [holds, *parts])


RULES: Mapping[type[Op], Callable[..., None]] = {
    Attention: attention,
}
