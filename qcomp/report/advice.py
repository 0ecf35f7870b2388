"""What to try next, from what was measured: each with its number and the option that helps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qcomp.findings.record import told
from qcomp.report.alone import Cause
from qcomp.report.measure import Errors
from qcomp.report.network import Network

_MOST = 3  # ops that are named
_MUCH = 0.1  # of the error at the outputs, from which an op is named
_BIASED = 0.5  # of an error, that is the mean of channels
_LARGE = 0.3  # of an op's error, from which a cause is named

_HELP = {
    Cause.WEIGHTS: "its weights: try --recipe best, or --rounding adaround",
    Cause.BIAS: "its bias, corrected without data: try --recipe best",
    Cause.CLIPPING: "its range cuts values off: try --range minmax, or more --calibration data",
    Cause.ROUNDING: "its steps are too coarse: try 16 bits for it, activation_bits of an override "
    "in the recipe file",
    Cause.REQUANTIZE: "its fixed-point factors, which should be far below the rounding",
    Cause.TABLE: "its table, which should be far below the rounding",
}


def advice(net: Network, errors: Errors | None) -> list[dict[str, Any]]:
    """Findings of the compilation, then the ops that do most to the outputs."""
    found = [{"kind": "finding", "text": line} for line in told(net.findings)]
    return found + ([] if errors is None else list(_of_ops(errors)))


def _of_ops(errors: Errors) -> Iterator[dict[str, Any]]:
    for share in errors.shares[:_MOST]:
        alone = errors.of[share.id].isolated
        if share.share < _MUCH or alone is None:
            continue
        noise = alone.figures.noise.noise
        inside = {c: power for c, power in alone.causes.items() if c not in alone.outside}
        parts = {c: power / noise for c, power in inside.items() if power}
        large = [c for c in sorted(parts, key=lambda c: -parts[c]) if parts[c] >= _LARGE]
        by = " and ".join(f"{100 * parts[c]:.0f} % of it by {c}" for c in large)
        text = (
            f"%{share.id} alone makes {100 * share.share:.0f} % of the error at the outputs, {by}: "
            + "; ".join(_HELP[c] for c in large)
        )
        if alone.figures.bias > _BIASED * noise:
            text += "; it shifts the means of channels: --recipe best corrects biases on data"
        yield {"kind": "op", "text": text, "id": share.id}
