"""The inputs of a model: floats of any width, integers and truth values, or bound to a value.

All are f32 in the graph. Inputs of 8 bits and truth values are integers already: they have qparams
from the start, with which no value is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import onnx.helper
from numpy.typing import ArrayLike
from onnx import TensorProto

from qcomp.errors import ModelError
from qcomp.frontends.onnx.context import Context
from qcomp.frontends.onnx.shapes import bound_inputs, element_type
from qcomp.frontends.onnx.tensors import NUMBERS, element_type_name
from qcomp.ir.ops import Clamp, ClampRange
from qcomp.ir.tensor import Array, Origin, TensorType
from qcomp.quant.qparams import QParams

BYTES: Mapping[int, QParams] = {
    TensorProto.UINT8: QParams(1.0, -128),
    TensorProto.INT8: QParams(1.0, 0),
    TensorProto.BOOL: QParams(1.0, 0),
}
UNIT = ClampRange(0.0, 1.0)


def read_inputs(
    graph: onnx.GraphProto, bind: Mapping[str, int], values: Mapping[str, ArrayLike], to: Context
) -> list[str]:
    """Add the inputs that are no initializers to the context; what is wrong with the others."""
    given = [value for value in graph.input if value.name not in to.constants]
    kinds = {value.name: element_type(value) for value in given}
    unknown = [name for name in values if name not in kinds]
    if unknown:
        raise ModelError(
            f"no input is named {', '.join(map(repr, unknown))}; the model has: "
            f"{', '.join(sorted(kinds))}"
        )
    refused = [name for name, kind in kinds.items() if kind not in NUMBERS]
    names = ", ".join(element_type_name(kind) for kind in sorted(NUMBERS))
    problems = [
        f"input {name!r}: element type {element_type_name(kinds[name])}; accepted: {names}"
        for name in refused
    ]
    try:
        types = bound_inputs(given, bind, to.notes)
    except ModelError as error:
        raise ModelError("\n".join([str(error), *problems])) from error
    for name, type in types.items():
        if name in refused:
            continue
        if name in values:
            to.constants[name] = _bound(name, values[name], type, kinds[name])
        else:
            _add(name, type, kinds[name], to)
    to.lost.update(refused)
    return problems


def _bound(name: str, value: ArrayLike, type: TensorType, kind: int) -> Array:
    """The constant of an input's shape and element type, or ModelError."""
    is_brief = kind == TensorProto.BFLOAT16  # numpy has no such type
    dtype = np.float32 if is_brief else onnx.helper.tensor_dtype_to_np_dtype(kind)
    try:
        return np.broadcast_to(np.asarray(value, dtype), type.shape).copy()
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"input {name!r} can't be bound to {value!r}: {error}") from error


def _add(name: str, type: TensorType, kind: int, to: Context) -> None:
    id = to.graph.add_input(name, type)
    tensor = replace(to.graph.tensor(id), origin=Origin(name), qparams=BYTES.get(kind))
    to.graph.update_tensor(tensor)
    if kind == TensorProto.BOOL:  # whatever numbers stand for true
        unit = Clamp(inputs=(id,), output=to.graph.fresh_id(f"{id}.unit"), clamp=UNIT)
        id = to.graph.add_op(unit)
    to.values[name] = id
    to.element_types[name] = kind


def note_inputs(context: Context) -> None:
    """Tell of those whose type the graph does not keep; indices of a table stay integers."""
    for name, id in context.graph.inputs.items():
        kind = context.element_type(name)
        if kind != TensorProto.FLOAT and context.graph.tensor(id).qparams is None:
            context.notes.append(f"input {name} of {element_type_name(kind)} is taken as float32")
