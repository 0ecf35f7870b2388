"""Which samples trials measure ranges on, and which they are judged by.

Ranges are measured on every other sample, the first 32 at most: those that were measured on the
very samples that they are judged by look better than they are. Where there are enough samples,
trials are judged by the rest only. Where there are few, they are judged by all: among few samples
hardly any is extreme, and without the extremes every clip looks good.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.calibration.samples import Run, Samples
from qcomp.calibration.statistics import Statistics
from qcomp.config import QuantizationConfig

MOST_JUDGED = 32
MOST_RANGED = 32  # what was chosen gets its ranges from all
LEAST_SAMPLES = 8  # fewer tell nothing of others: what is best for them is chance
_MOST_WIDENED = 1.25  # more is due to single samples


@dataclass(frozen=True)
class Division:
    """Samples for ranges, and to judge by; `fitting` are the first of those for ranges."""

    ranges: Samples
    judged: Sequence[Run]

    @property
    def fitting(self) -> Sequence[Run]:
        return self.ranges.first(MOST_JUDGED)


def divided(data: Samples) -> Division:
    """The samples of a search."""
    ranges, others = data.every_other(0), data.every_other(1).first(MOST_JUDGED)
    judged = others if len(others) == MOST_JUDGED else data.first(MOST_JUDGED)
    return Division(ranges.limited(MOST_RANGED), judged)


def too_few(data: Samples) -> str | None:
    """The reason that these samples are too few to choose by, or None."""
    batch = data.batch
    runs = len(data.first(LEAST_SAMPLES))
    if runs > 1 and runs * batch >= LEAST_SAMPLES:
        return None
    return f"{runs * batch} calibration samples in {runs} runs, where {LEAST_SAMPLES} in 2 are due"


def for_all(
    config: QuantizationConfig,
    given: QuantizationConfig,
    some: Statistics,
    everything: Statistics,
) -> QuantizationConfig:
    """With the intervals that were found on some samples as wide as all of them ask for.

    An interval is a share of the largest magnitude, which is larger among more samples. Those of
    `given` are the caller's.
    """
    overrides = {key: dict(fields) for key, fields in config.overrides.items()}
    for key, fields in overrides.items():
        found = fields.get("range")
        if isinstance(found, tuple) and given.overrides.get(key, {}).get("range") != found:
            grown = _largest(everything, key) / _largest(some, key)
            factor = min(max(grown, 1.0), _MOST_WIDENED)
            fields["range"] = (found[0] * factor, found[1] * factor)
    return dataclasses.replace(config, overrides=overrides)


def _largest(statistics: Statistics, id: str) -> float:
    low, high = statistics.range(id, "minmax")
    return max(-low, high)
