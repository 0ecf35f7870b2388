"""docs/debugging.md: its commands run, and say what the page says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qcomp.cli import main

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "debugging.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def workplace(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("debugging")
    for name in ("digits.onnx", "digits_calibration.npz", "digits_test.npz"):
        shutil.copy(examples / name, folder)
    for name, text in re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


Run = Callable[[str], str]


@pytest.fixture
def run(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs the lines of a script, those of qcomp in this process; gives all that they print."""
    monkeypatch.chdir(workplace)

    def line(text: str) -> str:
        program, *args = shlex.split(text)
        if program == "python":
            subprocess.run([sys.executable, *args], check=True)
            return ""
        with pytest.raises(SystemExit) as exit:
            main(args)
        printed = "".join(capsys.readouterr())
        assert not exit.value.code, printed
        return printed

    return lambda script: "".join(map(line, script.strip().splitlines()))


def first_row(output: str) -> str:
    """Of the table of `qcomp errors`."""
    (_, table) = output.split("together", 1)
    return next(line for line in table.splitlines() if " % " in line)


def test_each_fault_is_named_as_the_page_says(run: Run) -> None:
    clipped, coarse, scaled = re.findall(r"<!-- run -->\n```bash\n(.*?)```", PAGE, re.DOTALL)
    output = run(clipped)
    assert float(re.findall(r"top-1 +(\S+) +(\S+)", output)[0][1]) == pytest.approx(0.77, abs=0.01)
    shown = next(line for line in PAGE.splitlines() if line.startswith("expand.relu6.q "))
    assert first_row(output).split() == shown.split()
    output = run(coarse)
    assert "so weights or ranges limit it" in output
    assert re.search(r"weights +\d+ %", first_row(output))
    output = run(scaled)
    assert "values look like 0..255" in output
    assert first_row(output).split()[:2] == ["image", "input"]
    assert float(first_row(output).split()[2]) > 95


def test_advice_has_tried_the_cure(run: Run) -> None:
    command = (
        "qcomp compile digits.onnx -o build/advised --calibration digits_calibration.npz "
        "--recipe clipped.yaml --advise"
    )
    (told,) = [line for line in run(command).splitlines() if "--range minmax (" in line]
    before, after = map(float, re.findall(r"logits: (\S+) to (\S+) dB", told)[0])
    assert after - before == pytest.approx(36, abs=2)


@pytest.mark.slow
def test_the_story_of_scales_per_tensor_ends_with_the_cure_that_the_tool_names(run: Run) -> None:
    (story,) = re.findall(r"<!-- run: story -->\n```bash\n(.*?)```", PAGE, re.DOTALL)
    output = run(story)
    bad, good = re.findall(r"top-1 +(\S+) +(\S+)", output)
    assert float(bad[0]) == float(good[0]) == pytest.approx(0.98, abs=0.01)
    assert float(bad[1]) < 0.6
    assert float(good[1]) == pytest.approx(float(good[0]), abs=0.005)
    (table,) = re.findall(r" together .*\n(?:.*\n){3}", output)
    assert {line.split()[0] for line in table.splitlines()[2:]} == {
        "expand.relu6.q",
        "depthwise.relu6.q",
    }
    assert len(re.findall(r" weights +\d+ %", table)) == 2
    advised = [line for line in output.splitlines() if "(tried: " in line]
    assert "channels are not equalized: equalize: true in a recipe file" in advised[0]
    before, after = map(float, re.findall(r"logits: (\S+) to (\S+) dB", advised[0])[0])
    assert after - before == pytest.approx(37, abs=3)
