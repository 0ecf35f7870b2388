"""Python and commands on the pages that teach are run, in their order, in a fresh directory.

A block of C is main.c, one of YAML a recipe.

What a page leaves to its reader, such as a model, is said here. Blocks of `text` and `toml` show
what others write.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qcomp.cli import main
from qcomp.extensions import REGISTRIES
from qcomp.recipes.file import read_recipe

ROOT = Path(__file__).resolve().parent.parent
GIVEN = """
import sys
import numpy as np
import qcomp
sys.path.insert(0, "examples")
model = "examples/digits.onnx"
with np.load("examples/digits_calibration.npz") as data:
    samples = data["image"]
"""
PAGES = {
    "tutorial.md": "",
    "accuracy-help.md": "",
    "coming-from.md": GIVEN,
    "extending.md": GIVEN + "from own_pass import Prune\n",
}


def blocks(page: str) -> list[tuple[str, str]]:
    """The language and the text of each fenced block."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for registry in REGISTRIES:  # forget what pages add
        monkeypatch.setattr(registry, "_added", {**registry._added})
    return tmp_path


def commands(script: str) -> None:
    """Run it; qcomp's own commands, where there are no others, in this process."""
    lines = script.strip().splitlines()
    if not all(line.startswith("qcomp ") for line in lines):
        shell(script)
        return
    for line in lines:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(line)[1:])
        assert ended.value.code == 0, line


def shell(script: str) -> None:
    """Run it with this environment's programs first."""
    bin = Path(sys.executable).parent
    path = f"{bin}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-u", "-c", script],
        env={**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join([str(ROOT), "examples"])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("page", PAGES)
def test_the_snippets_of_a_page_run_in_their_order(page: str) -> None:
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(PAGES[page], names)
    run = 0
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, f"{page}, block {run + 1}", "exec"), names)
        elif language == "sh":
            commands(text)
        elif language == "c":
            Path("main.c").write_text(text)
        elif language == "yaml":
            Path("recipe.yaml").write_text(text)
            read_recipe("recipe.yaml")
        run += language in ("python", "sh")
    assert run > 0


@pytest.mark.parametrize("kind", ["pass", "estimator", "operator", "target"])
def test_the_files_of_extensions_run(kind: str, workplace: Path) -> None:
    runpy.run_path(str(workplace / "examples" / f"own_{kind}.py"), run_name="__main__")
