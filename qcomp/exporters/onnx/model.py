"""A float, annotated or QDQ graph as an ONNX model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper, numpy_helper

from qcomp.errors import UnsupportedOp
from qcomp.exporters.onnx import (
    attention,
    choice,
    dynamic,
    elementwise,
    ends,
    linear,
    movement,
    normalization,
    recurrent,
    reduction,
)
from qcomp.exporters.onnx.dialect import EXCHANGE, SESSION, Dialect
from qcomp.exporters.onnx.writer import OPEN_FIELDS, Writer, open_name
from qcomp.ir.exemptions import Exemptions, exemption
from qcomp.ir.graph import Graph
from qcomp.ir.merged import merged
from qcomp.ir.ops import Domain, Op
from qcomp.ir.tensor import Array, TensorId, TensorType
from qcomp.ir.text import format_op

_LARGE = 1 << 14  # bytes

RULES: Mapping[type[Op], Callable[..., None]] = merged(
    attention.RULES,
    choice.RULES,
    elementwise.RULES,
    linear.RULES,
    movement.RULES,
    recurrent.RULES,
    dynamic.RULES,
    normalization.RULES,
    reduction.RULES,
)

EXEMPT: Exemptions = {Domain.INTEGER: "has no ONNX form; export before integers"}


def export_onnx(
    graph: Graph,
    *,
    extra_outputs: Sequence[TensorId] = (),
    open_tensors: Sequence[TensorId] = (),
) -> onnx.ModelProto:
    """The model, with `extra_outputs` named by tensor id, in the graph's own layout (NHWC).

    The parameters of quantized tensors that are open are inputs of the model (`open_name`).
    UnsupportedOp lists the ops of integer graphs, which have no ONNX form.
    """
    return _model(graph, *_written(graph, extra_outputs, open_tensors), numpy_helper.from_array)


def export_floats(graph: Graph) -> tuple[onnx.ModelProto, Mapping[TensorId, Sequence[str]]]:
    """A float graph as other tools read it, and the names that its tensors have in the file."""
    writer, outputs = _written(graph, (), (), EXCHANGE)
    return _model(graph, writer, outputs, numpy_helper.from_array), writer.names()


def export_qdq(graph: Graph) -> onnx.ModelProto:
    """A QDQ graph as other tools read it (`EXCHANGE`): floats of the caller in and out.

    UnsupportedOp lists the ops that have no ONNX form.
    """
    written = _written(graph, (), (), EXCHANGE)
    return _model(graph, *written, numpy_helper.from_array)


@dataclass(frozen=True, eq=False)
class Exported:
    """A model without its large arrays, which are external initializers of these names."""

    model: onnx.ModelProto
    arrays: Mapping[str, Array]


def export_with_arrays(
    graph: Graph,
    *,
    extra_outputs: Sequence[TensorId],
    open_tensors: Sequence[TensorId],
    channels_first: Collection[TensorId] = (),
) -> Exported:
    """As `export_onnx`, for a session in this process: large constants are not copied, and some
    inputs and outputs of rank 4 are NCHW.
    """
    writer, outputs = _written(graph, extra_outputs, open_tensors, channels_first=channels_first)
    large = {name: array for name, array in writer.arrays.items() if array.nbytes >= _LARGE}

    def initializer(array: Array, name: str) -> onnx.TensorProto:
        return _elsewhere(array, name) if name in large else numpy_helper.from_array(array, name)

    return Exported(_model(graph, writer, outputs, initializer), large)


def _written(
    graph: Graph,
    extra_outputs: Sequence[TensorId],
    open_tensors: Sequence[TensorId],
    dialect: Dialect = SESSION,
    channels_first: Collection[TensorId] = (),
) -> tuple[Writer, dict[str, TensorId]]:
    """The nodes, and the outputs by name."""
    ops = graph.ops()
    if missing := [op for op in ops if type(op) not in RULES]:
        raise UnsupportedOp([f"{format_op(graph, op)}\n  {_why(op)}" for op in missing])
    outputs = _outputs(graph, extra_outputs)
    changed = {*graph.conversions, *graph.tails} if dialect.in_callers_units else set()
    names = _value_names(graph, outputs, changed)
    writer = Writer(graph, names, open_tensors, dialect, channels_first)
    for name, id in graph.inputs.items():
        inside = ends.inward(writer, id, name, graph.conversions[name]) if name in changed else name
        writer.define(id, writer.layout(id), inside)
    for op in ops:
        RULES[type(op)](writer, op)
    for name, id in outputs.items():
        value = writer.read(id, writer.layout(id))
        if name in changed:
            value = ends.outward(writer, id, value, graph.conversions.get(name))
            value = ends.behind(writer, value, graph.tails.get(name))
        if value != name:
            writer.emit_as(name, "Identity", [value])
    return writer, outputs


def _why(op: Op) -> str:
    return exemption(EXEMPT, type(op)) or "expected a row in RULES of export"


def _outputs(graph: Graph, extra: Sequence[TensorId]) -> dict[str, TensorId]:
    """ONNX has one name space for inputs and outputs."""
    outputs = dict(graph.outputs)
    for name, id in ((t, t) for t in extra):
        if outputs.setdefault(name, id) != id:
            raise ValueError(f"%{id} can't be an extra output: another tensor is output {name}")
    for name, id in outputs.items():
        if graph.inputs.get(name, id) != id:
            raise ValueError(f"%{id} can't be output {name}: another tensor is input {name}")
    return outputs


def _value_names(
    graph: Graph, outputs: Mapping[str, TensorId], changed: Collection[str]
) -> dict[TensorId, str]:
    """Results take the names of outputs; everything else its id, marked where that is taken.

    `changed` names inputs and outputs whose values outside are others than in the graph.
    """
    public = {*graph.inputs, *outputs}
    names = {t.id: t.id if t.id not in public else f"{t.id}:value" for t in graph.tensors()}
    same = {name: id for name, id in outputs.items() if name not in changed}
    names |= {id: name for name, id in same.items() if graph.producer(id) is not None}
    return names | {id: name for name, id in graph.inputs.items() if name not in changed}


def _elsewhere(array: Array, name: str) -> onnx.TensorProto:
    """An initializer that is given to the session."""
    tensor = onnx.TensorProto(name=name, dims=array.shape)
    tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "in memory"), ("length", str(array.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def _model(
    graph: Graph,
    writer: Writer,
    outputs: Mapping[str, TensorId],
    initializer: Callable[[Array, str], onnx.TensorProto],
) -> onnx.ModelProto:
    def value_info(name: str, id: TensorId) -> onnx.ValueInfoProto:
        type = graph.type(id)
        shape = writer.layout(id).arranged(type.shape)
        return helper.make_tensor_value_info(name, _element_type(type), shape)

    proto = helper.make_graph(
        writer.nodes,
        graph.name,
        [
            *(value_info(name, id) for name, id in graph.inputs.items()),
            *_open_parameters(graph, writer),
        ],
        [value_info(name, id) for name, id in outputs.items()],
        [initializer(array, name) for name, array in writer.arrays.items()],
    )
    return helper.make_model(
        proto,
        producer_name="qcomp",
        opset_imports=[
            helper.make_opsetid("", writer.dialect.opset),
            *(helper.make_opsetid(d, 1) for d in sorted({n.domain for n in writer.nodes} - {""})),
        ],
        ir_version=writer.dialect.ir_version,
    )


def _open_parameters(graph: Graph, writer: Writer) -> list[onnx.ValueInfoProto]:
    """Arrays that broadcast to their tensors, of any extent along the last axis."""
    return [
        helper.make_tensor_value_info(
            open_name(id, field), onnx.TensorProto.FLOAT, _open_shape(graph.type(id).rank)
        )
        for id in sorted(writer.open_tensors)
        for field in OPEN_FIELDS
    ]


def _open_shape(rank: int) -> list[int | None]:
    """One for each channel, or one for all."""
    return [*[1] * (rank - 1), None] if rank else []


def _element_type(type: TensorType) -> int:
    return helper.np_dtype_to_tensor_dtype(type.dtype.numpy)
