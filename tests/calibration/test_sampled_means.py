"""Means of what layers give, at positions that two networks share."""

from __future__ import annotations

import numpy as np
import pytest

from qcomp.calibration.collect import collect
from qcomp.calibration.sampled import ROWS, RUNS, SampledMeans, positions
from qcomp.calibration.samples import samples_of
from qcomp.execute.session import FloatSession
from qcomp.ir.parse import parse

TEXT = """graph @net(%x: f32[1,96,96,2]) {
  %slope = constant : f32[2]
  %bent = prelu(%x, %slope) : f32[1,96,96,2]
  return y=%bent
}"""
GRAPH = parse(TEXT, {"slope": np.array([0.1, -2.0], np.float32)})


@pytest.mark.parametrize(("runs", "count"), [(1, ROWS), (8, ROWS // 8), (1000, -(-ROWS // RUNS))])
def test_few_runs_give_more_positions_each(runs: int, count: int) -> None:
    assert SampledMeans.of(GRAPH, runs).places == {"bent": positions(GRAPH, "bent", count)}


def test_what_layers_read_is_sampled_too_and_all_of_a_small_map() -> None:
    graph = parse(
        "graph @net(%x: f32[1,16,16,2]) {\n"
        "  %w = constant : f32[3,2,2,2]\n  %b = constant : f32[3]\n"
        "  %y = conv2d(%x, %w, %b) {stride=(2, 2), padding=(0, 0, 0, 0), dilation=(1, 1), "
        "groups=1, clamp=ClampRange(low=-inf, high=inf)} : f32[1,8,8,3]\n  return y=%y\n}",
        {"w": np.ones((3, 2, 2, 2), np.float32), "b": np.zeros(3, np.float32)},
    )
    places = SampledMeans.of(graph, RUNS).places
    assert {id: place.count for id, place in places.items()} == {"x": -(-ROWS // RUNS), "y": 64}
    value = np.arange(64 * 3, dtype=np.float32).reshape(1, 8, 8, 3)
    np.testing.assert_array_equal(places["y"].rows(value, 5), value.reshape(-1, 3))


def test_positions_are_spread_over_a_map_and_differ_between_tensors_and_samples() -> None:
    place = positions(GRAPH, "bent", 64)
    parts = 96 * 96 // 64
    for sample in (0, 1):
        found = place.of(sample)
        assert (np.diff(found) > 0).all()
        assert np.diff(found).max() < 2 * parts
        assert len(found) == 64
    assert place.of(0).tolist() == positions(GRAPH, "bent", 64).of(0).tolist()
    assert place.of(0).tolist() != place.of(1).tolist()
    assert place.of(0).tolist() != positions(GRAPH, "x", 64).of(0).tolist()


def test_means_are_those_of_the_first_runs_at_these_positions() -> None:
    x = np.random.default_rng(2).normal(size=(3, 96, 96, 2)).astype(np.float32)
    found = collect(GRAPH, x).sampled
    assert found is not None
    session, place = FloatSession(GRAPH), found.places["bent"]
    rows = [
        session.run({"x": sample[None]})["y"].reshape(-1, 2)[place.of(i)]
        for i, sample in enumerate(x[:2])
    ]
    np.testing.assert_allclose(found.mean("bent", 2), np.concatenate(rows).mean(axis=0), rtol=1e-5)


def test_data_that_comes_once_is_counted() -> None:
    x = np.zeros((5, 96, 96, 2), np.float32)
    assert samples_of(GRAPH, x).count == samples_of(GRAPH, iter(list(x))).count == 5
