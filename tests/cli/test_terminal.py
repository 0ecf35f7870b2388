"""What every command takes: how much is told, options from a file, names that are nearly right."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcomp
from qcomp.cli.session import hoisted
from qcomp.errors import did_you_mean
from qcomp.targets.catalog import ALIASES, TARGETS, target

Command = Callable[..., Any]


@pytest.fixture
def compiled(qcomp_command: Command, examples: Path, tmp_path: Path, calibration: Path) -> Command:
    """`compiled("-q")`: the digits with few samples, and so with a finding."""

    def command(*options: str | Path, where: str = "compile") -> Any:
        out = ["-o", tmp_path / "out"] if where == "compile" else []
        given = ["--calibration", calibration, "--recipe", "fast", *options]
        return qcomp_command(where, examples / "digits.onnx", *out, *given)

    return command


def test_the_version_is_printed(qcomp_command: Command) -> None:
    outcome = qcomp_command("--version")
    assert (outcome.status, outcome.out) == (0, f"qcomp {qcomp.__version__}\n")
    module = [sys.executable, "-m", "qcomp", "--version"]
    assert subprocess.check_output(module, text=True) == outcome.out


def test_options_of_every_command_may_stand_anywhere() -> None:
    args = ["compile", "m", "-q", "--config", "c.toml", "-o", "d", "--", "-v"]
    assert hoisted(args) == ["-q", "--config", "c.toml", "compile", "m", "-o", "d", "--", "-v"]
    assert hoisted(["run", "--config"]) == ["--config", "run"]


def test_findings_are_warnings_and_are_counted(compiled: Command) -> None:
    outcome = compiled()
    assert "qcomp: warning: calibration data: 8 samples, fewer than 16" in outcome.err
    assert outcome.out.rstrip().endswith(", 1 finding: see above")
    assert "\x1b[" not in outcome.err


def test_quiet_tells_errors_only(compiled: Command) -> None:
    outcome = compiled("-q")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    outcome = compiled("-q", "--json")
    assert json.loads(outcome.out)["findings"]
    assert "unknown target" in compiled("-q", "--target", "z80").err


def test_verbose_tells_every_step_and_twice_what_it_did(compiled: Command) -> None:
    outcome = compiled("-v")
    assert "qcomp: imported digits: " in outcome.err
    assert "qcomp: insert-quantize: " in outcome.err
    assert "qcomp:   did " not in outcome.err
    assert "qcomp:   did " in compiled("-vv").err


def test_the_log_of_the_package_is_pythons_own(
    examples: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "qcomp")
    data = np.random.default_rng(0).random((4, 1, 8, 8), np.float32)
    qcomp.compile(examples / "digits.onnx", calibration=data, recipe="fast")
    levels = {(r.name, r.levelname) for r in caplog.records}
    assert levels == {("qcomp.passes", "INFO"), ("qcomp.findings", "WARNING")}
    assert logging.getLogger("qcomp").handlers == []


def test_options_come_from_a_file_and_the_command_line_is_first(
    compiled: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("qcomp.toml").write_text(
        'weight-bits = 4\n[compile]\nname = "shapes"\nper-tensor = true\n'
        'mean = [0.5]\nbgr = true\nbind = ["N=2"]\ninput-range = [0, 2]\n'
    )
    outcome = compiled("-v")
    assert outcome.status == 0, outcome.err
    assert "qcomp: options of qcomp.toml" in outcome.err
    config = qcomp.load(tmp_path / "out").config
    assert (config.weight_bits, config.per_channel, config.input_range) == (4, False, (0.0, 2.0))
    assert config.preprocessing is not None
    assert (config.preprocessing.mean, config.preprocessing.channels) == ((0.5,), "bgr")
    assert qcomp.load(tmp_path / "out").inputs[0].shape[0] == 2
    assert (tmp_path / "out" / "shapes.h").is_file()
    shutil.rmtree(tmp_path / "out")
    other = tmp_path / "pyproject.toml"
    other.write_text('[tool.qcomp.compile]\nname = "other"\n')
    assert compiled("--config", other, "--name", "last").status == 0
    assert (tmp_path / "out" / "last.h").is_file()
    assert qcomp_weight_bits(tmp_path / "out" / "last.manifest.json") == 8


def qcomp_weight_bits(manifest: Path) -> Any:
    return json.loads(manifest.read_text())["config"]["weight_bits"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[compile]\nweigth-bits = 4\n", "'weigth-bits' is no option of a command; did you mean"),
        ("[compil]\nname = 4\n", "'compil' is no option of a command; did you mean 'compile'?"),
        ("compile = 3\n", "compile: expected a table of options"),
        ("[compile\n", "can't be read as TOML"),
        ('[compile]\nweight-bits = "many"\n', "Invalid value for '--weight-bits'"),
    ],
)
def test_a_file_with_mistakes_is_refused(
    text: str, message: str, compiled: Command, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text(text)
    outcome = compiled("--config", tmp_path / "c.toml")
    assert outcome.status == 2
    assert message in outcome.err


def test_aliases_are_the_targets_that_they_stand_for() -> None:
    assert target("x86_64") is not None
    assert {*ALIASES.values()} <= {*TARGETS}
    assert not {*ALIASES} & {*TARGETS}
    page = (Path(qcomp.__file__).parent.parent / "docs" / "cli.md").read_text("utf-8")
    assert all(f"`{alias}`" in page for alias in ALIASES)


@pytest.mark.parametrize(
    ("options", "near"),
    [
        (["--target", "avx512-vnnni"], "avx512-vnni"),
        (["--target", "aarch46"], "aarch64"),
        (["--range", "minmaxx"], "minmax"),
        (["--rounding", "adaroun"], "adaround"),
        (["--recipe", "fats"], "fast"),
    ],
)
def test_names_that_are_nearly_right_are_answered_with_the_right_one(
    options: list[str], near: str, compiled: Command
) -> None:
    outcome = compiled(*options)
    assert outcome.status == 2
    assert f"did you mean {near!r}?" in outcome.err


def test_nothing_near_is_not_made_up() -> None:
    assert did_you_mean("zzz", ["native", "avx2"]) == ""
    assert did_you_mean(3, [8, 4, "auto"]) == ""


def test_doctor_tells_what_is_installed_and_what_runs(qcomp_command: Command) -> None:
    found = json.loads(qcomp_command("doctor", "--json").out)
    assert found["qcomp"] == qcomp.__version__
    assert found["needed"]["numpy"] == np.__version__
    assert found["native"] in [None, *found["instruction_sets"]]
    shown = qcomp_command("doctor").out
    assert "  package    numpy" in shown


@pytest.mark.parametrize("moment", ["importing", "starting", "a callback", "compiling"])
def test_an_interruption_shows_no_traceback_at_any_moment(
    moment: str, examples: Path, tmp_path: Path
) -> None:
    """Raised where it would arrive, as times of signals are no test."""
    place = {
        "importing": "sys.meta_path.insert(0, Importing)",
        "starting": "import qcomp.cli.session as m; m.Session.begin = stop",
        "a callback": "import qcomp.compiler as m; m.decide = forgetful",
        "compiling": "import qcomp.compiler as m; m.decide = stop",
    }[moment]
    program = (
        f"import os, signal, sys\nfrom qcomp.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def stop(*_, **__): os.kill(os.getpid(), signal.SIGINT)\n"
        "class Dying:\n    def __del__(self): stop()\n"
        "class Importing:\n"
        "    def find_spec(name, *_): return stop() if name == 'qcomp.cli.app' else None\n"
        "def forgetful(*_, **__):\n    Dying()\n    while len(sys.argv) < 99: pass\n"
        f"{place}\nmain(sys.argv[1:])"
    )
    command = [examples / "digits.onnx", "-o", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", program, "compile", *command], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows")
def test_workers_do_not_hear_of_an_interruption() -> None:
    from qcomp.precision.processes import _deaf_to_interruptions

    code = "import signal, os; os.kill(os.getpid(), signal.SIGINT); print('alive')"
    with _deaf_to_interruptions():
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.communicate()[0] == b"alive\n"
