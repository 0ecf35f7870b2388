"""Estimators of ranges by name: qcomp's own, and other packages', whose results are checked."""

from __future__ import annotations

import math

from qcomp.config import RANGES, QuantizationConfig
from qcomp.errors import CalibrationError, did_you_mean
from qcomp.extensions import ESTIMATORS as OTHERS
from qcomp.extensions import Found, is_own
from qcomp.quant.distribution import Distribution, Range
from qcomp.quant.estimators import ESTIMATORS, Estimator
from qcomp.quant.integer_grid import IntegerGrid


def estimator_of(name: str) -> Estimator:
    """The function; CalibrationError for an unknown one, ExtensionError for a broken one."""
    if name in ESTIMATORS:
        return ESTIMATORS[name]
    if not is_own(name):
        raise CalibrationError(
            f"range={name!r}: expected one of {', '.join(RANGES)}, or the estimator of a package, "
            f"whose name has a dot{did_you_mean(name, RANGES)}"
        )
    return _checked(OTHERS.find(name))


def expect_estimators(config: QuantizationConfig) -> None:
    """ExtensionError where the configuration names an estimator that can't be had."""
    chosen = [config.range, *(fields.get("range") for fields in config.overrides.values())]
    for name in dict.fromkeys(filter(is_own, chosen)):
        OTHERS.find(str(name))


def _checked(found: Found[Estimator]) -> Estimator:
    """Told by its name for whatever it raises, and for what is no interval."""

    def estimate(distribution: Distribution, grid: IntegerGrid) -> Range:
        try:
            low, high = map(float, found.value(distribution, grid))
        except Exception as error:  # of code that is not ours, whatever it raises
            raise CalibrationError(
                f"estimator {found.name}, {found.source}: {type(error).__name__}: {error}"
            ) from error
        if not -math.inf < low <= high < math.inf:
            raise CalibrationError(
                f"estimator {found.name}, {found.source}, gives {(low, high)}; expected finite "
                "numbers (low, high), low <= high"
            )
        return low, high

    return estimate
