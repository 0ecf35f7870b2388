"""Static shapes of the graph's inputs: dynamic dimensions are bound once, at import."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from qcomp.errors import ModelError
from qcomp.frontends.limits import MAX_ELEMENTS, MAX_RANK
from qcomp.ir.tensor import DType, TensorType

_EXAMPLE = 224
_UNKNOWN = -1  # what some exporters write as the size of a dynamic dimension
_UNNAMED = ("?", "-1", "None")  # and as its name, though no two of them are the same


@dataclass(frozen=True)
class _Dimension:
    """One axis of one input: its size, or the names under which it can be bound."""

    input: str
    axis: int
    size: int | None
    parameter: str

    @property
    def place(self) -> str:
        return f"{self.input}:{self.axis}"


def bound_inputs(
    inputs: Sequence[onnx.ValueInfoProto], bind: Mapping[str, int], notes: list[str]
) -> dict[str, TensorType]:
    """The f32 type of each input; appends a note for each choice that was made for the user."""
    dimensions = {value.name: _dimensions(value) for value in inputs}
    sizes = _sizes([d for ds in dimensions.values() for d in ds], bind, notes)
    types = {
        name: TensorType(DType.F32, tuple(sizes[d.place] for d in ds))
        for name, ds in dimensions.items()
    }
    for name, type in types.items():
        if type.size > MAX_ELEMENTS:
            raise ModelError(f"input {name!r} would have {type.size} elements")
    return types


def element_type(value: onnx.ValueInfoProto) -> int:
    """The element type of a tensor value; ModelError for sequences and the like."""
    if value.type.WhichOneof("value") != "tensor_type":
        raise ModelError(f"input {value.name!r} is no tensor")
    return int(value.type.tensor_type.elem_type) or int(TensorProto.UNDEFINED)


def _dimensions(value: onnx.ValueInfoProto) -> list[_Dimension]:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise ModelError(f"input {value.name!r} has no shape; accepted: a shape of known rank")
    if len(tensor.shape.dim) > MAX_RANK:
        raise ModelError(
            f"input {value.name!r} has rank {len(tensor.shape.dim)}; accepted: up to {MAX_RANK}"
        )
    result = []
    for axis, dim in enumerate(tensor.shape.dim):
        size = dim.dim_value if dim.HasField("dim_value") and dim.dim_value != _UNKNOWN else None
        if size is not None and not 1 <= size <= MAX_ELEMENTS:
            raise ModelError(f"input {value.name!r}: dimension {axis} is {size}")
        parameter = "" if dim.dim_param in _UNNAMED else dim.dim_param
        result.append(_Dimension(value.name, axis, size, parameter))
    return result


def _sizes(
    dimensions: Sequence[_Dimension], bind: Mapping[str, int], notes: list[str]
) -> dict[str, int]:
    """The size of each axis by its place."""
    dynamic = [d for d in dimensions if d.size is None]
    _check_bind(dynamic, bind)
    chosen = dict(bind)
    for d in dynamic:
        if d.axis == 0 and d.parameter not in chosen and d.place not in chosen:
            chosen[d.parameter or d.place] = 1
            named = f" {d.parameter}" if d.parameter else " 0"
            notes.append(f"dimension{named} of input {d.input} bound to 1 (default batch)")
    sizes = {d.place: d.size for d in dimensions if d.size is not None}
    unbound = []
    for d in dynamic:
        size = chosen.get(d.place, chosen.get(d.parameter))
        if size is None:
            unbound.append(d)
        else:
            sizes[d.place] = size
    if unbound:
        names = list(dict.fromkeys(d.parameter or d.place for d in unbound))
        fields = ", ".join(f'"{name}": {_EXAMPLE}' for name in names)
        options = " ".join(f"--bind {shlex.quote(f'{name}={_EXAMPLE}')}" for name in names)
        raise ModelError(
            f"dynamic dimensions {', '.join(names)} have no size; add, with sizes of yours, "
            f"bind={{{fields}}} in Python or {options} on the command line"
        )
    return sizes


def _check_bind(dynamic: Sequence[_Dimension], bind: Mapping[str, int]) -> None:
    known = {name for d in dynamic for name in (d.parameter, d.place) if name}
    for name, size in bind.items():
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise ModelError(f"no dynamic dimension is named {name!r}; the model has: {listed}")
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_ELEMENTS:
            raise ModelError(f"dimension {name!r} can't be bound to {size!r}; accepted: 1 or more")
