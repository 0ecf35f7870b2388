"""A range of its own for each activation: the one whose rounding disturbs the outputs least.

Each activation is rounded by itself, in an otherwise float network, and the noise at the outputs is
compared between candidates: the estimators, and clips at a share of the largest magnitude, which
estimators that see only the activation itself would not choose. Activations that share a scale
are one unit, and so are the operand and the result of a function such as SiLU: a clip of one that
is not a clip of the other gains nothing.

Only units that matter are tried: noises of independent roundings add up, and the smallest of them,
a few percent of the sum in all, are left alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from qcomp.config import QuantizationConfig
from qcomp.ir.ops import Quantize
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.same_scale import range_units
from qcomp.quant.qparams import QParams
from qcomp.quantizer import Quantizer
from qcomp.recipes.judge import Feed, Judge, with_quantized

ESTIMATORS = ("mse", "minmax", "percentile", "kl", "aciq")
CLIPS = (0.7, 0.5, 0.35, 0.25, 0.18, 0.12)
_LEFT_ALONE = 0.03  # of the sum of all noises
_WORTHWHILE_DB = 0.1

Range = str | tuple[float, float]
Ranges = Mapping[TensorId, Range]
Assigned = Mapping[TensorId, QParams]


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
    judge: Judge,
    config: QuantizationConfig,
    samples: Sequence[Feed],
    advance: Callable[[int, int], None],
) -> Iterator[OwnRange]:
    """The units that are better off with another range than `config` gives them.

    `advance(done, total)` is told of the runs.
    """
    quantizer = judge.quantizer
    graph, statistics = quantizer.equalized(config), quantizer.statistics(config)
    start = {t: config.at(t, m).range for t, m in statistics.mnemonics.items()}
    fixed = {t for t in start if start[t] != config.range}
    current = assigned(quantizer, config)
    found = [
        u for u in range_units(graph) if not fixed.intersection(u) and any(t in current for t in u)
    ]
    noises = []
    for i, unit in enumerate(found):
        noises.append(judge.noise(with_quantized(graph, _of(current, unit)), samples))
        advance(i + 1, 2 * len(found))
    candidates = _candidates(quantizer, config)
    order = sorted(range(len(found)), key=lambda i: -noises[i].total.noise)
    left = sum(n.total.noise for n in noises)
    least = _LEFT_ALONE * left
    for done, i in enumerate(order):
        advance(len(found) + done, 2 * len(found))
        left -= noises[i].total.noise
        best, chosen = noises[i], None
        seen = [_of(current, found[i])]
        for ranges, qparams in candidates:
            own = _of(qparams, found[i])
            if own.keys() != seen[0].keys() or any(_alike(own, known) for known in seen):
                continue
            seen.append(own)
            noise = judge.noise(with_quantized(graph, own), samples)
            if noise.improves(best, _WORTHWHILE_DB):
                best, chosen = noise, ranges
        if chosen is not None:
            ranges = {t: chosen[t] for t in found[i]}
            yield OwnRange(tuple(found[i]), ranges, noises[i].db, best.db)
        if left <= least:
            break


def _candidates(quantizer: Quantizer, config: QuantizationConfig) -> list[tuple[Ranges, Assigned]]:
    """Ranges for all activations at once, with the parameters that follow from them."""
    statistics = quantizer.statistics(config)
    extremes = {t: statistics.range(t, "minmax") for t in statistics.mnemonics}
    choices: list[Ranges] = [dict.fromkeys(extremes, e) for e in ESTIMATORS if e != config.range]
    choices += [{t: _clipped(r, share) for t, r in extremes.items()} for share in CLIPS]
    return [(ranges, assigned(quantizer, with_ranges(config, ranges))) for ranges in choices]


def with_ranges(config: QuantizationConfig, ranges: Ranges) -> QuantizationConfig:
    """`config` with these ranges, where its own overrides do not say otherwise."""
    mine = {t: {"range": r} for t, r in ranges.items()}
    merged = {t: {**mine.get(t, {}), **config.overrides.get(t, {})} for t in mine}
    others = {k: v for k, v in config.overrides.items() if k not in mine}
    return dataclasses.replace(config, overrides={**merged, **others})


def _clipped(extremes: tuple[float, float], share: float) -> Range:
    """Cut at a share of the largest magnitude; what has no width is left as it is."""
    limit = share * max(-extremes[0], extremes[1])
    low, high = max(extremes[0], -limit), min(extremes[1], limit)
    return (low, high) if low < high else "minmax"


def assigned(quantizer: Quantizer, config: QuantizationConfig) -> dict[TensorId, QParams]:
    """The parameters of every float tensor that is quantized; those of weights do not matter."""
    qdq = quantizer.quantized(
        dataclasses.replace(config, weight_range="minmax", bias_correction=None, snap_scales=False)
    )
    found: dict[TensorId, QParams] = {}
    for op in qdq.ops():
        if isinstance(op, Quantize) and (q := qdq.tensor(op.output).qparams) is not None:
            found.setdefault(op.x, q)
    return found


def _of(qparams: Assigned, unit: Sequence[TensorId]) -> dict[TensorId, QParams]:
    return {t: qparams[t] for t in unit if t in qparams}


def _alike(a: Assigned, b: Assigned) -> bool:
    """Whether no end of a range moves by more than half a percent of the range."""
    return all(
        abs(p - q) <= 0.005 * (a[t].range[1] - a[t].range[0])
        for t in a
        for p, q in zip(a[t].range, b[t].range, strict=True)
    )


def _told(found: Range) -> str:
    return found if isinstance(found, str) else f"[{found[0]:.4g}, {found[1]:.4g}]"
