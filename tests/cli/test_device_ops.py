"""Networks of two targets: --device-ops, and the cut, which is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[..., Any]


def test_the_first_target_takes_the_ops_that_it_is_asked_to(
    qcomp_command: Command, examples: Path, calibration: Path, tmp_path: Path
) -> None:
    model, out = examples / "digits.onnx", tmp_path / "out"
    both = ("--target", "native+native", "--device-ops", "q_dense", "--recipe", "fast")
    outcome = qcomp_command("compile", model, "-o", out, "--calibration", calibration, *both)
    assert outcome.status == 0, outcome.err
    assert "note: digits_part0: " in outcome.out
    assert "1 q_dense on native[q_dense]; 40 bytes in, 10 out" in outcome.out
    plan = json.loads((out / "digits.parts.json").read_text())["plan"]
    assert [step["target"] for step in plan["steps"]] == ["native", "native[q_dense]"]
    verified = qcomp_command("verify", out)
    assert verified.status == 0, verified.out


def test_one_target_alone_can_not_be_limited(
    qcomp_command: Command, examples: Path, tmp_path: Path
) -> None:
    for target in ("native", "native[q_dense]+native"):
        outcome = qcomp_command(
            "compile", examples / "digits.onnx", "-o", tmp_path / "out", "--target", target,
            "--device-ops", "q_dense",
        )  # fmt: skip
        assert outcome.status == 2
        assert f"'{target}' is no target A+B of which the first can be limited" in " ".join(
            outcome.err.replace("│", " ").split()
        )
