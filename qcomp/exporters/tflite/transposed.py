"""Transposed convolutions, which the graph has as zeros between pixels and a convolution.

A convolution of those pixels with k - 1 zeros around them gives all of what TensorFlow's VALID
gives; the padding that the graph has instead says what is cut from it.
"""

from __future__ import annotations

from qcomp.exporters.tflite.writer import Writer
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Conv2d, Dequantize, Quantize, ZeroStuff
from qcomp.ir.tensor import TensorId


def zeros_before(graph: Graph, op: Conv2d) -> ZeroStuff | None:
    """The zeros between the pixels of a convolution that is the half of a transposed one."""
    kernel = graph.type(op.weight).shape[1:3]
    top, left, bottom, right = op.padding
    is_half = op.groups == 1 and op.stride == op.dilation == (1, 1)
    if not is_half or max(top, bottom) >= kernel[0] or max(left, right) >= kernel[1]:
        return None
    zeros = _unrounded(graph, op.x)
    if not isinstance(zeros, ZeroStuff) or zeros.value != 0.0:
        return None
    before = graph.producer(zeros.x)
    after = graph.producer(op.x)
    assert isinstance(after, Dequantize)
    same = isinstance(before, Dequantize) and (
        graph.tensor(before.x).qparams == graph.tensor(after.x).qparams
    )
    return zeros if same else None


def is_absorbed(graph: Graph, op: ZeroStuff) -> bool:
    """Whether only such a convolution reads the zeros."""
    id: TensorId = op.output
    for _ in range(2):  # quantize, dequantize
        reader = graph.sole_consumer(id)
        if not isinstance(reader, Quantize | Dequantize):
            return False
        id = reader.output
    reader = graph.sole_consumer(id)
    return isinstance(reader, Conv2d) and zeros_before(graph, reader) is op


def _unrounded(graph: Graph, id: TensorId) -> object:
    """What gives the value that is quantized, and dequantized to this one, for one reader."""
    dequantize = graph.producer(id)
    if not isinstance(dequantize, Dequantize) or graph.sole_consumer(id) is None:
        return None
    quantize = graph.producer(dequantize.x)
    if not isinstance(quantize, Quantize) or graph.sole_consumer(dequantize.x) is None:
        return None
    return graph.producer(quantize.x) if graph.sole_consumer(quantize.x) is not None else None


def whole_shape(w: Writer, op: Conv2d) -> tuple[int, int, int, int]:
    """Of the result before anything is cut from it."""
    n, height, width, channels = w.shape(op.output)
    _, kh, kw, _ = w.shape(op.weight)
    top, left, bottom, right = op.padding
    rows = height + 2 * (kh - 1) - top - bottom
    return n, rows, width + 2 * (kw - 1) - left - right, channels
