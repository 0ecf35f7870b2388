"""Recipes that try nothing: fixed answers for every field that is "auto"."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from qcomp.config import AUTO, QuantizationConfig

DATA_FREE = "data-free"
_FAST: Mapping[str, Any] = {
    "range": "mse",
    "weight_range": "minmax",
    "absorb_bias": False,
    "bias_correction": "empirical",
    "rounding": "nearest",
}
_DATA_FREE: Mapping[str, Any] = {
    **_FAST,
    "range": "batchnorm",
    "bias_correction": "analytic",
}


def settled(config: QuantizationConfig, *, calibrated: bool) -> QuantizationConfig:
    """The configuration with no field left "auto"."""
    answers = _FAST if calibrated and config.recipe != DATA_FREE else _DATA_FREE
    # With scales per channel equalization gains nothing on most networks (docs/decisions.md).
    answers = {**answers, "equalize": not config.per_channel}
    left = {k: v for k, v in answers.items() if getattr(config, k) == AUTO}
    return dataclasses.replace(config, **left)
