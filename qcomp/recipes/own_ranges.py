"""A range of its own for each activation: the one whose rounding disturbs the outputs least.

Each activation is rounded by itself, in an otherwise float network, and the noise at the outputs is
compared: with the range that it has, and with its extremes clipped at a share of the largest
magnitude, which estimators that see only the activation itself would not choose. Activations that
share a scale are one unit, and so are the operand and the result of a function such as SiLU: a clip
of one that is not a clip of the other gains nothing.

All units are ranked on a few samples, from the loudest on. Noises of independent roundings add up,
so the smallest of them, a few percent of the sum in all, are left alone; and where several units in
a row have nothing to gain, those that disturb the outputs less are left alone too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from qcomp.config import QuantizationConfig
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.same_scale import range_units
from qcomp.quant.qparams import QParams
from qcomp.recipes.activations import Activations, Assigned, Range, Ranges, assigned, with_ranges
from qcomp.recipes.judge import Judgement

CLIPS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12)
"""Shares of the largest magnitude, falling."""
_LEFT_ALONE = 0.03  # of the sum of all noises
_WORTHWHILE_DB = 0.1
_PATIENCE = 5  # units in a row without a gain
_MISSES = 2  # clips in a row without a gain
_FIRST = 4  # samples on which a clip must not lose
_HOPELESS_DB = 0.5  # more than the other samples of the same unit make up for


@dataclass(frozen=True)
class OwnRange:
    """What a unit gets, and its noise at the outputs in dB, before and after."""

    members: tuple[TensorId, ...]
    ranges: Ranges
    before: float
    after: float

    def __str__(self) -> str:
        told = ", ".join(f"{t}: {_told(r)}" for t, r in list(self.ranges.items())[:2])
        more = f" and {len(self.ranges) - 2} more" if len(self.ranges) > 2 else ""
        return f"{told}{more}: {self.before:.1f} to {self.after:.1f} dB by itself"


def own_ranges(
    activations: Activations, config: QuantizationConfig, advance: Callable[[int, int], None]
) -> Iterator[OwnRange]:
    """The units that are better off with another range than `config` gives them.

    `advance(done, total)` is told of the progress.
    """
    units, count = _Units.of(activations, config), len(activations.samples)
    noises = []
    for i, unit in enumerate(units.units):
        noise = activations.ranking({t: units.current[t] for t in unit})
        noises.append(noise.total.noise)
        advance(i + 1, 2 * len(units.units))
    left, without = sum(noises), 0
    least = _LEFT_ALONE * left
    for done, i in enumerate(sorted(range(len(noises)), key=lambda i: -noises[i])):
        advance(len(noises) + done, 2 * len(noises))
        if left <= least or without == _PATIENCE:
            break
        left -= noises[i]
        found = _clipped_best(units, units.units[i], count)
        without = without + 1 if found is None else 0
        if found is not None:
            yield found


def _clipped_best(units: _Units, unit: Sequence[TensorId], count: int) -> OwnRange | None:
    """The best clip, if one is better than the range that the unit has: narrower, or wider."""
    before = best = units.noise(unit, units.current, count)
    chosen, reach = None, units.reach(unit)
    narrower = [share for share in CLIPS if share < reach]
    wider = [share for share in reversed(CLIPS) if share > reach]
    for shares in (narrower, wider):
        misses = 0
        for share in shares if chosen is None else ():
            noise = units.clipped_noise(unit, share, best, count)
            if noise is not None and noise.improves(best, _WORTHWHILE_DB):
                best, chosen, misses = noise, share, 0
            elif (misses := misses + 1) == _MISSES:
                break
    if chosen is None:
        return None
    ranges = units.clip(chosen).ranges
    return OwnRange(tuple(unit), {t: ranges[t] for t in unit}, before.db, best.db)


@dataclass(frozen=True)
class _Clip:
    """Ranges for all activations, with the parameters that follow from them."""

    ranges: Ranges
    qparams: Assigned


@dataclass(eq=False)
class _Units:
    """The units that may get another range; `current` is what they have."""

    activations: Activations
    config: QuantizationConfig
    units: Sequence[Sequence[TensorId]]
    current: Assigned
    _clips: dict[float, _Clip] = field(default_factory=dict)

    @staticmethod
    def of(activations: Activations, config: QuantizationConfig) -> _Units:
        quantizer = activations.judge.quantizer
        mnemonics = quantizer.statistics(config).mnemonics
        fixed = {t for t, m in mnemonics.items() if config.at(t, m).range != config.range}
        current = assigned(activations.judge, config)
        found = range_units(quantizer.equalized(config))
        free = [[t for t in u if t in current] for u in found if not fixed.intersection(u)]
        return _Units(activations, config, [unit for unit in free if unit], current)

    def noise(self, unit: Sequence[TensorId], qparams: Assigned, count: int) -> Judgement:
        """Of the unit alone, on the first samples."""
        return self.activations.noise({t: qparams[t] for t in unit}, count)

    def clipped_noise(
        self, unit: Sequence[TensorId], share: float, best: Judgement, count: int
    ) -> Judgement | None:
        """With extremes clipped; None where that hardly differs from what the unit has, and where
        the first samples tell that it is worse than the best so far.
        """
        qparams, few = self.clip(share).qparams, min(_FIRST, count)
        if all(_alike(qparams[t], self.current[t]) for t in unit):
            return None
        if self.noise(unit, qparams, few).db < best.db_of_first(few) - _HOPELESS_DB:
            return None
        return self.noise(unit, qparams, count)

    def reach(self, unit: Sequence[TensorId]) -> float:
        """The share of the extremes that the unit has now."""
        whole = self.clip(CLIPS[0]).qparams
        return max(_largest(self.current[t]) / _largest(whole[t]) for t in unit)

    def clip(self, share: float) -> _Clip:
        if share not in self._clips:
            judge = self.activations.judge
            statistics = judge.quantizer.statistics(self.config)
            extremes = {t: statistics.range(t, "minmax") for t in statistics.mnemonics}
            ranges = {t: _clipped(r, share) for t, r in extremes.items()}
            qparams = assigned(judge, with_ranges(self.config, ranges))
            self._clips[share] = _Clip(ranges, qparams)
        return self._clips[share]


def _clipped(extremes: tuple[float, float], share: float) -> Range:
    """Cut at a share of the largest magnitude; what has no width is left as it is."""
    limit = share * max(-extremes[0], extremes[1])
    low, high = max(extremes[0], -limit), min(extremes[1], limit)
    return (low, high) if low < high and share < 1.0 else "minmax"


def _largest(q: QParams) -> float:
    return max(-q.range[0], q.range[1])


def _alike(a: QParams, b: QParams) -> bool:
    """Whether no end of a range moves by more than half a percent of the range."""
    near = 0.005 * (b.range[1] - b.range[0])
    return all(abs(p - q) <= near for p, q in zip(a.range, b.range, strict=True))


def _told(found: Range) -> str:
    return found if isinstance(found, str) else f"[{found[0]:.4g}, {found[1]:.4g}]"
