"""Calibration data of a network with states: what the float network leaves from step to step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcomp.calibration.sequences import data_of
from qcomp.errors import CalibrationError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Add
from qcomp.ir.tensor import DType, TensorType


def counting() -> Graph:
    """h_out = h_in + x."""
    graph, type = Graph("counting"), TensorType(DType.F32, (1, 2))
    x, h = (graph.add_input(name, type) for name in ("x", "h_in"))
    graph.outputs["h_out"] = graph.add_op(Add(inputs=(h, x), output="h_out"))
    graph.states["h_in"] = "h_out"
    return graph


def ones(steps: int) -> np.ndarray:
    return np.ones((steps, 2), np.float32)


class Reader:
    """As quantizers of onnxruntime take it."""

    def __init__(self, feeds: list[dict[str, np.ndarray]]) -> None:
        self.feeds = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


SOURCES: dict[str, tuple[Callable[[], Any], list[int]]] = {
    "one array": (lambda: ones(3), [0, 1, 2]),
    "a dict": (lambda: {"x": ones(3)}, [0, 1, 2]),
    "two sequences": (lambda: [ones(3), ones(2)], [0, 1, 2, 0, 1]),
    "single steps": (lambda: [{"x": ones(1)}] * 3, [0, 1, 2]),
    "steps behind a sequence": (lambda: [ones(2), ones(1), ones(1)], [0, 1, 0, 1]),
    "tuples": (lambda: [(ones(2),), (ones(2),)], [0, 1, 0, 1]),
    "labelled": (lambda: [(ones(2), np.array([1, 2]))], [0, 1]),
    "a generator": (lambda: (x for x in [ones(2), ones(2)]), [0, 1, 0, 1]),
    "a function": (lambda: lambda: iter([ones(2)]), [0, 1]),
    "a reader": (lambda: Reader([{"x": ones(1)}] * 2), [0, 1]),
    "states in the data": (lambda: [{"x": ones(1), "h_in": 7 * ones(1)}] * 2, [7, 7]),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_states_go_along_each_sequence(kind: str) -> None:
    source, expected = SOURCES[kind]
    data = data_of(counting(), source())
    for _ in range(2):
        assert [run["h_in"].tolist() for run in data] == [[[h, h]] for h in expected]


def test_files_are_sequences(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=ones(3))
    np.savez(tmp_path / "b.npz", x=ones(2))
    data = data_of(counting(), tmp_path)
    assert [run["h_in"][0, 0] for run in data] == [0, 1, 2, 0, 1]
    assert data.notes == (
        "calibration data: h_in: what the float network leaves from step to step, in 2 sequences "
        "of up to 3 steps",
    )


def test_the_first_runs_are_spread_over_all() -> None:
    data = data_of(counting(), ones(8))
    assert [run["h_in"][0, 0] for run in data.first(4)] == [0, 2, 4, 6]


def test_a_cache_has_the_last_rows() -> None:
    graph = Graph("cache")
    kept, given = (TensorType(DType.F32, (1, rows, 2)) for rows in (3, 1))
    x, _ = graph.add_input("x", given), graph.add_input("past", kept)
    graph.outputs["new"] = graph.add_op(Add(inputs=(x, x), output="new"))
    graph.states["past"] = "new"
    x = np.arange(5, dtype=np.float32).reshape(5, 1, 1).repeat(2, axis=2)
    runs = list(data_of(graph, x))
    assert [run["past"][0, :, 0].tolist() for run in runs] == [
        [0, 0, 0],
        [0, 0, 0],
        [0, 2, 0],
        [0, 2, 4],
        [6, 2, 4],
    ]


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(CalibrationError, match="calibration data is a int"):
        list(data_of(counting(), 3))  # type: ignore[arg-type]
