"""The answer of `qcomp.mixed_precision`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from qcomp.config import QuantizationConfig
from qcomp.precision.costs import Cost
from qcomp.precision.parts import Kind
from qcomp.precision.plan import Plan
from qcomp.precision.table import SensitivityTable, aligned, finite, shown
from qcomp.quant.noise import Noise
from qcomp.recipes.file import fields_of


@dataclass(frozen=True, eq=False)
class Point:
    """Bits for all parts, their cost, and the noise: as the table adds up to, and as simulated."""

    plan: Plan
    cost: Cost
    predicted: Noise
    simulated: Noise

    def json(self) -> dict[str, Any]:
        return {
            "bytes": self.cost.bytes,
            "us": self.cost.us,
            "sqnr_db_predicted": finite(self.predicted.db),
            "sqnr_db": finite(self.simulated.db),
            **{
                kind.name.lower(): {p.id: b for p, b in self.plan.items() if p.kind is kind}
                for kind in Kind
            },
        }

    @property
    def summary(self) -> str:
        """How many parts have how many bits: `W8 x 40, W4 x 13, A8 x 66`."""
        counts = Counter((part.kind, bits) for part, bits in self.plan.items())
        return ", ".join(
            f"{kind.value}{bits} x {counts[kind, bits]}"
            for kind in Kind
            for bits in sorted((b for k, b in counts if k is kind), reverse=True)
        )


@dataclass(frozen=True, eq=False)
class MixedPrecision:
    """`config` has the overrides of `point`, for `compile`; `front` is what else there is.

    The front is ordered by cost. `metric` and `float_metric` are what the metric gave for the
    simulated and the float network; None where there was no `max_drop`.
    """

    config: QuantizationConfig
    point: Point
    front: tuple[Point, ...]
    table: SensitivityTable
    float_metric: float | None
    metric: float | None

    def json(self) -> dict[str, Any]:
        return {
            "chosen": self.point.json(),
            "front": [point.json() for point in self.front],
            "metric": self.metric,
            "float_metric": self.float_metric,
            "config": {"recipe": self.config.recipe, **fields_of(self.config)},
        }

    def __str__(self) -> str:
        """The front, and the choice in the last lines."""
        rows = [["bits", "bytes", "us (estimate)", "dB predicted", "dB"]]
        rows += [_row(point) for point in self.front]
        chosen = aligned([rows[0], _row(self.point)], left=1)
        lines = [aligned(rows, left=1), "\nchosen:", chosen]
        if self.metric is not None:
            lines.append(f"metric {self.metric:.4g}, of the float network {self.float_metric:.4g}")
        return "\n".join(lines)


def _row(point: Point) -> list[str]:
    return [
        point.summary,
        f"{point.cost.bytes:,}",
        f"{point.cost.us:.1f}",
        shown(point.predicted.db),
        shown(point.simulated.db),
    ]
