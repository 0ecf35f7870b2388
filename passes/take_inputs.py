"""Take inputs as the product has them.

    x (bytes, NHWC) -> (x - mean) / std -> transpose -> what the model's input was

Bytes are integers of scale 1 from the start, so that none is rounded. What follows goes where such
functions of the model's own go: into the weights of a layer that pads nothing, to the floats
outside, else into a table or a layer of one pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qcomp.errors import CompileError
from qcomp.input_forms import EVERY, InputForm
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Function, Mul, Sub, Transpose, Unary
from qcomp.ir.tensor import DType, Tensor, TensorId
from qcomp.passes.events import PassLog
from qcomp.quant.qparams import QParams

INTEGERS: Mapping[str, QParams | None] = {
    "float32": None,
    "uint8": QParams(1.0, -128),
    "int8": QParams(1.0, 0),
}
_TO_NHWC = (0, 2, 3, 1)
_TO_NCHW = (0, 3, 1, 2)


@dataclass(frozen=True)
class TakeInputs:
    """`forms` by the names of inputs; "*" is of those that have none of their own."""

    name: ClassVar[str] = "take-inputs"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    forms: Mapping[str, InputForm]

    def run(self, graph: Graph, log: PassLog) -> None:
        if unknown := [n for n in self.forms if n != EVERY and n not in graph.inputs]:
            raise CompileError(
                f"inputs: no input is named {', '.join(map(repr, unknown))}; expected some of "
                f"{', '.join(graph.inputs)}"
            )
        for name, id in list(graph.inputs.items()):
            form = self.forms.get(name, self.forms.get(EVERY))
            if form is None:
                continue
            if graph.tensor(id).qparams is not None and name not in self.forms:
                log.declined(name, "the model takes integers")
                continue
            _take(graph, name, id, form)
            log.did(f"{name}: {form.type}{'' if form.layout is None else f', {form.layout}'}")


def _take(graph: Graph, name: str, id: TensorId, form: InputForm) -> None:
    """The input becomes what is made of the new one; its readers read that."""
    model = graph.tensor(id)
    moves = form.layout is not None
    if moves and model.type.rank != 4:
        raise CompileError(f"inputs: {name!r} is {model.type}; a layout needs four axes")
    shape = model.type.shape
    if moves:
        shape = tuple(shape[axis] for axis in _TO_NHWC)
    given = Tensor(graph.fresh_id(f"{name}.given"), model.type.with_shape(shape))
    x = graph.add_tensor(replace(given, qparams=INTEGERS[form.type]))
    graph.inputs[name] = x
    x = _normalized(graph, name, x, form)
    if moves:
        output = graph.fresh_id(f"{name}.nchw")
        x = graph.add_op(Transpose(inputs=(x,), output=output, permutation=_TO_NCHW))
    if x == graph.inputs[name]:  # something must stand for the model's tensor
        output = graph.fresh_id(f"{name}.taken")
        x = graph.add_op(Transpose(inputs=(x,), output=output, permutation=_identity(shape)))
    graph.replace_uses(id, x)
    graph.update_tensor(replace(graph.tensor(x), origin=model.origin))


def _identity(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(len(shape)))


def _normalized(graph: Graph, name: str, x: TensorId, form: InputForm) -> TensorId:
    """(x - mean) / std: of one number a function of each element, else along the channels."""
    mean, std = np.array(form.mean), np.array(form.std)
    if form.channels == 1:
        if (form.mean, form.std) == ((0.0,), (1.0,)):
            return x
        scale, shift = 1.0 / std[0], -mean[0] / std[0]
        return graph.add_op(
            Unary(
                inputs=(x,),
                output=graph.fresh_id(f"{name}.normalized"),
                function=Function.AFFINE,
                alpha=float(scale),
                beta=float(shift),
            )
        )
    along = _channels(graph, name, x, form)
    constants = [
        graph.add_constant(f"{name}.{what}", np.broadcast_to(v, form.channels).reshape(along))
        for what, v in (("mean", mean.astype(np.float32)), ("std", (1.0 / std).astype(np.float32)))
    ]
    moved = Sub(inputs=(x, constants[0]), output=graph.fresh_id(f"{name}.centered"))
    scaled = (graph.add_op(moved), constants[1])
    return graph.add_op(Mul(inputs=scaled, output=graph.fresh_id(f"{name}.normalized")))


def _channels(graph: Graph, name: str, x: TensorId, form: InputForm) -> tuple[int, ...]:
    """A shape that broadcasts along the only axis with so many elements, or along the last."""
    type = graph.type(x)
    assert type.dtype is DType.F32
    axes = [i for i, extent in enumerate(type.shape) if extent == form.channels]
    if form.layout is not None:
        axes = [axis for axis in axes if axis == type.rank - 1]
    if len(axes) != 1:
        raise CompileError(
            f"inputs: {name!r} is {type}, and {len(axes)} of its axes have {form.channels} "
            "elements, as many as means or deviations; expected one, or one number for all"
        )
    return tuple(extent if i == axes[0] else 1 for i, extent in enumerate(type.shape))
