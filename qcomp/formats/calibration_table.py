"""Calibration tables of ONNX Runtime: the interval of each of a model's tensors, by its name.

`onnxruntime.quantization` writes them as JSON in two forms: `write_calibration_table` an object of
tensors, `save_tensors_data` the same under "data". Numbers may be arrays of one element.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Ranges = Mapping[str, tuple[float, float]]
_KIND = "CLS"


class BrokenTable(ValueError):
    """No calibration table, or one of something else than intervals."""


def table_text(ranges: Ranges) -> str:
    """As `onnxruntime.quantization.calibrate.load_tensors_data` reads it."""
    data = {
        name: {"lowest": _array(low), "highest": _array(high), _KIND: "TensorData"}
        for name, (low, high) in ranges.items()
    }
    method = {_KIND: "CalibrationMethod", "value": "CalibrationMethod.MinMax"}
    document = {_KIND: "TensorsData", "data": data, "calibration_method": method}
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _array(value: float) -> dict[str, Any]:
    return {"data": float(np.float32(value)), "dtype": "float32", _KIND: "numpy.array"}


def read_table(text: str) -> Ranges:
    """The intervals of either form; BrokenTable names the tensor that has none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenTable(f"is not JSON: {error}") from error
    found = document.get("data", document) if isinstance(document, dict) else None
    if not isinstance(found, dict) or not found:
        raise BrokenTable('holds no tensors; expected {"name": {"lowest": ..., "highest": ...}}')
    return {name: _interval(name, entry) for name, entry in found.items()}


def _interval(name: str, entry: Any) -> tuple[float, float]:
    if not isinstance(entry, dict) or not {"lowest", "highest"} <= entry.keys():
        raise BrokenTable(f"{name!r} has no lowest and highest value")
    low, high = _number(name, entry["lowest"]), _number(name, entry["highest"])
    if not -math.inf < low <= high < math.inf:
        raise BrokenTable(f"{name!r} lies in [{low}, {high}]; expected finite numbers in order")
    return low, high


def _number(name: str, value: Any) -> float:
    """Of a number, or of the only element of an array."""
    value = value.get("data") if isinstance(value, dict) else value
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BrokenTable(f"{name!r} has {value!r} for a number; expected one for all channels")
    return float(value)
