"""The scripts that measure compilation and start-up do so on the digits network."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import python_call
from compile_cost import qcomp_work, spent
from compile_time import STAGES, WHOLE, noise, timed_compile
from first_result import first_results

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples/digits.onnx"


@pytest.mark.parametrize("target", ["native", "x86-64"])
def test_the_stages_are_parts_of_what_follows_calibration(target: str, tmp_path: Path) -> None:
    data = noise(str(DIGITS), 2)
    net, spent = timed_compile(str(DIGITS), tmp_path, target, calibration=data, name="digits")
    assert net.directory == tmp_path
    assert set(STAGES) < set(spent)
    assert min(spent.values()) > 0
    stages = ("passes", "lowering", "objects", "SQNR", "vectors", "linking")
    assert sum(spent[stage] for stage in stages) < spent[WHOLE]
    assert spent["printing IR"] < spent["objects"]


@pytest.mark.slow
def test_the_first_result_comes_after_the_library_is_open(digits: Path, cc: str) -> None:
    results = first_results(digits, 2)
    assert len(results) == 2
    for opened, first, second in results:
        assert 0 < opened < first
        assert second > 0


def test_a_compilation_costs_processor_seconds_and_memory() -> None:
    samples = [np.zeros((1, 1, 8, 8), np.float32)] * 2
    found = spent(qcomp_work(DIGITS, samples, "fast"))
    assert 0.0 < found["seconds"] < 600.0
    assert found["peak_mb"] > 10.0


def test_a_call_is_measured_beside_the_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(python_call, "TIMES", 2)
    monkeypatch.setattr("sys.argv", ["python_call.py", str(DIGITS)])
    python_call.main()
    whole, code, between = map(float, re.findall(r"([\d.-]+) us", capsys.readouterr().out))
    assert whole > 0.0 < code
    assert between == pytest.approx(whole - code, abs=0.011)
