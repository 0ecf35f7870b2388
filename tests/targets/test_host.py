"""A machine runs what its features say; `native` is its best, or what QCOMP_NATIVE names."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from qcomp.errors import TargetError
from qcomp.targets.catalog import TARGETS, target
from qcomp.targets.cpu.isa import (
    AARCH64,
    AARCH64_DOTPROD,
    AARCH64_I8MM,
    AMX_INT8,
    ARM_LADDER,
    AVX2,
    AVX512_VBMI,
    AVX512_VNNI,
    AVX_VNNI,
    FAMILIES,
    SSE41,
    X86_64,
    X86_LADDER,
    Isa,
)
from qcomp.targets.cpu.machine import Fusion
from qcomp.targets.cpu.process.host import NATIVE, TILES_REFUSED, Host, native, native_of, this_host
from qcomp.targets.cpu.systems import LIBRARIES
from qcomp.targets.cpu.target import CpuTarget
from qcomp.targets.cpu.x86.cpuid import CPUID


def never() -> bool:
    raise AssertionError("the kernel was asked for tiles")


def x86(*without: str, tiles: bool = True) -> Host:
    """A processor with every feature but these."""
    features = {f: f not in without for f in CPUID}
    return Host("Linux", "x86_64", features, lambda: tiles)


def with_features_of(isa: Isa) -> Host:
    return Host("Linux", "x86_64", dict.fromkeys(isa.required, True), never)


ARM = Host("Linux", "aarch64", {}, never)


def test_native_is_amx_only_where_the_kernel_permits_it() -> None:
    assert native_of(x86(), "") is AMX_INT8
    assert native_of(x86(tiles=False), "") is AVX512_VBMI


@pytest.mark.parametrize("isa", [X86_64, SSE41, AVX2, AVX_VNNI, AVX512_VNNI, AVX512_VBMI])
def test_the_kernel_is_not_asked_for_tiles_that_the_processor_lacks(isa: Isa) -> None:
    assert native_of(with_features_of(isa), "") is isa


def test_a_machine_without_vbmi_runs_no_code_for_it() -> None:
    """Cascade Lake has VNNI and no VBMI."""
    host = x86("avx512vbmi", "amx-tile", "amx-int8")
    assert native_of(host, "") is AVX512_VNNI
    assert host.lacks(AVX512_VBMI.required) == ("avx512vbmi",)
    assert Fusion.LOOKUP not in AVX512_VNNI.machine.fusions
    assert AVX512_VBMI not in X86_LADDER


def test_what_is_lacking_has_a_name() -> None:
    assert x86("avxvnni").lacks(AVX_VNNI.required) == ("avxvnni",)
    assert x86("amx-int8").lacks(AMX_INT8.required) == ("amx-int8",)
    assert x86(tiles=False).lacks(AMX_INT8.required) == (TILES_REFUSED,)
    assert x86().lacks(AMX_INT8.required) == ()


def test_native_on_arm_has_dot_products_where_the_processor_does() -> None:
    able = Host("Linux", "aarch64", {"dotprod": True}, never)
    assert native_of(able, "") is AARCH64_DOTPROD
    matrices = Host("Linux", "aarch64", {"dotprod": True, "i8mm": True}, never)
    assert native_of(matrices, "") is AARCH64_I8MM
    assert native_of(ARM, "") is AARCH64
    assert ARM.lacks(AARCH64_DOTPROD.required) == ("dotprod",)
    assert Fusion.RESIDUAL in AARCH64_DOTPROD.machine.fusions


def test_each_family_runs_its_own_sets() -> None:
    assert ARM.runs() == (AARCH64,)
    assert x86().runs() == FAMILIES["x86_64"]
    assert ARM.is_of(AARCH64.triple)
    assert not ARM.is_of(X86_64.triple)


def test_code_for_another_system_is_not_run() -> None:
    windows, android = (LIBRARIES[n][0].triple for n in ("arm64-windows", "arm64-android"))
    assert not ARM.is_of(windows)
    assert ARM.is_of(android)
    assert not replace(ARM, system="Windows").is_of(windows)


@pytest.mark.parametrize("isa", FAMILIES["x86_64"], ids=lambda isa: isa.name)
def test_native_can_be_any_set_of_the_machine(isa: Isa) -> None:
    assert native_of(x86(), isa.name) is isa


def test_native_is_no_set_that_the_machine_lacks() -> None:
    expected = re.escape(f"{NATIVE}=avx-vnni: this machine runs x86-64, sse4.1, avx2")
    with pytest.raises(TargetError, match=f"^{expected}$"):
        native_of(with_features_of(AVX2), "avx-vnni")
    with pytest.raises(TargetError, match=f"{NATIVE}=pentium"):
        native_of(x86(), "pentium")


@pytest.mark.parametrize(("system", "processor"), [("Darwin", "arm64"), ("Linux", "mips")])
def test_other_machines_have_no_native_target(system: str, processor: str) -> None:
    host = Host(system, processor, {}, never)
    assert host.runs() == ()
    with pytest.raises(TargetError, match=f"no native target for {system} on {processor}"):
        native_of(host, "")


@pytest.mark.parametrize("isa", this_host().runs(), ids=lambda isa: isa.name)
def test_the_environment_names_what_native_is(isa: Isa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NATIVE, isa.name)
    assert native() is isa


def test_every_set_is_a_target_and_the_ladder_is_part_of_the_family() -> None:
    baseline = {X86_64.name}  # its name is that of the library of several
    names = {isa.name for family in FAMILIES.values() for isa in family}
    ours = {name for name in TARGETS if isinstance(target(name), CpuTarget)}
    assert names - baseline == ours - {"native", "x86-64", "arm64"} - LIBRARIES.keys()
    assert set(X86_LADDER) < set(FAMILIES["x86_64"])
    assert set(ARM_LADDER) < set(FAMILIES["aarch64"])
    for name in names - baseline:
        assert target(name).name == name
