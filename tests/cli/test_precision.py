"""`qcomp sensitivity` on the digits network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.fixture
def given(examples: Path, calibration: Path) -> list[str | Path]:
    return [examples / "digits.onnx", "--calibration", calibration, "--processes", "1"]


def test_sensitivity_prints_a_line_for_each_layer(
    qcomp_command: Command, given: list[str | Path]
) -> None:
    outcome = qcomp_command("sensitivity", *given)
    assert outcome.status == 0
    header, *rows, summary = outcome.out.splitlines()
    assert header.split()[:6] == ["layer", "op", "W8", "W4", "A8", "A16"]
    assert rows[0].split()[1] == "input"
    assert "the network as configured" in summary


def test_sensitivity_as_json_has_the_choices_asked_for(
    qcomp_command: Command, given: list[str | Path], tmp_path: Path
) -> None:
    options = ["--weight-bits", "8", "--activation-bits", "8", "--json", "--cache", tmp_path]
    outcome = qcomp_command("sensitivity", *given, *options)
    table = json.loads(outcome.out)
    assert set(table) == {"samples", "sqnr_db_configured", "parts"}
    for part in table["parts"]:
        assert set(part["only_rounded"]) == {"8"}
        assert part["only_rounded"]["8"] > table["sqnr_db_configured"]
    assert any(tmp_path.glob("*.npz"))
    assert qcomp_command("sensitivity", *given, *options).out == outcome.out


def test_bits_that_there_are_not_are_a_mistake(
    qcomp_command: Command, given: list[str | Path]
) -> None:
    outcome = qcomp_command("sensitivity", *given, "--weight-bits", "5")
    assert outcome.status == 2
    assert "weight_bits=5: expected one of 8, 4, 3, 2, 1" in outcome.err


def test_search_writes_a_recipe_that_compile_takes(
    qcomp_command: Command, given: list[str | Path], tmp_path: Path
) -> None:
    recipe = tmp_path / "small.yaml"
    options = ["--activation-bits", "8", "--points", "2", "--cache", tmp_path / "cache"]
    least = qcomp_command("search", *given, *options, "--max-bytes", "1").err
    budget = str(int(least.split()[-2]) + 100)
    outcome = qcomp_command(
        "search", *given, *options, "--max-bytes", budget, "--json", "-o", recipe
    )
    assert outcome.status == 0
    answer = json.loads(outcome.out)
    assert answer["chosen"]["bytes"] <= int(budget)
    assert "weight_bits: 4" in recipe.read_text()
    compiled = ["compile", *given[:3], "--recipe", recipe]
    assert qcomp_command(*compiled, "-o", tmp_path / "out").status == 0
    again = qcomp_command("search", *given, *options, "--max-bytes", budget)
    assert again.out.startswith("bits")
    assert "chosen:" in again.out


def test_search_wants_a_goal(qcomp_command: Command, given: list[str | Path]) -> None:
    outcome = qcomp_command("search", *given)
    assert outcome.status == 2
    assert "expected max_bytes, max_latency or max_drop" in outcome.err


def test_samples_of_batches_are_counted_in_samples(
    qcomp_command: Command, examples: Path, calibration: Path
) -> None:
    arguments = [examples / "digits.onnx", "--calibration", calibration, "--bind", "N=4"]
    bits = ["--weight-bits", "8", "--activation-bits", "8", "--processes", "1"]
    outcome = qcomp_command("sensitivity", *arguments, *bits, "--json")
    assert json.loads(outcome.out)["samples"] == 8
