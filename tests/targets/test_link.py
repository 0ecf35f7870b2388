"""Which linker makes the shared library, and what happens without one."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import qcomp
from qcomp.targets.cpu.library.link import linker
from qcomp.targets.cpu.platform import ObjectFormat
from qcomp.targets.cpu.process.host import this_host


@pytest.fixture
def net(digits: Path) -> qcomp.CompiledNetwork:
    return qcomp.load(digits)


def no_tools(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("qcomp.targets.cpu.library.link.zig", lambda *words: None)


def test_the_compiler_may_be_chosen_with_flags(
    net: qcomp.CompiledNetwork, cc: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", f"{shlex.quote(cc)} -O1 -g0")
    assert linker(net.artifact.requires.triple, ObjectFormat.ELF, this_host()) == [
        cc,
        "-O1",
        "-g0",
        "-shared",
        "-nostdlib",
    ]
    assert (net.save(tmp_path / "out") / "libdigits.so").is_file()


@pytest.mark.parametrize("cc_variable", ["", " ", "no-such-compiler"])
def test_a_compiler_that_is_not_there_is_passed_over(
    net: qcomp.CompiledNetwork, cc: str, cc_variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", cc_variable)
    assert linker(net.artifact.requires.triple, ObjectFormat.ELF, this_host()) is not None


def test_without_a_linker_there_is_no_shared_library_but_all_else_works(
    net: qcomp.CompiledNetwork, cc: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = net.save(tmp_path / "out")
    assert (folder / "libdigits.so").is_file()
    no_tools(monkeypatch, tmp_path)
    net.save(folder)
    assert json.loads((folder / "digits.manifest.json").read_text())["library"] is None
    assert not (folder / "libdigits.so").exists()
    x = np.random.default_rng(0).random((3, 1, 8, 8), np.float32)
    assert_array_equal(qcomp.load(folder)(x), net.specification(x))


def test_a_linker_that_fails_is_quoted_and_nothing_is_left(
    net: qcomp.CompiledNetwork, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho 'out of luck' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(qcomp.TargetError, match=r"can't link libdigits\.so: out of luck"):
        net.save(tmp_path / "out")
    assert [f.name for f in tmp_path.iterdir()] == ["broken-cc"]
