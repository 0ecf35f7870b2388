"""Recipes that try nothing: fixed answers for every field that is "auto"."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from qcomp.config import AUTO, QuantizationConfig

DATA_FREE = "data-free"
_FAST: Mapping[str, Any] = {
    "activation_bits": 8,
    "range": "mse",
    "weight_range": "minmax",
    "smooth": True,
    "absorb_bias": False,
    "bias_correction": "empirical",
    "rounding": "nearest",
}
_DATA_FREE: Mapping[str, Any] = {
    **_FAST,
    "range": "batchnorm",
    "smooth": False,
    "bias_correction": "analytic",
}
_AS_GIVEN: Mapping[str, Any] = {
    "activation_bits": 8,
    "weight_range": "minmax",
    "equalize": False,
    "smooth": False,
    "absorb_bias": False,
    "bias_correction": None,
    "rounding": "nearest",
}


def as_given(config: QuantizationConfig) -> QuantizationConfig:
    """For a model that is quantized already: its weights and biases stay as they are."""
    left = {k: v for k, v in _AS_GIVEN.items() if getattr(config, k) == AUTO}
    return dataclasses.replace(config, **left)


def settled(config: QuantizationConfig, *, calibrated: bool) -> QuantizationConfig:
    """The configuration with no field left "auto"."""
    with_data = calibrated and config.recipe != DATA_FREE
    answers = _FAST if with_data else _DATA_FREE
    # With scales per channel equalization helps some networks and harms others: it is tried.
    answers = {**answers, "equalize": not config.per_channel}
    if with_data:
        answers |= _rounding(config)
    left = {k: v for k, v in answers.items() if getattr(config, k) == AUTO}
    return dataclasses.replace(config, **left)


def _rounding(config: QuantizationConfig) -> Mapping[str, Any]:
    """Weights are fitted to data where the recipe is to spare nothing, and where bits are few."""
    bits = [config.weight_bits, *(o.get("weight_bits", 8) for o in config.overrides.values())]
    rounding = config.rounding
    if rounding == AUTO:
        rounding = "adaround" if config.recipe == "best" else "gptq" if min(bits) < 8 else "nearest"
    return {} if rounding == "nearest" else {"rounding": rounding, "weight_range": "seqmse"}
