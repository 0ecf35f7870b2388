"""A library is checked where Python isn't: by a C program, which emulators run for `verify`."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import rehash

import qcomp
from qcomp.cli import main
from qcomp.errors import TargetError
from qcomp.runtime.verification import check_program_of, verify_directory
from qcomp.targets.catalog import target
from qcomp.targets.cpu.process.emulator import tools_for
from qcomp.targets.cpu.process.host import this_host
from qcomp.targets.cpu.target import CpuTarget
from tests.targets.test_library import MODELS

FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"]
LINE = r"^(.+): (\d+) vectors, (\d+) values, (\d+) differing values, (\d+) differing bits, .* us"


def saved(name: str, kind: str, folder: Path) -> Path:
    make, shape = MODELS[kind]
    random = np.random.default_rng(5)
    data = [random.normal(size=shape).astype(np.float32) for _ in range(4)]
    return qcomp.compile(make(), name, calibration=data, recipe="fast", name="net").save(folder)


def ran(program: str, directory: Path, name: str, cc: str, folder: Path) -> Any:
    (folder / "check.c").write_text(program)
    library = directory / f"lib{name}.a"
    command = [cc, *FLAGS, f"-I{directory}", "check.c", library, "-lm", "-o", "check"]
    subprocess.run(command, cwd=folder, check=True)
    return subprocess.run([folder / "check"], capture_output=True, text=True)


def test_the_program_finds_no_differing_bit(
    digits: Path, cc: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["verify", str(digits), "--samples", "3", "--emit-c", str(tmp_path / "vectors.c")])
    assert not exit.value.code
    assert capsys.readouterr().out == ""
    done = ran((tmp_path / "vectors.c").read_text(), digits, "digits", cc, tmp_path)
    assert done.returncode == 0, done
    ((isa, vectors, values, *differing),) = re.findall(LINE, done.stdout)
    report = verify_directory(digits, samples=3)
    assert ((isa,), int(vectors)) == (report.isas, report.samples)
    assert (int(values), differing) == (10 * report.samples, ["0", "0"])


def test_the_program_tells_of_bits_that_differ(digits: Path, cc: str, tmp_path: Path) -> None:
    program = check_program_of(digits, samples=0)
    table = program.index("static const uint64_t out0[]")
    at = program.index("0x", table) + 2
    other = "1" if program[at] != "1" else "2"
    done = ran(program[:at] + other + program[at + 1 :], digits, "digits", cc, tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("first difference: stored vector 0, ")
    assert re.search(r" 1 differing values, [1-4] differing bits", done.stdout)


@pytest.mark.skipif(this_host().family != "x86_64", reason="a library of several sets of x86-64")
def test_the_program_runs_each_set_that_the_processor_has(cc: str, tmp_path: Path) -> None:
    directory = saved("x86-64", "attention", tmp_path / "net")
    done = ran(check_program_of(directory, samples=1), directory, "net", cc, tmp_path)
    assert done.returncode == 0, done
    isas = tuple(isa for isa, *_ in re.findall(LINE, done.stdout, re.MULTILINE))
    assert isas == qcomp.load(directory).runnable_isas()


def can_emulate(name: str) -> None:
    cpu = target(name)
    assert isinstance(cpu, CpuTarget)
    triple = cpu.isas[0].triple
    if this_host().is_of(triple):
        pytest.skip("this machine runs the code itself")
    try:
        tools_for(triple)
    except TargetError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", ["aarch64", "arm64-android", "armv7", "riscv64", "wasm32"])
def test_networks_are_verified_in_an_emulator(name: str, kind: str, tmp_path: Path) -> None:
    can_emulate(name)
    directory = saved(name, kind, tmp_path / "net")
    report = verify_directory(directory, samples=2)
    assert report.exact, report
    assert report.isas == qcomp.load(directory).isa
    assert report.samples >= 7
    assert report.tools is not None
    assert " and " in report.tools


def test_verify_says_what_it_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    can_emulate("aarch64")
    directory = saved("aarch64", "attention", tmp_path / "net")
    for options, pattern in (([], r"on aarch64 by \S+ and qemu-aarch64\S* -cpu max, "), (
        ["--json"], r'"tools": "\S+ and qemu-aarch64'
    )):  # fmt: skip
        with pytest.raises(SystemExit):
            main(["verify", str(directory), "--samples", "0", *options])
        out = capsys.readouterr().out
        assert re.search(pattern, out), out
    assert json.loads(out)["differing_bits"] == 0


def test_a_wrong_library_is_found_in_an_emulator(tmp_path: Path) -> None:
    can_emulate("aarch64")
    directory = saved("aarch64", "attention", tmp_path / "net")
    with np.load(directory / "net.vectors.npz") as file:
        vectors = dict(file)
    vectors["output_0"][1].reshape(-1)[0] ^= 1
    np.savez(directory / "net.vectors.npz", **vectors)
    report = verify_directory(rehash(directory), samples=0)
    assert not report.exact
    assert report.first_difference is not None
    assert report.first_difference.startswith("stored vector 1, aarch64: 1 of")


def test_without_an_emulator_verify_names_what_is_missing(tmp_path: Path) -> None:
    directory = saved("arm64-macos", "attention", tmp_path / "net")
    said = r"code for arm64-apple.* nor emulated: no emulator is known for arm64-apple"
    with pytest.raises(TargetError, match=said):
        verify_directory(directory)


def test_a_missing_tool_has_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match=r"qemu-riscv64 runs code for .*, and is not installed"):
        tools_for("riscv64-unknown-linux-gnu")
    runner = tmp_path / "qemu-riscv64"
    runner.write_text("")
    runner.chmod(0o755)
    monkeypatch.setattr("qcomp.targets.cpu.process.emulator.zig", lambda *words: None)
    missing = "is missing: riscv64-linux-gnu-gcc or pip's ziglang"
    with pytest.raises(TargetError, match=missing):
        tools_for("riscv64-unknown-linux-gnu")
