"""Parts of outputs that are inaccurate, or that take hardly any integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from qcomp.accuracy.parts import Part
from qcomp.accuracy.record import Accuracy, PartAccuracy
from qcomp.findings.record import Finding, Kind

LEAST_DB = 20.0
LEAST_INTEGERS = 8
_WORTHWHILE_DB = 3.0  # that 16 bits have to gain to be the advice
_DRIFT_DB = 3.0  # that later steps lose; up to 1.3 where errors do not grow and inputs are alike
_STEADIER = (
    "longer sequences in --calibration tell whether that goes on; --activation-bits 16 has smaller "
    "errors from the start"
)
_RECIPE = "try --recipe best, or other values in --calibration"

Ratios = Mapping[Part, float]


def inaccurate(
    accuracy: Accuracy, wider: Callable[[], Ratios], least_db: float
) -> Iterator[Finding]:
    """Parts below `least_db`, the worst first; `wider` gives the ratios of 16-bit activations."""
    below = [p for p in accuracy.parts if p.sqnr_db is not None and p.sqnr_db < least_db]
    wide = wider() if below else {}
    for part in sorted(below, key=_ratio):
        text = f"{_ratio(part):.1f} dB, under {least_db:g}"
        if _takes_few(part):
            text += f", in {part.integers} of 256 integers"
        help = _advice(_ratio(part), wide.get(part.part))
        yield Finding(Kind.INACCURATE, str(part.part), _ratio(part), text, help)


def drift(accuracy: Accuracy) -> Iterator[Finding]:
    """Of a network with states, later steps that are less accurate than earlier ones. The first
    ones begin with states that are exact, so they are not looked at.
    """
    later = [steps for steps in accuracy.steps[1:] if steps.sqnr_db is not None]
    if len(later) < 2:
        return
    first, last = later[0], later[-1]
    lost = (first.sqnr_db or 0.0) - (last.sqnr_db or 0.0)
    if lost > _DRIFT_DB:
        text = f"the later steps of a sequence are less accurate: {first}; {last}"
        yield Finding(Kind.DRIFT, "states", lost, text, _STEADIER)


def few_integers(accuracy: Accuracy, least_db: float) -> Iterator[Finding]:
    """Parts that are accurate enough, but take fewer integers than with a range of their own."""
    few = [p for p in accuracy.parts if _takes_few(p) and _ratio(p) >= least_db]
    for part in sorted(few, key=lambda p: p.integers):
        text = (
            f"takes {part.integers} of 256 integers, where a range of its own would give it "
            f"{part.own_integers}"
        )
        help = "--activation-bits 16, or an output of its own"
        yield Finding(Kind.FEW_INTEGERS, str(part.part), part.integers, text, help)


def _takes_few(part: PartAccuracy) -> bool:
    return part.integers < LEAST_INTEGERS and part.own_integers >= 2 * LEAST_INTEGERS


def _ratio(part: PartAccuracy) -> float:
    return float("inf") if part.sqnr_db is None else part.sqnr_db


def _advice(ratio: float, wide: float | None) -> str:
    if wide is None:
        return _RECIPE
    if wide < ratio + _WORTHWHILE_DB:
        return f"16-bit activations give {wide:.1f} dB, so weights or ranges limit it: {_RECIPE}"
    return f"16-bit activations give {wide:.1f} dB: --activation-bits 16"
