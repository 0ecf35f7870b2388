"""The one route: what is shared between configurations, where models enter, what observers see."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from qcomp.calibration.evidence import Evidence
from qcomp.calibration.samples import samples_of
from qcomp.config import QuantizationConfig
from qcomp.errors import CompileError, RecipeError
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.parse import parse
from qcomp.ir.tensor import Array
from qcomp.passes.base import Observer
from qcomp.passes.events import PassLog
from qcomp.passes.observers import Dump, Records
from qcomp.pipeline import stages_from
from qcomp.quantizer import Quantizer
from qcomp.recipes.choose import decide
from qcomp.recipes.named import settled
from qcomp.targets.catalog import target as find_target

TEXT = """
graph @net(%x: f32[4,3]) {
  %w = constant : f32[5,3]
  %b = constant : f32[5]
  %h = dense(%x, %w, %b) {clamp=ClampRange(low=0.0, high=inf)} : f32[4,5]
  %v = constant : f32[2,5]
  %c = constant : f32[2]
  %y = dense(%h, %v, %c) {clamp=ClampRange(low=-inf, high=inf)} : f32[4,2]
  return y=%y
}
"""
RANDOM = np.random.default_rng(0)
ARRAYS: Mapping[str, Array] = {
    id: RANDOM.normal(size=shape).astype(np.float32)
    for id, shape in (("w", (5, 3)), ("b", (5,)), ("v", (2, 5)), ("c", (2,)))
}
RUNS = [RANDOM.normal(size=(4, 3)).astype(np.float32) for _ in range(6)]
FAST = settled(QuantizationConfig(recipe="fast"), calibrated=True)

COST = find_target("native").cost


def evidence(graph: Graph) -> Evidence:
    return Evidence(samples_of(graph, RUNS), (-1.0, 1.0))


def quantizer(graph: Graph, form: Form, *observers: Observer) -> Quantizer:
    return Quantizer(graph, form, evidence(graph), observers=observers)


def network(**names: str) -> Graph:
    """With other names for some constants."""
    text = TEXT
    for id, name in names.items():
        text = re.sub(rf"%{id}\b", f"%{name}", text)
    return parse(text, {names.get(id, id): array for id, array in ARRAYS.items()})


def test_configurations_that_differ_later_share_what_comes_before() -> None:
    route = quantizer(network(), Form.FLOAT)
    minmax = replace(FAST, range="minmax")
    assert route.equalized(FAST) is route.equalized(minmax)
    assert route.statistics(FAST) is route.statistics(minmax)
    assert route.quantized(FAST) is not route.quantized(minmax)
    assert str(route.quantized(FAST)) != str(route.quantized(minmax))
    assert route.quantized(FAST) is route.quantized(replace(FAST, recipe="best"))


def test_a_field_that_a_stage_reads_has_a_graph_of_its_own() -> None:
    route = quantizer(network(), Form.FLOAT)
    tensors = replace(FAST, per_channel=False, equalize=True)
    assert route.equalized(FAST) is route.normalized
    assert route.equalized(tensors) is not route.equalized(replace(tensors, weight_bits=4))


def test_trials_on_a_part_of_the_data_have_the_graph_of_the_whole_and_ranges_of_the_part() -> None:
    whole = quantizer(network(), Form.FLOAT)
    part = whole.on(Evidence(samples_of(network(), RUNS[:2]), (-1.0, 1.0)))
    scaled = replace(FAST, equalize=True)
    for config in (FAST, scaled):
        assert part.equalized(config) is whole.equalized(config)
    assert part.equalized(scaled) is not part.equalized(FAST)
    assert part.statistics(scaled) is part.statistics(scaled)
    assert (part.statistics(scaled).samples, whole.statistics(scaled).samples) == (2, len(RUNS))


def test_what_is_fitted_to_data_is_no_trial_s_result() -> None:
    route = quantizer(network(), Form.FLOAT)
    few = [{"x": RUNS[0]}]
    assert route.quantized(FAST) is not route.quantized(FAST, few)
    assert route.quantized(FAST, few) is route.quantized(FAST, few)


def test_a_model_in_qdq_form_is_lowered_as_it_is() -> None:
    whole = quantizer(network(), Form.FLOAT)
    plain = replace(FAST, bias_correction=None)
    qdq = whole.quantized(plain)
    entered = quantizer(qdq, Form.QDQ)
    chosen = decide(entered, QuantizationConfig(), COST).config
    assert str(entered.integer(chosen)) == str(whole.integer(plain))
    assert [r.name for r in entered.records] == [
        "recipe",
        "fuse-requantize",
        "split-max-pools",
        "certify-accumulators",
    ]
    assert entered.records[0].log.text == "skip trials: the model comes in form qdq"
    assert entered.notes(chosen) == ("the model comes in form qdq: its ranges are its own",)
    assert len(entered.samples(chosen)) == len(RUNS)


def test_overrides_of_a_model_in_qdq_form_are_refused() -> None:
    entered = quantizer(quantizer(network(), Form.FLOAT).quantized(FAST), Form.QDQ)
    config = QuantizationConfig(overrides={"h": {"range": "minmax"}})
    with pytest.raises(RecipeError, match="the model comes in form qdq"):
        decide(entered, config, COST)


def test_an_integer_graph_has_arrived() -> None:
    integer = quantizer(network(), Form.FLOAT).integer(FAST)
    entered = quantizer(integer, Form.INTEGER)
    assert entered.integer(FAST) is not integer
    assert str(entered.integer(FAST)) == str(integer)
    assert entered.records == ()


def test_no_stage_starts_between_two_passes() -> None:
    with pytest.raises(CompileError, match=r"form annotated; expected float, qdq, integer$"):
        stages_from(Form.ANNOTATED)


def test_observers_see_the_passes_of_the_result_once_and_no_trial() -> None:
    seen = Records()
    route = quantizer(network(), Form.FLOAT, seen)
    taken = replace(FAST, per_channel=False, equalize=True)
    for other in ("minmax", "percentile"):
        route.quantized(replace(taken, range=other))
        route.quantized(replace(FAST, range=other))
    route.record("choice", PassLog(), 0.0)
    route.integer(taken)
    assert [record.name for record in seen.kept] == [
        "fold-constants",
        "recompose-attention",
        "recompose-normalization",
        "canonicalize-layout",
        "recompose-powers",
        "recompose-activations",
        "fold-batch-norm",
        "fuse-activation",
        "split-sliced-layers",
        "choice",
        "equalize-cross-layer",
        "annotate-ranges",
        "narrow-saturated-ranges",
        "insert-quantize",
        "snap-scales",
        "correct-bias-empirically",
        "fuse-requantize",
        "split-max-pools",
        "certify-accumulators",
    ]
    assert route.records == tuple(seen.kept)


def test_the_dump_of_a_pass_that_a_trial_ran_is_its_own(tmp_path: Path) -> None:
    taken = replace(FAST, per_channel=False, equalize=True)
    at_once = quantizer(network(), Form.FLOAT, Dump(tmp_path / "at once"))
    after_trial = quantizer(network(), Form.FLOAT, Dump(tmp_path / "after trial"))
    after_trial.quantized(replace(taken, range="minmax"))
    assert str(at_once.integer(taken)) == str(after_trial.integer(taken))
    texts = [{p.name: p.read_text() for p in d.iterdir()} for d in sorted(tmp_path.iterdir())]
    assert texts[0] == texts[1]
    assert "10-equalize-cross-layer.diff" in texts[0]


@pytest.mark.parametrize("correction", ["empirical", "analytic"])
@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_names_of_constants_do_not_switch_passes_off(correction: str, rounding: str) -> None:
    """A model that was exported in QDQ form has such names."""
    names = {"w": "w.fitted", "b": "b.corrected", "v": "v.fitted.1", "c": "c.corrected"}
    config = replace(FAST, bias_correction=correction, rounding=rounding, weight_bits=4)
    plain, named = (quantizer(graph, Form.FLOAT) for graph in (network(), network(**names)))
    expected, found = plain.integer(config), named.integer(config)
    for a, b in zip(expected.ops(), found.ops(), strict=True):
        for t, u in zip(expected.activations(a), found.activations(b), strict=True):
            assert expected.tensor(t).qparams == found.tensor(u).qparams
        for t, u in zip(a.inputs, b.inputs, strict=True):
            if expected.is_constant(t):
                assert_array_equal(expected.data(t), found.data(u))
    for one, other in zip(plain.records, named.records, strict=True):
        assert [e.kind for e in one.log.events] == [e.kind for e in other.log.events]


def test_weights_are_fitted_to_data_only() -> None:
    graph = network()
    route = Quantizer(graph, Form.FLOAT, Evidence(None, (-1.0, 1.0)))
    with pytest.raises(CompileError, match=r"rounding='gptq'.*give some, or round to nearest"):
        route.integer(replace(FAST, rounding="gptq"))
