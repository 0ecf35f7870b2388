"""The README's commands and programs, run in its order in a fresh directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import qcomp
from qcomp.frontends.onnx.rules import FOLDED_ONLY, RULES

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
WARNINGS = "-std=c99 -Wall -Wextra -Werror -pedantic"
SETS_UP = re.compile(r"python3\S* -m venv|\.venv/bin/pip install")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> Iterator[str]:
    """Every line of the sh blocks, without its comment."""
    for block in blocks("sh"):
        for line in block.splitlines():
            if command := line.split(" #")[0].strip():
                yield command


def others() -> list[str]:
    """The commands that are neither make targets nor set up an environment."""
    return [c for c in commands() if not c.startswith("make ") and not SETS_UP.match(c)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has who follows the README: the examples, and main.c as printed."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", folder / "examples")
    (program,) = blocks("c")
    (folder / "main.c").write_text(program)
    return folder


def shell(script: str, folder: Path) -> str:
    """Output of a script that finds this environment's programs first."""
    bin = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-e", "-u", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_first_screen_has_the_two_commands_the_program_and_the_table() -> None:
    first = README[: README.index("## Install")]
    assert "make demo" in first
    assert "make test" in first
    assert "```c\n" in first
    assert "```python\n" in first
    assert first.index("<!-- measured -->") < first.index("<!-- /measured -->")


def test_every_command_is_run_somewhere() -> None:
    steps = (ROOT / ".ci" / "run").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for command in commands():
        if command.startswith("make "):
            target = command.removeprefix("make ")
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), command
            if target in ("demo", "test", "lint"):
                assert re.search(rf"^make .*\b{target}\b", steps, re.MULTILINE), command
        elif SETS_UP.match(command):  # by each make target, before it does anything else
            assert "$(PYTHON) -m venv $(VENV)" in makefile
            assert re.search(r"pip install .*-e '\.\[", makefile)
        else:
            assert command in others()


@pytest.mark.usefixtures("cc")
def test_the_commands_work_and_the_c_program_reads_its_digit(workplace: Path) -> None:
    script = "\n".join(others())
    assert "qcomp compile" in script
    output = shell(script, workplace)
    assert "nothing would be refused" in output
    assert ": 0 differing bits" in output
    assert "median" in output
    assert "this is a 7" in output.splitlines()
    assert "the network as configured" in output
    assert "chosen:" in output


def test_the_c_program_is_c99_without_warnings(workplace: Path, digits: Path, cc: str) -> None:
    build = f"{cc} {WARNINGS} main.c -I{digits} {digits}/libdigits.a -o strict && ./strict"
    assert shell(build, workplace) == "this is a 7\n"


def test_the_python_snippet_works_and_saves(workplace: Path) -> None:
    (snippet,) = blocks("python")
    (workplace / "snippet.py").write_text(snippet)
    shell("rm -rf build && python snippet.py", workplace)
    assert (workplace / "build" / "digits" / "libdigits.a").is_file()


def test_the_digits_row_is_what_the_demo_measures(digits: Path, examples: Path) -> None:
    """Sizes of code depend on the machine; the arena does not, and accuracy by an image or two.

    The float arithmetic of calibration differs in its last bits between processors.
    """
    row = re.search(r"^\| digits .*$", README, re.MULTILINE)
    assert row is not None
    cells = [cell.strip() for cell in row[0].strip("|").split("|")]
    net = qcomp.load(digits)
    with np.load(examples / "digits_test.npz") as data:
        images, labels = data["images"], data["labels"]
    top1 = np.mean(net(images).argmax(1) == labels)
    assert cells[0] == f"digits ({len(labels)} images)"
    assert float(cells[2]) == pytest.approx(top1, abs=2 / len(labels))
    assert cells[4] == f"{net.arena_bytes:,} B"


def test_links_of_the_readme_and_of_the_docs_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_operators_said_to_be_refused_are_refused() -> None:
    known = set(RULES) | set(FOLDED_ONLY)
    refused = {"Loop", "Scan"}
    refused |= {"Einsum", "TopK"}
    assert not refused & known
