"""A calibration table of ONNX Runtime for calibration data: the intervals of the model's tensors.

They become overrides of ranges, for the tensors that stand for those of the model as they are. What
would change values or ask for data is left out where it is left to decide: channels are not
equalized, and biases not corrected.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qcomp.calibration.statistics import float_activations
from qcomp.config import AUTO, QuantizationConfig
from qcomp.errors import CalibrationError
from qcomp.formats.calibration_table import BrokenTable, Ranges, read_table
from qcomp.ir.graph import Graph
from qcomp.passes.lib.same_scale import scale_groups
from qcomp.quantizer import Quantizer

_LARGEST = 64 << 20  # bytes
_WITHOUT_DATA: Mapping[str, Any] = {
    "equalize": False,
    "absorb_bias": False,
    "bias_correction": None,
}


def table_of(calibration: Any) -> Ranges | None:
    """The table that calibration data is the path of; None for any other."""
    if not isinstance(calibration, str | os.PathLike) or Path(calibration).suffix != ".json":
        return None
    path = Path(calibration)
    try:
        if path.stat().st_size > _LARGEST:
            raise CalibrationError(f"{path}: expected a table of up to {_LARGEST >> 20} MB")
        return read_table(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, BrokenTable) as error:
        raise CalibrationError(f"calibration table {path}: {error}") from error


def with_table(
    quantizer: Quantizer, config: QuantizationConfig, table: Ranges | None
) -> tuple[QuantizationConfig, tuple[str, ...]]:
    """The configuration with a table's intervals, and what to tell; as it is without one.

    CalibrationError where no activation has an interval.
    """
    if table is None:
        return config, ()
    graph = quantizer.normalized
    names = {t: _name(graph, t) for t in float_activations(graph)}
    found = {t: table[name] for t, name in names.items() if name is not None and name in table}
    ranges = dict(found)
    for members in scale_groups(graph):
        known = [found[t] for t in members if t in found]
        if known:
            shared = (min(low for low, _ in known), max(high for _, high in known))
            ranges |= {t: shared for t in members if t not in found}
    if not ranges:
        raise CalibrationError(
            f"the calibration table names no tensor of the model: {', '.join([*table][:5])}"
        )
    overrides = {t: {"range": _widened(interval)} for t, interval in ranges.items()}
    for key, fields in config.overrides.items():
        overrides[key] = {**overrides.get(key, {}), **fields}
    left = {k: v for k, v in _WITHOUT_DATA.items() if getattr(config, k) == AUTO}
    note = f"ranges of {len(found)} activations come from a calibration table of {len(table)}"
    return dataclasses.replace(config, overrides=overrides, **left), (note,)


def _name(graph: Graph, id: str) -> str | None:
    """Of the tensor of the model that has the same values."""
    origin = graph.tensor(id).origin
    if origin is None or origin.rewritten_by or origin.scale is not None:
        return None
    return origin.name


def _widened(interval: tuple[float, float]) -> tuple[float, float]:
    """An interval of one number holds 0 too, as all ranges do."""
    low, high = interval
    return (low, high) if low < high else (min(low, 0.0), max(high, 0.0, low + 1e-6))
