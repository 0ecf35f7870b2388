"""The search on small networks: budgets hold, plans are what compile then does."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_networks import NETWORKS

import qcomp
from qcomp.ir.ops import Weighted
from qcomp.passes.lib.edge_layers import edge_layers
from qcomp.precision.front import pareto
from qcomp.precision.parts import Kind
from qcomp.precision.plan import key_of, with_plan
from qcomp.precision.prepare import Preparation
from qcomp.quant.noise import Noise

Search = Callable[..., qcomp.MixedPrecision]
Prepare = Callable[..., Preparation]


@pytest.fixture
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """In this process, on 8-bit activations; results of one network are computed once."""
    cache = tmp_path_factory.getbasetemp() / "sensitivity-of-small-networks"

    def found(name: str, **given: Any) -> qcomp.MixedPrecision:
        network = NETWORKS[name]
        how = {"activation_bits": (8,), "processes": 1, "cache": cache, "points": 4, **given}
        config = how.pop("config", qcomp.QuantizationConfig(recipe="fast", range="minmax"))
        return qcomp.mixed_precision(
            network.build(), calibration=network.samples(8), config=config, **how
        )

    return found


def bits(found: qcomp.MixedPrecision, kind: Kind) -> list[int]:
    return [b for part, b in found.point.plan.items() if part.kind is kind]


def test_the_budget_of_bytes_holds_and_more_bytes_mean_less_noise(search: Search) -> None:
    small = search("mobilenet_v2", max_bytes=7000)
    large = search("mobilenet_v2", max_bytes=7700)
    assert small.point.cost.bytes <= 7000 < large.point.cost.bytes <= 7700
    assert small.point.simulated.noise > large.point.simulated.noise
    assert {4, 8} == set(bits(small, Kind.WEIGHTS))


def test_the_prediction_is_the_sum_of_the_parts_and_close_to_the_simulation(
    search: Search,
) -> None:
    found = search("mobilenet_v2", max_bytes=7000)
    expected = sum(
        found.table.row(part.kind, part.id).only_rounded[b].noise
        for part, b in found.point.plan.items()
    )
    assert found.point.predicted.noise == pytest.approx(expected)
    for point in (*found.front, found.point):
        assert point.predicted.db == pytest.approx(point.simulated.db, abs=3)


def test_compile_does_what_was_chosen(search: Search) -> None:
    network = NETWORKS["mobilenet_v2"]
    found = search("mobilenet_v2", max_bytes=7000)
    # The simulation corrects each bias by itself; `compile` does so for "analytic" only.
    config = dataclasses.replace(found.config, bias_correction="analytic")
    net = qcomp.compile(network.build(), calibration=network.samples(8), config=config)
    # Biases are corrected layer by layer then, which the simulation does not do.
    assert net.sqnr_db_output is not None
    assert net.sqnr_db_output > found.point.simulated.db - 1.0
    text = "\n".join(record.log.text for record in net.records)
    four = [part.id for part, b in found.point.plan.items() if (part.kind, b) == (Kind.WEIGHTS, 4)]
    assert four
    assert all(f"{id}: weights of 4 bits" in text for id in four)
    assert text.count("weights of 4 bits") == len(four)


def test_the_first_and_the_last_layer_keep_their_bits(search: Search, prepare: Prepare) -> None:
    """Depthwise layers do too, of which fewer bits save nothing."""
    least = search("mobilenet_v2", max_bytes=10**9).front[0]
    graph = prepare("mobilenet_v2").graph
    weighted = [op for op in graph.ops() if isinstance(op, Weighted)]
    depthwise = {op.id for op in weighted if op.groups == graph.type(op.weight).shape[0]}
    kept = {*edge_layers(graph), *depthwise}
    for part, b in least.plan.items():
        if part.kind is Kind.WEIGHTS:
            assert b == (8 if part.id in kept else 4)
    config = qcomp.QuantizationConfig(recipe="fast", range="minmax", first_last_weight_bits=1)
    free = search("mobilenet_v2", max_bytes=10**9, config=config).front[0]
    eight = {part.id for part, b in free.plan.items() if (part.kind, b) == (Kind.WEIGHTS, 8)}
    assert eight == depthwise


def test_an_impossible_budget_says_what_is_possible(search: Search) -> None:
    with pytest.raises(qcomp.CompileError, match=r"max_bytes=10: the least is \d+ bytes") as error:
        search("mobilenet_v2", max_bytes=10)
    least = int(str(error.value).split()[-2])
    assert search("mobilenet_v2", max_bytes=least).point.cost.bytes == least
    with pytest.raises(qcomp.CompileError, match=r"max_latency=1e-09: the least is [\d.]+ us"):
        search("mobilenet_v2", max_latency=1e-9)


def test_without_a_goal_or_with_an_unknown_method_there_is_no_search(search: Search) -> None:
    with pytest.raises(qcomp.CompileError, match="what to search for"):
        search("mobilenet_v2")
    with pytest.raises(qcomp.CompileError, match="expected one of front, greedy"):
        search("mobilenet_v2", max_bytes=1, method="luck")


@pytest.mark.parametrize("method", ["front", "greedy"])
def test_a_loss_by_a_metric_gives_fewer_bytes_that_keep_it(search: Search, method: str) -> None:
    network = NETWORKS["mobilenet_v2"]
    data = network.samples(8)["x0"]
    reference = float_outputs(network, data)
    calls = []

    def metric(predict: Callable[[Any], Any]) -> float:
        calls.append(float(np.sum((predict(data) - reference) ** 2)))
        return -calls[-1]

    widest = search("mobilenet_v2", max_bytes=10**9).front
    limit = (widest[0].simulated.noise + widest[-1].simulated.noise) / 2
    found = search("mobilenet_v2", max_drop=limit, metric=metric, method=method)
    assert found.metric is not None
    assert found.float_metric == pytest.approx(0.0, abs=1e-6)
    assert found.metric >= found.float_metric - limit
    assert found.metric == pytest.approx(-found.point.simulated.noise, rel=1e-3)
    assert widest[0].cost.bytes < found.point.cost.bytes < widest[-1].cost.bytes
    assert len(calls) < 20


def float_outputs(network: Any, data: Any) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(network.build().SerializeToString())
    return np.concatenate([session.run(None, {"x0": data[i : i + 1]})[0] for i in range(len(data))])


def test_the_budget_of_time_holds_and_buys_wider_activations(search: Search) -> None:
    both = {"activation_bits": (8, 16)}
    narrow = search("mobilenet_v2", max_bytes=10**9, **both)
    assert set(bits(narrow, Kind.ACTIVATION)) == {8}
    widest = search("mobilenet_v2", max_latency=1e9, **both)
    assert set(bits(widest, Kind.ACTIVATION)) == {16}
    limit = (narrow.point.cost.us + widest.point.cost.us) / 2
    some = search("mobilenet_v2", max_latency=limit, **both)
    assert narrow.point.cost.us < some.point.cost.us <= limit
    assert set(bits(some, Kind.ACTIVATION)) == {8, 16}
    noises = [found.point.simulated.noise for found in (narrow, some, widest)]
    assert noises == sorted(noises, reverse=True)


def test_a_small_loss_is_met_by_wider_activations_where_weights_are_not_enough(
    search: Search,
) -> None:
    network = NETWORKS["mobilenet_v2"]
    data = network.samples(8)["x0"]
    reference = float_outputs(network, data)

    def metric(predict: Callable[[Any], Any]) -> float:
        return -float(np.sum((predict(data) - reference) ** 2))

    narrow = search("mobilenet_v2", max_bytes=10**9).point
    found = search(
        "mobilenet_v2",
        activation_bits=(8, 16),
        max_drop=0.7 * narrow.simulated.noise,
        metric=metric,
    )
    assert found.point.simulated.noise <= 0.7 * narrow.simulated.noise
    assert set(bits(found, Kind.ACTIVATION)) == {8, 16}
    assert set(bits(found, Kind.WEIGHTS)) == {8}


def test_a_loss_that_cannot_be_kept_says_the_least(search: Search) -> None:
    """By a metric that likes the float network only, which is asked first."""
    values = iter([1.0, *[0.5] * 20])
    with pytest.raises(
        qcomp.CompileError, match=r"max_drop=0\.1: the least .* reach is 0\.5, from 1 of the float"
    ):
        search("mobilenet_v2", max_drop=0.1, metric=lambda predict: next(values))


def test_the_default_metric_is_agreement_and_wants_a_classifier(search: Search) -> None:
    found = search("mobilenet_v2", max_drop=1.0)
    assert found.float_metric == 1.0
    assert found.metric is not None
    assert 0.0 <= found.metric <= 1.0
    assert found.point.cost.bytes == found.front[0].cost.bytes
    with pytest.raises(qcomp.CompileError, match="max_drop needs a metric: the outputs"):
        search("super_resolution", max_drop=0.1)


def test_the_answer_as_json(search: Search) -> None:
    found = search("mobilenet_v2", max_bytes=7000)
    answer = json.loads(json.dumps(found.json(), allow_nan=False))
    assert set(answer) == {"chosen", "front", "metric", "float_metric", "config"}
    assert answer["chosen"]["bytes"] == found.point.cost.bytes
    assert len(answer["front"]) == 4
    assert answer["config"]["overrides"] == found.config.overrides


# ------------------------------------------------------------------------- plans


def test_a_plan_becomes_overrides_of_what_differs(prepare: Prepare) -> None:
    made = prepare("resnet")
    (part, *_) = [p for p in made.problem((8,), (8,)).parts if p.kind is Kind.WEIGHTS][2:]
    config = qcomp.QuantizationConfig(overrides={part.id: {"range": "mse", "weight_bits": 3}})
    planned = with_plan(config, made.graph, {part: 4})
    assert planned.at(part.id, part.mnemonic).weight_bits == 4
    assert planned.at(part.id, part.mnemonic).range == "mse"
    assert with_plan(planned, made.graph, {part: 4}) == planned


def test_a_key_matches_its_layer_alone() -> None:
    known = [("a.b", "conv2d"), ("axb", "dense"), ("conv2d", "add"), ("plain", None)]
    assert key_of("plain", known) == "plain"
    for id in ("a.b", "conv2d"):
        config = qcomp.QuantizationConfig(overrides={key_of(id, known): {"weight_bits": 4}})
        assert [i for i, m in known if config.at(i, m).weight_bits == 4] == [id]


def test_noise_of_nothing_is_infinitely_good() -> None:
    assert Noise(1.0, 0.0).db == np.inf
    assert pareto([]) != []
