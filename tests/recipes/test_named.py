"""The fixed answers: weights are fitted to data where there is some and it pays."""

from __future__ import annotations

import pytest

from qcomp.config import QuantizationConfig
from qcomp.recipes.named import settled


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({}, ("nearest", "minmax")),
        ({"recipe": "best"}, ("adaround", "seqmse")),
        ({"weight_bits": 4}, ("gptq", "seqmse")),
        ({"overrides": {"a": {"weight_bits": 4}}}, ("gptq", "seqmse")),
        ({"rounding": "gptq"}, ("gptq", "seqmse")),
        ({"rounding": "gptq", "weight_range": "mse"}, ("gptq", "mse")),
        ({"weight_bits": 4, "rounding": "nearest"}, ("nearest", "minmax")),
        ({"recipe": "data-free", "weight_bits": 4}, ("nearest", "minmax")),
    ],
    ids=str,
)
def test_rounding_and_ranges_of_weights(
    choices: dict[str, object], expected: tuple[str, str]
) -> None:
    config = settled(QuantizationConfig(**choices), calibrated=True)  # type: ignore[arg-type]
    assert (config.rounding, config.weight_range) == expected


def test_without_data_weights_are_rounded_to_nearest() -> None:
    config = settled(QuantizationConfig(recipe="best", weight_bits=4), calibrated=False)
    assert (config.rounding, config.weight_range) == ("nearest", "minmax")
