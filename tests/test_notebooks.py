"""The notebooks of examples/ run from the first cell to the last, and are kept without outputs."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path) -> list[dict[str, Any]]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    return list(notebook["cells"])


def run(source: str, where: str, names: dict[str, Any]) -> None:
    """As a kernel does: the value of an expression at the end is shown, as a card if it has one."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, where, "exec"), names)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), where, "eval"), names)
        card = getattr(value, "_repr_html_", None)
        assert (card() if card else repr(value)) or value is None


@pytest.mark.few(1)
@each
def test_it_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, examples: Path
) -> None:
    for file in ("digits.onnx", "digits_calibration.npz", "digits_test.npz"):
        shutil.copy(examples / file, tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "notebook"}
    for number, cell in enumerate(cells(path)):
        if cell["cell_type"] == "code":
            run("".join(cell["source"]), f"{path.name}, cell {number}", names)


@each
def test_it_is_kept_without_outputs_and_with_the_fields_of_its_format(path: Path) -> None:
    seen = set()
    for cell in cells(path):
        assert cell["id"] not in seen
        seen.add(cell["id"])
        assert cell["cell_type"] in ("code", "markdown")
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_there_are_two() -> None:
    assert len(NOTEBOOKS) == 2
