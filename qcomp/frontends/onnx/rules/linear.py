"""Conv, Gemm, MatMul and BatchNormalization."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.frontends.onnx.layout import channels_first, channels_last, require_spatial
from qcomp.frontends.onnx.windows import axes, window
from qcomp.ir.ops import Add, BatchNorm, Conv2d, Dense, Function, MatMul, Reshape, Transpose, Unary
from qcomp.ir.tensor import Array, TensorId


def bias_or_zeros(node: Node, index: int, channels: int) -> TensorId:
    """The constant bias operand, or zeros."""
    if not node.has(index):
        return node.new_constant("bias", np.zeros(channels, np.float32))
    return node.weight(index, node.floats(index, "the bias"), "")


def conv(node: Node) -> None:
    sizes = require_spatial(node)
    weight = node.floats(1, "the weight")
    node.require(weight.ndim == len(sizes) + 2, f"weight of rank {weight.ndim}")
    kernel = node.integers("kernel_shape", weight.shape[2:])
    node.require(kernel == weight.shape[2:], f"kernel_shape={kernel} for weight {weight.shape}")
    w = window(axes(node, sizes, kernel))
    oihw = weight if weight.ndim == 4 else weight[:, :, np.newaxis, :]
    y = node.add(
        Conv2d(
            inputs=(
                channels_last(node),
                node.weight(1, oihw.transpose(0, 2, 3, 1), "OHWI"),
                bias_or_zeros(node, 2, weight.shape[0]),
            ),
            output=node.part("conv"),
            stride=w.stride,
            padding=w.padding,
            dilation=w.dilation,
            groups=node.integer("group", 1),
        )
    )
    channels_first(node, y, weight.ndim)


def gemm(node: Node) -> None:
    """alpha * A' @ B' + beta * C; a C that is the same in all rows becomes the bias."""
    for index in (0, 1):
        rank = len(node.shape(index))
        node.require(rank == 2, f"operand {index} of rank {rank}", "matrices")
    a = node.x(0)
    if node.integer("transA", 0):
        a = node.add(Transpose(inputs=(a,), output=node.part("a"), permutation=(1, 0)))
    beta = node.number("beta", 1.0)
    node.require(math.isfinite(beta * node.number("alpha", 1.0)), "alpha or beta is not finite")
    row = _row(node) if node.has(2) and beta != 0.0 and node.is_constant(1) else None
    if not node.has(2) or beta == 0.0 or row is not None:
        _gemm_product(node, a, row, node.out())
        return
    y = _gemm_product(node, a, row, node.part("product"))
    c = node.x(2) if beta == 1.0 else _scaled(node, node.x(2), beta, node.part("addend"))
    node.add(Add(inputs=(y, c), output=node.out()))


def _row(node: Node) -> Array | None:
    """C as a vector over the outputs; None if it varies by row or is no constant."""
    if not node.is_constant(2):
        return None
    c = node.floats(2, "C")
    outputs = node.shape(1)[0 if node.integer("transB", 0) else 1]
    if c.ndim == 2 and c.shape[0] == 1:
        c = c[0]
    if c.ndim > 1 or (c.ndim == 1 and c.shape[0] not in (1, outputs)):
        return None
    return np.broadcast_to(c, (outputs,))


def _gemm_product(node: Node, a: TensorId, row: Array | None, output: TensorId) -> TensorId:
    """alpha * a @ B' (+ beta * row): a Dense with scaled constants, or a MatMul."""
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    transposed = node.integer("transB", 0) != 0
    if node.is_constant(1):
        b = node.floats(1, "B")
        kernels = b if transposed else b.T
        scaled = kernels if alpha == 1.0 else np.float32(alpha) * kernels
        weight = node.weight(1, scaled, f"gemm {alpha} {transposed}")
        if row is None:
            bias = node.new_constant("bias", np.zeros(scaled.shape[0], np.float32))
        else:
            bias = node.weight(2, np.float32(beta) * row, f"gemm {beta} {row.shape}")
        return node.add(Dense(inputs=(a, weight, bias), output=output))
    b_id = node.x(1)
    if transposed:
        b_id = node.add(Transpose(inputs=(b_id,), output=node.part("b"), permutation=(1, 0)))
    if alpha == 1.0:
        return node.add(MatMul(inputs=(a, b_id), output=output))
    y = node.add(MatMul(inputs=(a, b_id), output=node.part("unscaled")))
    return _scaled(node, y, alpha, output)


def _scaled(node: Node, x: TensorId, factor: float, output: TensorId) -> TensorId:
    return node.add(Unary(inputs=(x,), output=output, function=Function.AFFINE, alpha=factor))


def matmul(node: Node) -> None:
    a_shape, b_shape = node.shape(0), node.shape(1)
    node.require(len(a_shape) >= 1 and len(b_shape) >= 1, "a scalar operand", "rank 1 or more")
    if node.is_constant(1) and _is_matrix(b_shape):
        _dense_right(node, a_shape, b_shape)
    elif node.is_constant(0) and len(a_shape) == 2 and len(b_shape) >= 2:
        _dense_left(node, len(b_shape))
    else:
        _matmul_of_activations(node, a_shape, b_shape)


def _is_matrix(shape: tuple[int, ...]) -> bool:
    return all(extent == 1 for extent in shape[:-2])


def _dense_right(node: Node, a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> None:
    """x @ B as a Dense; a vector B gives a result without the last axis."""
    b = node.floats(1, "B")
    matrix = b.reshape(b_shape[-2:]) if b.ndim >= 2 else b[:, np.newaxis]
    weight = node.weight(1, matrix.T, "NK")
    zeros = node.new_constant("bias", np.zeros(matrix.shape[1], np.float32))
    shape = _product_shape(a_shape, b_shape)
    exact = (*a_shape[:-1], matrix.shape[1]) == shape
    y = node.add(
        Dense(inputs=(node.x(0), weight, zeros), output=node.out() if exact else node.part("dense"))
    )
    if not exact:
        node.add(Reshape(inputs=(y,), output=node.out(), shape=shape))


def _dense_left(node: Node, rank: int) -> None:
    """A @ x = (x.T @ A.T).T, a Dense with weight A between two transposes."""
    a = node.floats(0, "A")
    swap = (*range(rank - 2), rank - 1, rank - 2)
    x = node.add(Transpose(inputs=(node.x(1),), output=node.part("x"), permutation=swap))
    zeros = node.new_constant("bias", np.zeros(a.shape[0], np.float32))
    y = node.add(Dense(inputs=(x, node.weight(0, a, "NK"), zeros), output=node.part("dense")))
    node.add(Transpose(inputs=(y,), output=node.out(), permutation=swap))


def _matmul_of_activations(node: Node, a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> None:
    a, b = node.x(0), node.x(1)
    if len(a_shape) == 1:
        a = node.add(Reshape(inputs=(a,), output=node.part("a"), shape=(1, *a_shape)))
    if len(b_shape) == 1:
        b = node.add(Reshape(inputs=(b,), output=node.part("b"), shape=(*b_shape, 1)))
    exact = len(a_shape) >= 2 and len(b_shape) >= 2
    y = node.add(MatMul(inputs=(a, b), output=node.out() if exact else node.part("product")))
    if not exact:
        shape = _product_shape(a_shape, b_shape)
        node.add(Reshape(inputs=(y,), output=node.out(), shape=shape))


def _product_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of numpy's matmul, whose vectors lose their axis."""
    leading = np.broadcast_shapes(a[:-2], b[:-2])
    return (*leading, *a[-2:-1], *(b[-1:] if len(b) >= 2 else ()))


def batch_normalization(node: Node) -> None:
    node.require(node.integer("training_mode", 0) == 0, "training_mode=1", "training_mode=0")
    node.require(node.integer("spatial", 1) == 1, "spatial=0", "spatial=1")
    node.require(
        all(node.unused(i) for i in range(1, len(node.proto.output))),
        "its statistics are used as outputs",
        "only the first output (inference)",
    )
    rank = len(node.shape())
    node.require(rank >= 2, f"input of rank {rank}", "rank 2 or more, channels on axis 1")
    names = ("scale", "B", "mean", "var")
    data = [node.floats(i, name) for i, name in enumerate(names, start=1)]
    eps = node.number("epsilon", 1e-5)
    node.require(bool((data[3] + eps > 0).all()), "var + epsilon is not positive")
    parameters = [node.weight(i, d, "") for i, d in enumerate(data, start=1)]
    x = node.x()
    if rank > 2:
        last = (0, *range(2, rank), 1)
        x = node.add(Transpose(inputs=(x,), output=node.part("last"), permutation=last))
    y = node.add(
        BatchNorm(
            inputs=(x, *parameters),
            output=node.out() if rank == 2 else node.part("norm"),
            eps=eps,
        )
    )
    if rank > 2:
        first = (0, rank - 1, *range(1, rank - 1))
        node.add(Transpose(inputs=(y,), output=node.out(), permutation=first))


RULES: Mapping[str, Rule] = {
    "BatchNormalization": batch_normalization,
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
}
