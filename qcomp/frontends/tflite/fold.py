"""Operators on constants alone: shapes that a file computes, and weights that it stores smaller."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from qcomp.frontends.limits import Refused
from qcomp.frontends.tflite.context import Node
from qcomp.frontends.tflite.slices import strided
from qcomp.frontends.tflite.tensors import WHOLE
from qcomp.ir.tensor import Array

Fold = Callable[[Node, list[Array]], Array]


def fold(node: Node) -> bool:
    """Compute the result of an operator whose operands are all known, if it is one of these."""
    context, op = node.context, node.op
    if op.name == "SHAPE":
        context.constants[op.outputs[0]] = np.array(node.shape(), np.int64)
        return True
    known = [context.constants.get(i) for i in op.inputs]
    operands = [a for a in known if a is not None]
    if op.name not in FOLDS or not operands or len(operands) < len(known):
        return False
    if op.name != "DEQUANTIZE" and any(a.dtype.kind == "f" for a in operands):
        return False  # an op of floats, which the graph's own folding computes
    node.require(len(op.outputs) == 1, f"{len(op.outputs)} results", "one")
    size = math.prod(node.result().shape)
    context.folding.take(max(size, *(a.size for a in operands)), 1)
    try:
        result = FOLDS[op.name](node, operands)
    except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
        raise Refused(f"its constant operands are wrong: {error}") from error
    context.constants[op.outputs[0]] = np.asarray(result)
    return True


def _dequantize(node: Node, operands: list[Array]) -> Array:
    return node.floats(0, "the operand")


def _cast(node: Node, operands: list[Array]) -> Array:
    kind = node.result().kind
    node.require(kind in WHOLE, f"a cast to {kind}", ", ".join(WHOLE))
    return operands[0].astype(WHOLE[kind])


def _pack(node: Node, operands: list[Array]) -> Array:
    return np.stack(operands, node.option("axis"))


def _concatenation(node: Node, operands: list[Array]) -> Array:
    return np.concatenate(operands, node.option("axis"))


def _strided_slice(node: Node, operands: list[Array]) -> Array:
    cut = strided(node, operands[0].shape)
    return operands[0][cut.index].reshape(cut.shape)


def _slice(node: Node, operands: list[Array]) -> Array:
    begin, size = operands[1].reshape(-1).tolist(), operands[2].reshape(-1).tolist()
    ends = [e if s == -1 else b + s for b, s, e in zip(begin, size, operands[0].shape, strict=True)]
    return operands[0][tuple(slice(b, e) for b, e in zip(begin, ends, strict=True))]


def _gather(node: Node, operands: list[Array]) -> Array:
    node.require(node.option("batch_dims", 0) == 0, "batch_dims", "batch_dims=0")
    return np.take(operands[0], operands[1], node.option("axis", 0))


def _reshape(node: Node, operands: list[Array]) -> Array:
    return operands[0].reshape(operands[1].reshape(-1).tolist())


def _squeeze(node: Node, operands: list[Array]) -> Array:
    axes = tuple(int(a) for a in node.option("squeeze_dims"))
    return operands[0].squeeze(axes or None)


def _reduce(ufunc: np.ufunc) -> Fold:
    def folded(node: Node, operands: list[Array]) -> Array:
        axes = tuple(operands[1].reshape(-1).tolist())
        reduced = ufunc.reduce(operands[0], axes, keepdims=node.option("keep_dims", False))
        return np.asarray(reduced, operands[0].dtype)

    return folded


FOLDS: Mapping[str, Fold] = {
    "ADD": lambda node, x: x[0] + x[1],
    "CAST": _cast,
    "CONCATENATION": _concatenation,
    "DEQUANTIZE": _dequantize,
    "EXPAND_DIMS": lambda node, x: np.expand_dims(x[0], int(x[1].reshape(()))),
    "FLOOR_DIV": lambda node, x: x[0] // x[1],
    "GATHER": _gather,
    "MAXIMUM": lambda node, x: np.maximum(x[0], x[1]),
    "MINIMUM": lambda node, x: np.minimum(x[0], x[1]),
    "MUL": lambda node, x: x[0] * x[1],
    "PACK": _pack,
    "REDUCE_MAX": _reduce(np.maximum),
    "REDUCE_MIN": _reduce(np.minimum),
    "REDUCE_PROD": _reduce(np.multiply),
    "RESHAPE": _reshape,
    "SLICE": _slice,
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "SUB": lambda node, x: x[0] - x[1],
    "SUM": _reduce(np.add),
    "TRANSPOSE": lambda node, x: x[0].transpose(x[1].reshape(-1).tolist()),
}
"""On integers; DEQUANTIZE on any constant, which is then one of floats."""
