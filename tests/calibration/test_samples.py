"""Calibration data read several times, wherever it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcomp.calibration.samples import Samples
from qcomp.errors import CalibrationError
from qcomp.ir.tensor import DType, TensorType

INPUTS = {"x": TensorType(DType.F32, (1, 3)), "y": TensorType(DType.F32, (1, 2))}
DATA = [
    {"x": np.full((1, 3), i, np.float32), "y": np.full((1, 2), -i, np.float32)} for i in range(5)
]


def generated() -> Iterator[dict[str, Any]]:
    yield from DATA


def sources(tmp_path: Path) -> dict[str, Any]:
    stacked = {name: np.concatenate([d[name] for d in DATA]) for name in INPUTS}
    np.savez(tmp_path / "data.npz", **stacked)
    return {
        "a list": DATA,
        "arrays": stacked,
        "a path": tmp_path / "data.npz",
        "a generator": generated(),
        "a map": map(dict, DATA),
    }


@pytest.mark.parametrize("kind", ["a list", "arrays", "a path", "a generator", "a map"])
def test_every_source_is_read_as_often_as_asked(kind: str, tmp_path: Path) -> None:
    samples = Samples(sources(tmp_path)[kind], INPUTS)
    assert len(samples.first(2)) == 2
    for _ in range(2):
        runs = list(samples)
        assert len(runs) == len(DATA)
        for run, expected in zip(runs, DATA, strict=True):
            assert all(np.array_equal(run[name], expected[name]) for name in INPUTS)
    assert len(samples.first(9)) == len(DATA)


def test_two_readers_of_a_copy_do_not_disturb_each_other() -> None:
    samples = Samples(generated(), INPUTS)
    pairs = list(zip(samples, samples, strict=True))
    assert [float(a["x"][0, 0]) for a, _ in pairs] == [0, 1, 2, 3, 4]
    assert [float(b["x"][0, 0]) for _, b in pairs] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("source", [[], iter([]), iter([{"x": np.zeros((1, 3), np.float32)}])])
def test_data_that_is_missing_is_told(source: Any) -> None:
    with pytest.raises(CalibrationError, match=r"empty|no array for input y"):
        list(Samples(source, INPUTS))


def test_a_source_that_fails_is_told() -> None:
    def failing() -> Iterator[Any]:
        yield DATA[0]
        raise OSError("camera unplugged")

    with pytest.raises(OSError, match="camera unplugged"):
        list(Samples(failing(), INPUTS))


def test_what_a_limit_leaves_out_is_held_back(tmp_path: Path) -> None:
    for kind in ("a list", "arrays", "a path"):
        samples = Samples(sources(tmp_path)[kind], INPUTS, samples=3)
        assert [float(run["x"][0, 0]) for run in samples] == [0, 1, 2]
        assert [float(run["x"][0, 0]) for run in samples.held_back(8)] == [3, 4]
        assert [float(run["x"][0, 0]) for run in samples.held_back(1)] == [3]
    assert Samples(DATA, INPUTS).held_back(8) == ()
    assert Samples(generated(), INPUTS, samples=3).held_back(8) == ()
