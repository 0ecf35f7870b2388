"""Special files, empty paths, interruptions and data that claims too much."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from numpy.lib import format as npy_format

import qcomp
from qcomp.calibration.data import open_calibration
from qcomp.cli.arrays import read_arrays
from qcomp.errors import CompileError
from qcomp.ir.tensor import DType, TensorType

Command = Callable[..., Any]


@pytest.fixture
def model(examples: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(examples / "digits.onnx", tmp_path / "model.onnx"))


def mistake(outcome: Any) -> str:
    """The message of a command that ended as a user's mistake does."""
    assert outcome.status == 2, outcome
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    return str(outcome.err)


def header(shape: tuple[int, ...], *, fortran: bool) -> bytes:
    file = io.BytesIO()
    fields = {"descr": "<f4", "fortran_order": fortran, "shape": shape}
    npy_format.write_array_header_1_0(file, fields)
    return file.getvalue()


def test_pipes_and_devices_are_not_read(
    qcomp_command: Command, model: Path, digits: Path, tmp_path: Path
) -> None:
    pipe, out = tmp_path / "pipe.npy", tmp_path / "out"
    os.mkfifo(pipe)
    for special in (pipe, Path("/dev/zero")):
        for command in (["inspect"], ["compile", "-o", out], ["run", digits, "-o", out]):
            assert "not a regular file" in mistake(qcomp_command(*command, special))
    for suffix in ("npy", "npz"):
        data = tmp_path / f"zero.{suffix}"
        data.symlink_to("/dev/zero")
        outcome = qcomp_command("compile", model, "-o", out, "--calibration", data)
        assert "not a regular file" in mistake(outcome)
    assert not out.exists()


def test_a_file_too_large_for_onnx_is_not_read(qcomp_command: Command, tmp_path: Path) -> None:
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(1 << 34)
    assert "bytes; an ONNX file" in mistake(qcomp_command("inspect", tmp_path / "large.onnx"))


def test_data_larger_than_memory_is_a_message(
    qcomp_command: Command, digits: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.npy").write_bytes(header((10**14, 1, 8, 8), fortran=False))
    outcome = qcomp_command("run", digits, tmp_path / "in.npy", "-o", tmp_path / "out.npy")
    assert "not enough memory" in mistake(outcome)


def test_calibration_data_that_only_fits_in_memory_as_a_whole_is_refused(
    qcomp_command: Command, model: Path, tmp_path: Path
) -> None:
    claim = header((10**8, 1, 8, 8), fortran=True)
    (tmp_path / "claim.npy").write_bytes(claim)
    with zipfile.ZipFile(tmp_path / "claim.npz", "w") as archive:
        archive.writestr("image.npy", claim)
    for data in (tmp_path / "claim.npy", tmp_path / "claim.npz"):
        outcome = qcomp_command("compile", model, "-o", tmp_path / "o", "--calibration", data)
        assert "Fortran order" in mistake(outcome)


@pytest.mark.slow
def test_compressed_data_larger_than_its_array_is_not_unpacked(
    qcomp_command: Command, model: Path, tmp_path: Path
) -> None:
    data = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("image.npy", "w") as file,
    ):
        file.write(header((2, 1, 8, 8), fortran=False) + bytes(512))
        for _ in range(64):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    options = ["-o", tmp_path / "out", "--calibration", data, "--recipe", "fast"]
    outcome = qcomp_command("compile", model, *options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcome.status == 0, outcome.err
    assert peak < 1 << 25


@pytest.mark.parametrize("kind", ["npy", "stored", "deflated", "lzma"])
def test_damaged_arrays_are_never_more_than_a_message(kind: str, tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).random((5, 1, 8, 8), np.float32))
    whole, path = file.getvalue(), tmp_path / "in.npy"
    if kind != "npy":
        file, path = io.BytesIO(), tmp_path / "in.npz"
        methods = {"stored": 0, "deflated": 8, "lzma": 14}
        with zipfile.ZipFile(file, "w", methods[kind]) as archive:
            archive.writestr("image.npy", whole)
        whole = file.getvalue()
    generator = random.Random(1)
    inputs = {"image": TensorType(DType.F32, (1, 1, 8, 8))}
    for _ in range(400):
        spoiled = bytearray(whole)
        for place in (generator.randrange(160), generator.randrange(len(whole))):
            spoiled[place] = generator.randrange(256)
        path.write_bytes(spoiled)
        for read in (
            lambda: list(open_calibration(path, inputs)),
            lambda: read_arrays(path, ["image"]),
        ):
            with contextlib.suppress(CompileError):
                read()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", ""], "an empty path"),
        (["-o", "out", "--name", ""], "no C identifier"),
        (["-o", "out", "--bind", "N=1", "--bind", "N=2"], "two sizes"),
        (["-o", "out", "--bind-value", "a=1", "--bind-value", "a=2"], "two values"),
        (["-o", "out", "--input-range", "1", "1"], "low < high"),
        (["-o", "out", "--input-range", "nan", "1"], "low < high"),
        (["-o", "out", "--input-range", "1"], "2 arguments"),
    ],
)
def test_options_that_make_no_sense(
    options: list[str],
    message: str,
    qcomp_command: Command,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(model.parent)
    assert message in mistake(qcomp_command("compile", model, *options))
    assert list(model.parent.iterdir()) == [model]


def test_the_input_range_stands_in_for_data(
    qcomp_command: Command, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcome = qcomp_command("compile", model, "-o", out, "--input-range", "0", "2")
    assert outcome.status == 0, outcome.err
    assert "input image: assumed to be in [0, 2]" in outcome.out
    (image,) = qcomp.load(out).inputs
    assert (image.scale, image.zero_point) == (np.float32(2 / 255), -128)


def test_an_answer_goes_through_links_and_into_devices(
    qcomp_command: Command, digits: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "in.npy", np.zeros((2, 1, 8, 8), np.float32))
    (tmp_path / "link.npy").symlink_to("out.npy")
    for output in (tmp_path / "link.npy", Path("/dev/null")):
        outcome = qcomp_command("run", digits, tmp_path / "in.npy", "-o", output)
        assert outcome.status == 0, outcome.err
    assert (tmp_path / "link.npy").is_symlink()
    assert np.load(tmp_path / "out.npy").shape == (2, 10)
    assert Path("/dev/null").is_char_device()


def test_without_a_linker_compile_says_so(
    qcomp_command: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("qcomp.targets.cpu.library.link.zig", lambda *words: None)
    outcome = qcomp_command("compile", model, "-o", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert "no shared library: found no linker" in outcome.out


SLOW_LINKER = """#!/bin/sh
touch "$0.started"
exec sleep 60
"""


def test_an_interruption_leaves_nothing_and_shows_no_traceback(
    model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    linker = tmp_path_factory.mktemp("linker") / "cc"
    linker.write_text(SLOW_LINKER)
    linker.chmod(0o755)
    out = model.parent / "new" / "out"
    # A shell that runs the tests in the background has made its programs ignore interruptions.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    main = f"import sys; {heed}; from qcomp.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", main, "compile", model, "-o", out]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "CC": str(linker)}
    ) as process:
        while not linker.with_name("cc.started").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]
    assert (process.returncode, errors) == (130, "")
    assert list(model.parent.iterdir()) == [model]


def test_an_output_without_any_error_is_still_json(qcomp_command: Command, tmp_path: Path) -> None:
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,4] x) => (float[1,4] y) {y = Relu(x)}'
    )
    onnx.save(onnx.parser.parse_model(text), tmp_path / "relu.onnx")
    np.save(tmp_path / "zeros.npy", np.zeros((3, 4), np.float32))
    data, out = tmp_path / "zeros.npy", tmp_path / "out"
    model = tmp_path / "relu.onnx"
    outcome = qcomp_command("compile", model, "-o", out, "--calibration", data, "--json")
    for written in (outcome.out, (out / "relu.manifest.json").read_text()):
        assert json.loads(written, parse_constant=pytest.fail)["sqnr_db_output"] is None
