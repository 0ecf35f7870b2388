"""One item of calibration data: arrays by input name, without labels that may come with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.calibration.runs import InMemory, Inputs, Stored, Tell
from qcomp.errors import CalibrationError

LABELS = ("label", "labels", "target", "targets", "class", "classes", "y")


def by_name(where: str, item: object, inputs: Inputs, tell: Tell) -> dict[str, Stored]:
    """The arrays of one item by input name, whether it is an array, a dict or a tuple."""
    if isinstance(item, Mapping):
        named = _without_labels_by_name(dict(item), inputs, tell)
    elif isinstance(item, tuple | list):
        values = _without_labels(item, inputs, tell)
        if len(values) != len(inputs):
            raise CalibrationError(
                f"{where}: {len(values)} arrays for {len(inputs)} inputs; expected "
                f"{names_of(inputs)}, without labels"
            )
        named = dict(zip(inputs, values, strict=True))
    elif len(inputs) == 1:
        named = {next(iter(inputs)): item}
    else:
        raise CalibrationError(
            f"{where}: one {type(item).__name__} for {len(inputs)} inputs; expected a dict or a "
            f"tuple with {names_of(inputs)}"
        )
    unknown = [str(name) for name in named if name not in inputs]
    if missing := [name for name in inputs if name not in named]:
        has = f"; it has {', '.join(unknown)}" if unknown else ""
        raise CalibrationError(f"{where}: no array for input {', '.join(missing)}{has}")
    if unknown:
        raise CalibrationError(
            f"{where}: no input is named {', '.join(unknown)}; expected {names_of(inputs)}"
        )
    return {name: InMemory(array_of(where, name, named[name])) for name in inputs}


def names_of(inputs: Inputs) -> str:
    """`a: f32[1,2], b: f32[1,3]`."""
    return ", ".join(f"{name}: {type}" for name, type in inputs.items())


def is_array(value: object) -> bool:
    """Whether it is an array of numpy, or says how it becomes one."""
    return hasattr(value, "__array__")


def array_of(where: str, name: str, value: object) -> NDArray[Any]:
    """A value as an array of numpy; those of torch leave their device and their gradient."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
    if not is_array(value):
        raise CalibrationError(
            f"{where}, input {name}: expected a numpy array, got {type(value).__name__}"
        )
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CalibrationError(f"{where}, input {name}: is no array of numpy: {error}") from error


def are_labels(value: object) -> bool:
    """Whether a value beside the inputs is a class, one for each sample or a text."""
    if isinstance(value, str | int | np.integer):
        return True
    if isinstance(value, Sequence):
        return all(isinstance(v, str | int | np.integer) for v in value)
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        return False
    is_whole = "int" in str(value.dtype) or "bool" in str(value.dtype)
    return is_whole and len(value.shape) <= 2 and all(extent == 1 for extent in value.shape[1:])


def _without_labels(item: Sequence[object], inputs: Inputs, tell: Tell) -> Sequence[object]:
    is_longer = len(item) == len(inputs) + 1 > 1
    if is_longer and is_array(item[0]) and are_labels(item[-1]):
        tell("the last value of each item left out: a label")
        return item[:-1]
    return item


def _without_labels_by_name(
    item: dict[Any, object], inputs: Inputs, tell: Tell
) -> dict[Any, object]:
    labels = [name for name in item if name in LABELS and name not in inputs]
    if labels:
        tell(f"{', '.join(labels)} of each item left out: labels")
    return {name: value for name, value in item.items() if name not in labels}
