"""Trials are judged by the part that falls short most, on samples that ranges do not know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from qcomp.accuracy.parts import Part
from qcomp.calibration.collect import collect
from qcomp.calibration.evidence import Evidence
from qcomp.calibration.samples import samples_of
from qcomp.config import QuantizationConfig
from qcomp.ir.form import Form
from qcomp.ir.parse import parse
from qcomp.quant.noise import Noise
from qcomp.quantizer import Quantizer
from qcomp.recipes.choose import decide
from qcomp.recipes.divide import divided, for_all
from qcomp.recipes.judge import GOOD_ENOUGH, Judge, Judgement, decided
from qcomp.recipes.named import settled
from qcomp.targets.catalog import target as find_target

LOUD, QUIET = Part("y", 2, 1, ((0, 1),)), Part("y", 2, 1, ((1, 2),))
TWO_SCALES = parse(
    "graph @net(%x: f32[1,4]) {\n"
    "  %s = unary(%x) {function=sigmoid, alpha=1.0, beta=0.0} : f32[1,4]\n"
    "  %t = unary(%x) {function=sigmoid, alpha=1.0, beta=0.0} : f32[1,4]\n"
    "  %big = unary(%t) {function=affine, alpha=300.0, beta=0.0} : f32[1,4]\n"
    "  %y = concat(%big, %s) {axis=1} : f32[1,8]\n  return y=%y\n}"
)

COST = find_target("native").cost


def quantizer(samples: int) -> Quantizer:
    x = np.random.default_rng(1).standard_normal((samples, 4)).astype(np.float32)
    data = samples_of(TWO_SCALES, x)
    return Quantizer(TWO_SCALES, Form.FLOAT, Evidence(data, (-1.0, 1.0)))


def judged(loud: float, quiet: float) -> Judgement:
    """By the noise of two parts of power 1, where 16 bits leave 1e-4 of each."""
    parts = {LOUD: Noise(1.0, loud), QUIET: Noise(1.0, quiet)}
    weights = dict.fromkeys(parts, 1.0 / GOOD_ENOUGH)
    run = sum((n.times(weights[p]) for p, n in parts.items()), Noise())
    return Judgement((run,), parts, weights)


def test_the_worst_part_decides() -> None:
    start = judged(1e-3, 1e-1)
    assert start.worst is QUIET
    assert judged(2e-3, 1e-2).is_better(start, 0.05)
    assert not judged(1e-5, 1.01e-1).is_better(start, 0.05), "only the better part gains"
    assert not judged(5e-2, 8e-2).is_better(start, 0.05), "one loses 17 dB where the worst gains 1"


def test_what_a_part_loses_beyond_what_is_good_enough_does_not_count() -> None:
    assert judged(0.9e-4, 1e-2).is_better(judged(1e-9, 1.5e-2), 0.05)


def test_parts_are_weighed_by_what_16_bits_leave_of_their_noise() -> None:
    few = quantizer(16)
    samples = few.evidence.data.first(16) if few.evidence.data else ()
    config = settled(QuantizationConfig(), calibrated=True)
    judge = Judge(few).weighing(config, samples)
    assert [str(part) for part in judge.weights] == ["y[:, 0:4]", "y[:, 4:8]"]
    judgement = judge.tried(config, samples)
    assert str(judgement.worst) == "y[:, 4:8]"
    boxes, scores = (judgement.parts[part].db for part in judge.weights)
    assert scores < 10.0 < 35.0 < boxes
    assert judgement.db < 15.0, "the loud part does not hide the other"
    assert Judge(few).tried(config, samples).db > 35.0, "without weights it does"


@pytest.mark.parametrize(("samples", "told"), [(1, "1 calibration samples in 1 runs"), (7, "7 ")])
def test_few_samples_choose_nothing_and_it_is_said(samples: int, told: str) -> None:
    chosen = decide(quantizer(samples), QuantizationConfig(), COST)
    (note,) = chosen.notes
    assert note.startswith(f"recipe auto: nothing is tried: {told}")
    assert chosen.config == settled(QuantizationConfig(), calibrated=True)


@pytest.mark.parametrize(
    ("samples", "judged_by"), [(10, range(10)), (70, range(1, 65, 2)), (200, range(1, 65, 2))]
)
def test_samples_are_held_out_from_ranges_where_there_are_enough(
    samples: int, judged_by: range
) -> None:
    data = quantizer(samples).evidence.data
    assert data is not None
    runs = [run["x"].tolist() for run in data]
    division = divided(data)
    assert [run["x"].tolist() for run in division.ranges] == runs[0:64:2]
    assert [run["x"].tolist() for run in division.judged] == [runs[i] for i in judged_by]
    assert division.ranges.expected == min(samples // 2, 32)


def test_an_interval_grows_with_what_all_samples_show_but_not_with_a_glitch() -> None:
    x = np.full((12, 4), 1.0, np.float32)
    x[1] = 1.1
    given = QuantizationConfig(overrides={"s": {"range": (-0.1, 0.2)}})
    found = QuantizationConfig(overrides={**given.overrides, "x": {"range": (-0.3, 0.5)}})
    data = samples_of(TWO_SCALES, x)
    some, everything = (collect(TWO_SCALES, d) for d in (data.every_other(0), data))
    grown = for_all(found, given, some, everything)
    assert grown.overrides["x"]["range"] == pytest.approx((-0.33, 0.55))
    assert grown.overrides["s"] == given.overrides["s"]
    x[1] = 1000.0
    glitch = for_all(found, given, some, collect(TWO_SCALES, data))
    assert glitch.overrides["x"]["range"] == pytest.approx((-0.375, 0.625))


def test_trials_name_the_worst_part() -> None:
    chosen = decide(quantizer(10), QuantizationConfig(), COST)
    assert " on 10 samples in the worst part, y[:, 4:8]" in chosen.notes[0]


def test_a_judge_of_one_part_weighs_nothing() -> None:
    graph = parse("graph @net(%x: f32[1,4]) {\n  return y=%x\n}")
    one = Judge(Quantizer(graph, Form.FLOAT, Evidence(None, (-1.0, 1.0))))
    x = [{"x": np.ones((1, 4), np.float32)}]
    assert one.weighing(QuantizationConfig(), x) is one


def told(noises: Iterable[float]) -> Judgement:
    """By one part, of samples of power 1."""
    return Judgement(tuple(Noise(1.0, noise) for noise in noises))


def test_a_trial_is_clear_where_it_is_far_off_or_all_the_same() -> None:
    random = np.random.default_rng(0)
    base = 1e-2 * random.uniform(0.5, 1.5, 16)
    near = base * random.uniform(0.6, 1.4, 16)
    assert told(3 * base).is_clear(told(base), 0.05), "5 dB worse"
    assert told(base / 3).is_clear(told(base), 0.05)
    assert told(base).is_clear(told(base), 0.0), "the same"
    assert not told(near).is_clear(told(base), 0.0)
    assert not told(3 * base[:15]).is_clear(told(base[:15]), 0.05), "too few"


def test_only_what_is_worse_is_clear_where_there_are_parts() -> None:
    parts = {LOUD: Noise(1.0, 1e-2), QUIET: Noise(1.0, 1e-2)}
    weights = dict.fromkeys(parts, 1.0)
    good, bad = (Judgement((Noise(1.0, n),) * 16, parts, weights) for n in (1e-3, 1e-2))
    assert bad.is_clear(good, 0.05)
    assert not good.is_clear(bad, 0.05)


def test_a_trial_runs_no_more_samples_than_a_comparison_takes() -> None:
    few = quantizer(32)
    samples = few.evidence.data.first(32) if few.evidence.data else ()
    judge, config = Judge(few), settled(QuantizationConfig(), calibrated=True)
    start, wide = (judge.trial(c, samples) for c in (config, replace(config, activation_bits=16)))
    after, before = decided(wide, start, 0.05)
    assert after.is_better(before, 0.05)
    assert len(after.runs) == len(before.runs) == len(wide.now.runs) == 16
    assert wide.whole == judge.tried(replace(config, activation_bits=16), samples)
    assert wide.on(16) == after
