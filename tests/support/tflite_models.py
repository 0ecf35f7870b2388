"""TFLite files for tests, written by the code that was generated from their schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

KINDS: Mapping[Any, int] = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int64): schema.TensorType.INT64,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}
Scale = tuple[Any, Any] | tuple[Any, Any, int] | None


@dataclass
class ModelBuilder:
    """One graph: add tensors, then operators; each is known by its index."""

    tensors: list[Any] = field(default_factory=list)
    operators: list[Any] = field(default_factory=list)
    codes: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    inputs: list[int] = field(default_factory=list)

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: Any = np.float32,
        scale: Scale = None,
        *,
        kind: int | None = None,
    ) -> int:
        """An activation; `scale` is (scale, zero point), with an axis where there are several."""
        t = schema.TensorT()
        t.name, t.shape, t.buffer = name, list(shape), 0
        t.type = KINDS[np.dtype(dtype)] if kind is None else kind
        t.quantization = schema.QuantizationParametersT()
        if scale is not None:
            t.quantization.scale = np.atleast_1d(scale[0]).astype(np.float32).tolist()
            t.quantization.zeroPoint = np.atleast_1d(scale[1]).astype(np.int64).tolist()
            t.quantization.quantizedDimension = scale[2] if len(scale) > 2 else 0
        self.tensors.append(t)
        return len(self.tensors) - 1

    def input(
        self, name: str, shape: Sequence[int], dtype: Any = np.float32, scale: Scale = None
    ) -> int:
        self.inputs.append(self.tensor(name, shape, dtype, scale))
        return self.inputs[-1]

    def constant(
        self,
        name: str,
        data: NDArray[Any],
        scale: Scale = None,
        *,
        kind: int | None = None,
        raw: bytes | None = None,
    ) -> int:
        """`raw`: other bytes than those of `data`."""
        index = self.tensor(name, data.shape, data.dtype, scale, kind=kind)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data.tobytes() if raw is None else raw, np.uint8)
        self.buffers.append(buffer)
        self.tensors[index].buffer = len(self.buffers) - 1
        return index

    def op(self, name: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any) -> None:
        """A builtin operator; `table` names its options, `custom` one that is none."""
        code = schema.OperatorCodeT()
        custom = options.pop("custom", None)
        number = getattr(schema.BuiltinOperator, name)
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        code.customCode, code.version = custom, options.pop("version", 1)
        self.codes.append(code)
        op = schema.OperatorT()
        op.opcodeIndex = len(self.codes) - 1
        op.inputs, op.outputs = list(inputs), list(outputs)
        if table := options.pop("table", None):
            op.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            op.builtinOptions = getattr(schema, f"{table}T")()
            for field_name, value in options.items():
                setattr(op.builtinOptions, field_name, value)
        self.operators.append(op)

    def build(self, *outputs: int) -> bytes:
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs, graph.name = self.inputs, list(outputs), "main"
        model = schema.ModelT()
        model.version, model.description = 3, ""
        model.operatorCodes, model.subgraphs, model.buffers = self.codes, [graph], self.buffers
        return packed(model, b"TFL3")


def packed(table: Any, mark: bytes | None = None) -> bytes:
    """A file with this table at its beginning."""
    builder = flatbuffers.Builder(1024)
    root = table.Pack(builder)
    builder.Finish(root, file_identifier=mark)
    return bytes(builder.Output())


def reference(model: bytes, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
    """What LiteRT's reference kernels give, or where there is none of a version, its others."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        resolver = OpResolverType.BUILTIN_REF
        interpreter = Interpreter(model_content=model, experimental_op_resolver_type=resolver)
    except ValueError:
        resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(model_content=model, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    for detail, x in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], x)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
