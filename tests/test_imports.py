"""What importing qcomp, and starting its command line, does not import."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import qcomp

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("llvmlite", "networkx", "numpy", "onnx", "onnxruntime", "rich", "scipy", "tvm", "yaml")
EVALUATING = ("llvmlite", "onnx", "onnxruntime", "rich", "scipy.optimize", "yaml")
LISTS_MODULES = "import sys; print(*sys.modules)"


def imported_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has after the code, which prints nothing itself."""
    command = [sys.executable, "-c", f"{code}\n{LISTS_MODULES}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import qcomp; qcomp.QuantizationConfig(); qcomp.CompileError", (*HEAVY, "typer")),
        ("import qcomp.cli", HEAVY),
        ("from qcomp.pipeline import Stage", ("onnxruntime", "rich")),
        ("from qcomp.quant.estimators import ESTIMATORS", ("scipy.optimize",)),
        ("from qcomp.calibration.evidence import Evidence", EVALUATING),
    ],
)
def test_what_is_not_needed_yet_is_not_imported(code: str, unwanted: tuple[str, ...]) -> None:
    assert imported_by(code) & set(unwanted) == set()


def test_onnxruntime_writes_nothing_when_it_is_imported(tmp_path: Path) -> None:
    """Its telemetry has files under the home directory and in TMPDIR."""
    code = """
from qcomp.execute.session import FloatSession
from qcomp.ir.parse import parse
FloatSession(parse("graph @g(%x: f32[1,2]) {\\n  return y=%x\\n}"))
"""
    places = {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    environment = {**os.environ, **places}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_help_is_printed_without_the_compiler() -> None:
    code = """
import contextlib, io
from qcomp.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
    main(["--help"])
assert "compile" in shown.getvalue()
"""
    assert imported_by(code) & {*HEAVY, "qcomp.compiler", "qcomp.ir"} == set()


def test_the_names_of_the_package_are_those_that_type_checkers_see() -> None:
    tree = ast.parse((ROOT / "qcomp" / "__init__.py").read_text(encoding="utf-8"))
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == qcomp._HOMES
    assert {name for name in qcomp.__all__ if not hasattr(qcomp, name)} == set()
    assert set(qcomp.__all__) <= set(dir(qcomp))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'qcomp' has no attribute 'quantise'"):
        _ = qcomp.quantise
