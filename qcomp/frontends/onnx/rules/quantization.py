"""QuantizeLinear and DequantizeLinear: values are floats in the graph, with the file's parameters.

A tensor that a model quantizes has its scale and zero point from then on (`Tensor.qparams`), which
no pass chooses anew. What quantization cuts off is a clamp, since tools leave out a ReLU whose
zeros are the lowest integer; what it rounds is left to the target's integers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from onnx import TensorProto

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.frontends.onnx.tensors import element_type_name
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    BatchNorm,
    Binary,
    Clamp,
    ClampRange,
    Concat,
    Maximum,
    MaxPool2d,
    Minimum,
    Movement,
    Op,
    Pad,
    Reshape,
    Softmax,
    Transpose,
    Weighted,
    ZeroStuff,
)
from qcomp.ir.tensor import DType, Mark, TensorId
from qcomp.quant.qparams import FINEST_SOFTMAX, QParams, integer_range, softmax_qparams

LIMITS: Mapping[int, tuple[int, int]] = {
    TensorProto.UINT8: (0, 255),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT16: (0, 65535),
    TensorProto.INT16: (-32768, 32767),
}
_UNSIGNED = (TensorProto.UINT8, TensorProto.UINT16)
_WHOLE = QParams(1.0)


def quantize_linear(node: Node) -> None:
    """The zero point, or the attribute output_dtype, says which integers; uint8 without either."""
    kind = node.element_type(2) if node.has(2) else node.integer("output_dtype", 0)
    found = _parameters(node, kind or TensorProto.UINT8)
    x = node.x()
    if found is None:
        node.alias(x)
        return
    node.alias(_given(node, x, *found))
    if kind in _UNSIGNED:
        _mark(node.graph, node.context.values[node.proto.output[0]])


def dequantize_linear(node: Node) -> None:
    """The value that was quantized; an input of integers gets its scale here."""
    graph, x = node.graph, node.x()
    given = graph.tensor(x).qparams
    kind = node.element_type(2) if node.has(2) else node.element_type(0)
    kind = kind if kind in LIMITS else TensorProto.INT8
    found = _parameters(node, kind)
    if found is not None and x in graph.inputs.values() and given in _BYTES:
        graph.update_tensor(replace(graph.tensor(x), qparams=found[0]))
        if kind in _UNSIGNED:
            _mark(graph, x)
    elif found is not None and given is not None:
        qparams, _ = found
        node.require(
            given == qparams,
            f"it reads %{x} with the scale {qparams.scale:.9g} and the zero point "
            f"{qparams.zero_point}, which was made with {given.scale:.9g} and {given.zero_point}",
            "the parameters with which the tensor was quantized",
        )
    node.alias(x)


_BYTES = (_WHOLE, QParams(1.0, -128))


def _parameters(node: Node, kind: int) -> tuple[QParams, ClampRange] | None:
    """Of a whole activation, and its range; 16 bits become symmetric ones that reach as far.

    None, with a note, where the file has one scale per channel; then the range is calibrated.
    """
    node.require(
        kind in LIMITS,
        f"integers of type {element_type_name(kind)}",
        ", ".join(map(element_type_name, LIMITS)),
    )
    scales = node.constant(1, "the scale").astype(np.float64).reshape(-1)
    zeros = node.constant(2, "the zero point").reshape(-1) if node.has(2) else np.zeros(1)
    node.require(scales.size >= 1 and zeros.size in (1, scales.size), "no scale or zero point")
    positive = bool(np.isfinite(scales).all() and (scales > 0).all())
    node.require(positive, "a scale that is not positive and finite")
    if len(set(zip(scales.tolist(), np.resize(zeros, scales.size).tolist(), strict=True))) > 1:
        told = f"{scales.size} activations scales of {node.proto.input[0]} are per channel"
        node.context.notes.append(f"{told}: its range is calibrated instead")
        return None
    scale, zero = float(np.float32(scales[0])), int(zeros[0])
    low, high = LIMITS[kind]
    node.require(low <= zero <= high, f"the zero point {zero} of [{low}, {high}]")
    reach = ClampRange(scale * (low - zero), scale * (high - zero))
    if high - low == 255:
        return QParams(scale, zero - low - 128), reach
    qmin, qmax = integer_range(16)
    wide = QParams.from_range(reach.low, reach.high, qmin=qmin, qmax=qmax, symmetric=True)
    return wide, reach


def _given(node: Node, x: TensorId, qparams: QParams, reach: ClampRange) -> TensorId:
    """x with these parameters: itself, or what is clamped to their range."""
    graph, known = node.graph, node.context.quantized
    if graph.is_constant(x) or graph.tensor(x).qparams == qparams:
        return x
    if (x, qparams) not in known:
        known[x, qparams] = _with_qparams(node, x, qparams, reach)
    return known[x, qparams]


def _with_qparams(node: Node, x: TensorId, qparams: QParams, reach: ClampRange) -> TensorId:
    graph = node.graph
    producer, source = graph.producer(x), _source(graph, x)
    if isinstance(producer, Concat | Maximum | Minimum) and graph.tensor(x).qparams is None:
        parts = [_given(node, t, qparams, reach) for t in producer.inputs]
        graph.set_inputs(producer, tuple(parts))
    elif (
        _is_fixed(graph, x, qparams)
        or isinstance(source, Weighted | BatchNorm)
        or (isinstance(source, Binary) and not _has_number(graph, source))
        or graph.tensor(x).qparams is not None
        or _copied_from(graph, x) not in (None, qparams)
    ):
        x = node.add(Clamp(inputs=(x,), output=node.part("range"), clamp=reach))
    graph.update_tensor(replace(graph.tensor(x), qparams=qparams))
    return x


def _is_fixed(graph: Graph, x: TensorId, qparams: QParams) -> bool:
    """Whether x is a softmax, whose integers have a scale of their own: other than these. It gets
    that one, so that it is rounded to both.
    """
    if type(_source(graph, x)) is not Softmax:
        return False
    largest = max(min(qparams.range[1], 1.0), 2.0**-FINEST_SOFTMAX)
    finer = math.floor(-math.log2(largest)) if qparams.bits == 8 else 0
    own = softmax_qparams(qparams.bits, finer)
    if own == qparams:
        return False
    if graph.tensor(x).qparams is None:
        graph.update_tensor(replace(graph.tensor(x), qparams=own))
    return True


def _has_number(graph: Graph, op: Op) -> bool:
    """Whether an operand is a number, so that the op is a function of one value: a table."""
    return any(graph.is_constant(t) and graph.type(t).size == 1 for t in op.inputs)


def _mark(graph: Graph, id: TensorId) -> None:
    """The model has the activation's integers without a sign."""
    tensor = graph.tensor(id)
    if not tensor.is_constant:
        graph.update_tensor(replace(tensor, origin=tensor.marked(Mark.UNSIGNED)))


def _copied_from(graph: Graph, x: TensorId) -> QParams | None:
    """The parameters of the integers that x would be a copy of."""
    op = graph.producer(x)
    while isinstance(op, Movement | MaxPool2d):
        if (known := graph.tensor(op.inputs[0]).qparams) is not None:
            return known
        op = graph.producer(op.inputs[0])
    return None


def _source(graph: Graph, x: TensorId) -> Op | None:
    """What computes a value that an importer moved to another layout."""
    op = graph.producer(x)
    while isinstance(op, Transpose | Reshape):
        op = graph.producer(op.inputs[0])
    return op


def spread_qparams(graph: Graph) -> None:
    """What integers are copied from or to has the same parameters, where it has none of its own."""
    moves = [op for op in graph.ops() if isinstance(op, Movement | MaxPool2d)]
    for op in reversed(moves):
        known = graph.tensor(op.output).qparams
        for t in op.inputs:
            if known is not None and not isinstance(op, Pad | ZeroStuff) and _is_free(graph, t):
                _give(graph, t, known, op.output)
    for op in moves:
        found = {graph.tensor(t).qparams for t in op.inputs if not graph.is_constant(t)}
        if len(found) == 1 and None not in found and _is_free(graph, op.output):
            source = next(t for t in op.inputs if not graph.is_constant(t))
            _give(graph, op.output, found.pop(), source)


def _give(graph: Graph, id: TensorId, qparams: QParams | None, source: TensorId) -> None:
    """Parameters that are those of another tensor."""
    graph.update_tensor(replace(graph.tensor(id), qparams=qparams))
    if Mark.UNSIGNED in graph.tensor(source).marks:
        _mark(graph, id)


def _is_free(graph: Graph, id: TensorId) -> bool:
    """An f32 result without parameters; inputs are the caller's."""
    tensor = graph.tensor(id)
    computed = not tensor.is_constant and id not in graph.inputs.values()
    return computed and tensor.type.dtype is DType.F32 and tensor.qparams is None


RULES: Mapping[str, Rule] = {
    "DequantizeLinear": dequantize_linear,
    "QuantizeLinear": quantize_linear,
}
