"""Choices of a configuration, each made otherwise: what a bisection tries one at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qcomp.config import QuantizationConfig


@dataclass(frozen=True)
class Choice:
    """A choice that is made otherwise.

    name: the field, or what an override is for. told: the change, and the option that makes it.
    """

    name: str
    told: str
    apply: Callable[[QuantizationConfig], QuantizationConfig]


def choices(config: QuantizationConfig, *, has_data: bool) -> Iterator[Choice]:
    """Of a configuration with no field left "auto"; `has_data`: layers can be fitted to some."""
    for name, other, option in _others(config, has_data=has_data):
        yield _field(config, name, other, option)


def overrides(config: QuantizationConfig) -> list[Choice]:
    """The configuration without one of its overrides."""
    return list(_overrides(config))


def _overrides(config: QuantizationConfig) -> Iterator[Choice]:
    for key, fields in config.overrides.items():
        told = ", ".join(f"{name}={value}" for name, value in fields.items())
        yield Choice(f"override {key}", f"without the override {told}", _without(key))


def _others(config: QuantizationConfig, *, has_data: bool) -> Iterator[tuple[str, Any, str]]:
    """Fields with another value and how it is asked for, the coarse ones first."""
    yield "per_channel", not config.per_channel, "--per-tensor" if config.per_channel else ""
    yield "equalize", not config.equalize, "recipe: equalize"
    if config.absorb_bias:
        yield "absorb_bias", False, "recipe: absorb_bias"
    correction = "empirical" if has_data else "analytic"
    other = None if config.bias_correction is not None else correction
    yield "bias_correction", other, "recipe: bias_correction"
    if has_data:
        range_ = "mse" if config.range == "minmax" else "minmax"
        yield "range", range_, f"--range {range_}"
    weights = "mse" if config.weight_range == "minmax" else "minmax"
    yield "weight_range", weights, "recipe: weight_range"
    if config.rounding != "nearest":
        yield "rounding", "nearest", "--rounding nearest"
    if config.snap_scales:
        yield "snap_scales", False, "recipe: snap_scales"
    if config.symmetric_activations:
        yield "symmetric_activations", False, "recipe: symmetric_activations"
    if config.power_of_two_scales:
        yield "power_of_two_scales", False, "recipe: power_of_two_scales"
    if config.weight_bits < 8:
        yield "weight_bits", 8, "--weight-bits 8"
    if config.first_last_weight_bits < 8:
        yield "first_last_weight_bits", 8, "recipe: first_last_weight_bits"
    if config.activation_bits == 8:
        yield "activation_bits", 16, "--activation-bits 16"


def _field(config: QuantizationConfig, name: str, other: Any, option: str) -> Choice:
    told = f"{name} {getattr(config, name)} -> {other}"
    return Choice(
        name,
        f"{told} ({option})" if option else told,
        lambda config: dataclasses.replace(config, **{name: other}),
    )


def _without(key: str) -> Callable[[QuantizationConfig], QuantizationConfig]:
    def apply(config: QuantizationConfig) -> QuantizationConfig:
        kept: Mapping[str, Any] = {k: f for k, f in config.overrides.items() if k != key}
        return dataclasses.replace(config, overrides=kept)

    return apply
