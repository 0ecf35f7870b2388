"""What each form asks of tensors, and of the edges between the ops that make and read them.

A float op is *kept* if its result is marked so (`Tensor.kept`): it is computed in floats in every
form. All others become integers. The two meet at border ops only:

    from              to a quantized op       to a kept op, or out of the graph
    graph input       quantize, dequantize    as it is, or quantize, dequantize
    quantized op      quantize, dequantize    quantize, dequantize
    kept op           quantize, dequantize    as it is
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Dequantize,
    Op,
    QSoftmax,
    Quantize,
    QuantizedConstant,
)
from qcomp.ir.tensor import FLOATS, DType, Tensor, TensorId
from qcomp.ir.text import format_op
from qcomp.quant.qparams import softmax_qparams

_INTEGERS = (DType.I8, DType.I16)
_Problems = Iterator[str]


def ranges_of_floats(graph: Graph) -> list[str]:
    """ANNOTATED: every f32 activation has a range."""
    return [f"%{t.id} has no range" for t in _floats(graph) if t.range is None]


def quantized_edges(graph: Graph) -> list[str]:
    """QDQ: what is not kept reads dequantized tensors and is read by quantizes only."""
    problems = [*_widths(graph), *_kept_marks(graph)]
    for op in graph.ops():
        if isinstance(op, Quantize) and graph.tensor(op.output).qparams is None:
            problems.append(f"{format_op(graph, op)}\n  the result has no qparams")
        if isinstance(op, Quantize | Dequantize | QuantizedConstant) or graph.is_kept(op):
            continue
        problems += [
            f"{format_op(graph, op)}\n  %{t} is not dequantized"
            for t in graph.activations(op)
            if not _is_readable(graph, op, t)
        ]
        if graph.type(op.output).dtype is DType.F32:
            readers = graph.consumers(op.output)
            if graph.is_output(op.output) or not all(isinstance(r, Quantize) for r in readers):
                problems.append(f"{format_op(graph, op)}\n  %{op.output} is not quantized")
    return problems


def _is_readable(graph: Graph, op: Op, id: TensorId) -> bool:
    """By an op that is not kept: an op whose result is no float may read a kept one as it is."""
    producer = graph.producer(id)
    if graph.type(op.output).dtype is not DType.F32 and graph.tensor(id).kept:
        return True
    return isinstance(producer, Dequantize | QuantizedConstant)


def integer_edges(graph: Graph) -> list[str]:
    """INTEGER: integers have a scale, copies keep it, and floats are those of kept ops."""
    problems = [*_widths(graph), *_kept_marks(graph), *_unkept_floats(graph), *_scales(graph)]
    for op in graph.ops():
        tied = [t for t in op.one_scale if not graph.is_constant(t)]
        if len({graph.tensor(t).qparams for t in tied}) > 1:
            problems.append(f"{format_op(graph, op)}\n  qparams of {_listed(tied)} differ")
        found = graph.tensor(op.output).qparams
        if isinstance(op, QSoftmax) and found is not None:
            expected = softmax_qparams(op.bits, op.finer)
            if found != expected:
                problems.append(f"{format_op(graph, op)}\n  expected qparams {expected}")
    return problems


def _listed(ids: Iterable[TensorId]) -> str:
    return ", ".join(f"%{id}" for id in ids)


def _widths(graph: Graph) -> _Problems:
    """Qparams are those of the element type; i16 and i32 are symmetric."""
    for tensor in graph.tensors():
        q, dtype = tensor.qparams, tensor.type.dtype
        if q is None or tensor.is_constant:
            continue
        if dtype is not DType.activation(q.bits):
            yield f"%{tensor.id}: {q} does not fit {tensor.type}"
        elif q.bits > 8 and q.zero_point != 0:
            yield f"%{tensor.id} is i{q.bits} with zero_point {q.zero_point}; expected 0"


def _kept_marks(graph: Graph) -> _Problems:
    """Only results of ops that compute floats from floats are kept."""
    for tensor in graph.tensors():
        producer = graph.producer(tensor.id)
        border = isinstance(producer, Dequantize | QuantizedConstant)
        if tensor.kept and (producer is None or border or tensor.type.dtype is not DType.F32):
            yield f"%{tensor.id} is kept; expected an f32 result of an op that computes"


def _unkept_floats(graph: Graph) -> _Problems:
    """Floats of an INTEGER graph: kept results, what is dequantized, and inputs for kept ops."""
    for tensor in _floats(graph):
        if tensor.kept or isinstance(graph.producer(tensor.id), Dequantize):
            continue
        readers = graph.consumers(tensor.id)
        is_input = graph.producer(tensor.id) is None
        if not (is_input and readers and all(_takes_floats(graph, op) for op in readers)):
            yield f"%{tensor.id} is f32"


def _takes_floats(graph: Graph, op: Op) -> bool:
    return isinstance(op, Quantize) or graph.is_kept(op)


def _floats(graph: Graph) -> Iterator[Tensor]:
    """The activations of float type."""
    return (t for t in graph.tensors() if not t.is_constant and t.type.dtype in FLOATS)


def _scales(graph: Graph) -> _Problems:
    """Every integer activation has qparams."""
    for tensor in graph.tensors():
        integer = not tensor.is_constant and tensor.type.dtype in _INTEGERS
        if integer and tensor.qparams is None:
            yield f"%{tensor.id} has no qparams"
