"""The accuracy script measures the digits network as it would one of the zoo."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from accuracy import PEERS_SCRIPT, Bench
from accuracy_configs import PEERS, Config
from accuracy_costs import calibration, peak_megabytes
from accuracy_peers import dequantized_as, quantized_as

import qcomp

ROOT = Path(__file__).resolve().parents[2]
NAME = "mnist"  # has a row of every peer


@dataclass(frozen=True)
class Digits:
    """As the zoo's networks are."""

    model: Path = ROOT / "examples/digits.onnx"

    def data(self, split: str, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(["calibration", "evaluation"].index(split))
        x = rng.uniform(0, 1, (count or 6, 1, 8, 8)).astype(np.float32)
        return x, np.arange(len(x)) % 10

    def accuracy(self, outputs: np.ndarray, labels: np.ndarray) -> float:
        return float(np.mean(outputs.argmax(1) == labels))


@pytest.fixture
def zoo() -> ModuleType:
    module = ModuleType("zoo")
    vars(module)["load"] = lambda name: Digits()
    return module


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Path(sys.executable), tmp_path / "cache", None)


def test_a_row_has_accuracy_cost_and_exactness(zoo: ModuleType, bench: Bench) -> None:
    config = Config(qcomp.QuantizationConfig(recipe="fast"), (NAME,))
    row = bench.qcomp_row(zoo, NAME, config)
    assert row["samples"] == 6
    assert 0 <= row["top1"] <= 1
    assert row["sqnr_db"] > 20
    assert row["differing_bits"] == 0
    assert min(row["seconds"], row["peak_mb"], row["weights_bytes"]) > 0


def test_a_peer_is_judged_by_its_outputs_which_are_kept(zoo: ModuleType, bench: Bench) -> None:
    row = bench.peer_row(zoo, NAME, "float")
    assert row["sqnr_db"] is None  # infinite: nothing differs
    (kept,) = bench.cache.iterdir()
    before = kept.stat().st_mtime_ns
    assert bench.peer_row(zoo, NAME, "float") == row
    assert kept.stat().st_mtime_ns == before


def test_a_peer_that_fails_says_why(zoo: ModuleType, tmp_path: Path) -> None:
    bench = Bench(Path("/bin/false"), tmp_path, None)
    with pytest.raises(RuntimeError, match="float ended with 1"):
        bench.peer_row(zoo, NAME, "float")


def test_the_peers_of_the_table_are_those_of_the_script() -> None:
    command = [sys.executable, str(PEERS_SCRIPT), "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "{" + ",".join(PEERS) + "}" in told


def test_calibration_asks_every_estimator(zoo: ModuleType) -> None:
    row = calibration(3)(zoo, NAME)
    assert row["ranges"] > row["samples"] == 3
    assert row["peak_mb"] >= row["before_mb"] > 0
    assert peak_megabytes() >= row["before_mb"]


def test_integers_of_a_tflite_file_are_saturated() -> None:
    tensor: dict[str, Any] = {"dtype": np.int8, "quantization": (0.5, -3)}
    q = quantized_as(tensor, np.array([[0.0, 1.0, 1e6, -1e6]], np.float32))
    assert q.tolist() == [[-3, -1, 127, -128]]
    assert dequantized_as(tensor, q).tolist() == [[0.0, 1.0, 65.0, -62.5]]
