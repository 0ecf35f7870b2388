"""A library never runs where it can't: it is not tried, says what is missing, and checks itself."""

from __future__ import annotations

import ctypes
import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import edited

import qcomp
from qcomp.cli import main
from qcomp.targets.catalog import TARGETS, Listed
from qcomp.targets.cpu.isa import AARCH64, SSE41, Isa
from qcomp.targets.cpu.library.dispatch import STATUS_BAD_CPU
from qcomp.targets.cpu.process.host import this_host
from qcomp.targets.cpu.process.jit import load_objects
from qcomp.targets.cpu.runtime import CpuRuntime
from qcomp.targets.cpu.target import CpuTarget
from qcomp.targets.cpu.x86.cpuid import CPUID, EAX, Bit

FAST = qcomp.QuantizationConfig(recipe="fast")
x86_only = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="its code asks an x86 processor"
)
# Features of x86 processors that hardly any has, by LLVM's names: SDM, volume 2, CPUID, leaf 7.
RARE = {"raoint": Bit(7, 1, EAX, 3), "sm3": Bit(7, 1, EAX, 1), "hreset": Bit(7, 1, EAX, 22)}


@pytest.fixture
def rare() -> str:
    """A feature that this machine lacks."""
    return this_host().lacks(RARE)[0]


@pytest.fixture
def elsewhere(rare: str, monkeypatch: pytest.MonkeyPatch) -> Isa:
    """An instruction set of other machines, which is a target as long as the test lasts."""
    isa = replace(SSE41, name="elsewhere", features=f"{SSE41.features},+{rare}")
    monkeypatch.setitem(CPUID, rare, RARE[rare])
    listed = Listed(lambda: CpuTarget(isa.name, (isa,)), CpuRuntime)
    monkeypatch.setitem(TARGETS, isa.name, listed)  # type: ignore[arg-type]
    return isa


@pytest.fixture
def net(elsewhere: Isa, models: Any) -> qcomp.CompiledNetwork:
    data = models.samples(8, 1, 4)
    return qcomp.compile(models.dense(), elsewhere.name, calibration=data, config=FAST, name="net")


@x86_only
def test_compiling_takes_the_answers_of_the_specification(
    net: qcomp.CompiledNetwork, rare: str, models: Any
) -> None:
    data = models.samples(8, 1, 4)
    here = qcomp.compile(models.dense(), "sse4.1", calibration=data, config=FAST)
    assert net.sqnr_db_output == here.sqnr_db_output
    assert net.sqnr_db_output is not None
    says = f"the output SQNR is that of the specification: elsewhere needs {rare}"
    assert [note for note in net.notes if note.startswith(says)]
    assert not [note for note in here.notes if "SQNR" in note]


@pytest.mark.skipif(platform.machine() == "aarch64", reason="this machine runs aarch64 code")
def test_compiling_for_another_family_has_an_sqnr_too(models: Any) -> None:
    data = models.samples(8, 1, 4)
    net = qcomp.compile(models.dense(), "aarch64", calibration=data, config=FAST)
    assert net.sqnr_db_output is not None
    assert any(AARCH64.triple in note for note in net.notes)


@x86_only
def test_a_network_says_which_feature_is_missing(net: qcomp.CompiledNetwork, rare: str) -> None:
    x = np.ones((1, 4), np.float32)
    expected = f"net can't run on this machine: elsewhere needs {rare}, which this machine lacks"
    questions: list[Callable[[], Any]] = [
        lambda: net(x),
        net.entry,
        net.runnable_isas,
        net.profile,
        lambda: net.use_isa("elsewhere"),
    ]
    for question in questions:
        with pytest.raises(qcomp.TargetError, match=f"^{expected}$"):
            question()
    assert net.specification(x).shape == (1, 3)


@x86_only
@pytest.mark.parametrize("command", [["verify"], ["bench"], ["bench", "--layers"], ["run"]])
def test_each_command_says_which_feature_is_missing(
    net: qcomp.CompiledNetwork,
    rare: str,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = str(net.save(tmp_path / "net"))
    np.save(tmp_path / "x.npy", np.ones((1, 4), np.float32))
    files = [str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy")] if command == ["run"] else []
    with pytest.raises(SystemExit) as exit:
        main([*command, folder, *files])
    assert exit.value.code == 2
    assert f"elsewhere needs {rare}, which this machine lacks" in capsys.readouterr().err
    assert not (tmp_path / "y.npy").exists()


@x86_only
@pytest.mark.usefixtures("rare")
def test_the_code_checks_itself(net: qcomp.CompiledNetwork, tmp_path: Path, cc: str) -> None:
    """In a host that does not ask before: a status, and nothing written."""
    entry = load_objects(net.artifact.files.values(), "net", 3)
    x, y = np.ones((1, 4), np.int8), np.full((1, 3), 99, np.int8)
    arena = net.artifact.memory.allocated()
    for _ in range(2):
        with pytest.raises(qcomp.TargetError, match="QCOMP_BAD_CPU"):
            entry([x], [y], arena)
    library = ctypes.CDLL(str(net.save(tmp_path / "net") / "libnet.so"))
    arguments = [ctypes.c_void_p(a.ctypes.data) for a in (x, y, arena)]
    assert library.net_run(*arguments) == STATUS_BAD_CPU
    assert (y == 99).all()


@x86_only
def test_a_library_of_several_sets_runs_where_there_is_one(
    elsewhere: Isa, rare: str, net: qcomp.CompiledNetwork
) -> None:
    both = CpuTarget("both", (SSE41, elsewhere)).emit(net.graph, "net")
    assert CpuRuntime().lacking(both.requires) is None
    entry = CpuRuntime().load(both, net.graph, None)
    assert [entry.set_isa(n) for n in (1, 2, 0)] == [True, False, True]
    twin = replace(elsewhere, name="twin")
    neither = CpuTarget("neither", (elsewhere, twin)).emit(net.graph, "net")
    says = f"elsewhere needs {rare}; twin needs {rare}, which this machine lacks"
    assert CpuRuntime().lacking(neither.requires) == says
    entry = load_objects(neither.files.values(), "net", 3)
    assert [entry.set_isa(n) for n in (1, 2, 0)] == [False, False, True]
    with pytest.raises(qcomp.TargetError, match="QCOMP_BAD_CPU"):
        entry([np.ones((1, 4), np.int8)], [np.empty((1, 3), np.int8)], both.memory.allocated())


@pytest.fixture
def saved(dense: qcomp.CompiledNetwork, tmp_path: Path) -> Path:
    """A native library of a few bytes."""
    return dense.save(tmp_path / "saved")


def test_the_manifest_says_the_features_of_each_set(saved: Path) -> None:
    manifest = json.loads((saved / "dense.manifest.json").read_text())
    requires = qcomp.load(saved).artifact.requires
    assert list(manifest["features"]) == manifest["isa"] == list(requires.isas)
    assert {k: tuple(v) for k, v in manifest["features"].items()} == requires.features


def test_a_directory_of_a_better_machine_loads_and_says_what_is_missing(saved: Path) -> None:
    def better(manifest: dict[str, Any]) -> None:
        manifest.update(isa=["elsewhere"], features={"elsewhere": ["sse4.1", "telepathy"]})

    net = qcomp.load(edited(saved, better))
    assert net.lacking == "elsewhere needs telepathy, which this machine lacks"
    with pytest.raises(qcomp.TargetError, match="elsewhere needs telepathy, which this machine"):
        net(np.ones((1, 4), np.float32))
    assert net.specification(np.ones((1, 4), np.float32)).shape == (1, 3)


@pytest.mark.parametrize("features", [None, {"another": []}, 3])
def test_features_of_other_sets_are_a_model_error(saved: Path, features: Any) -> None:
    def unknown(manifest: dict[str, Any]) -> None:
        manifest.update(isa=["pentium"], features=features)

    with pytest.raises(qcomp.ModelError, match="incomplete or damaged"):
        qcomp.load(edited(saved, unknown))


def test_a_directory_for_a_target_that_is_unknown_is_a_model_error(saved: Path) -> None:
    def unknown(manifest: dict[str, Any]) -> None:
        manifest["target"] = "abacus"

    with pytest.raises(qcomp.ModelError, match="unknown target 'abacus'"):
        qcomp.load(edited(saved, unknown))
