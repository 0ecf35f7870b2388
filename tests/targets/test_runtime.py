"""What a machine lacks for a library, and what a target takes, in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Clamp
from qcomp.ir.tensor import DType, TensorType
from qcomp.targets.base import Artifact, Requirements
from qcomp.targets.catalog import TARGETS, runtime, target
from qcomp.targets.cpu.isa import AMX_INT8, AVX2, AVX512_VBMI, AVX_VNNI, FAMILIES, SSE41
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.process.host import TILES_REFUSED, Host, this_host
from qcomp.targets.cpu.runtime import CpuRuntime
from qcomp.targets.cpu.target import CpuTarget
from qcomp.targets.cpu.x86.cpuid import CPUID
from tests.targets.conftest import Kit
from tests.targets.test_cpu_residual import block


def on_x86(*without: str, tiles: bool = True) -> CpuRuntime:
    """A runtime on a processor with every feature but these."""
    features = {f: f not in without for f in CPUID}
    return CpuRuntime(lambda: Host("Linux", "x86_64", features, lambda: tiles))


def requires(*isas: Isa) -> Requirements:
    return Requirements(isas[0].triple, {isa.name: isa.required for isa in isas}, ())


@pytest.mark.parametrize("isa", FAMILIES["x86_64"], ids=lambda isa: isa.name)
def test_a_machine_with_all_features_lacks_none(isa: Isa) -> None:
    assert on_x86().lacking(requires(isa)) is None


@pytest.mark.parametrize(
    ("isa", "feature"), [(AVX_VNNI, "avxvnni"), (AVX512_VBMI, "avx512vbmi"), (AMX_INT8, "amx-int8")]
)
def test_a_missing_feature_has_a_name(isa: Isa, feature: str) -> None:
    says = f"{isa.name} needs {feature}, which this machine lacks"
    assert on_x86(feature).lacking(requires(isa)) == says


def test_a_permission_that_is_refused_is_missing() -> None:
    says = f"amx-int8 needs {TILES_REFUSED}, which this machine lacks"
    assert on_x86(tiles=False).lacking(requires(AMX_INT8)) == says


def test_one_set_of_several_is_enough() -> None:
    assert on_x86("avx2").lacking(requires(SSE41, AVX2)) is None
    says = "sse4.1 needs sse4.1; avx2 needs sse4.1, avx2, which this machine lacks"
    assert on_x86("avx2", "sse4.1").lacking(requires(SSE41, AVX2)) == says


def test_code_of_another_family_is_never_loaded(kit: Kit) -> None:
    graph, _ = block(kit, 3, 20)
    artifact = target("aarch64").emit(graph, "net")
    actions: list[Callable[[Artifact], Any]] = [
        lambda a: on_x86().load(a, graph, None),
        lambda a: on_x86().load(a, graph, Path("libnet.so")),
        lambda a: on_x86().profile(a, graph),
    ]
    for action in actions:
        with pytest.raises(TargetError, match="net can't run on this machine: code for aarch64"):
            action(artifact)


@pytest.mark.skipif(this_host().family != "x86_64", reason="the code that is timed is loaded")
def test_the_timed_set_is_the_best_of_the_library_that_the_machine_has(kit: Kit) -> None:
    graph, _ = block(kit, 3, 20)
    artifact = CpuTarget("two", (SSE41, AVX2)).emit(graph, "net")
    assert on_x86("avx2").profile(artifact, graph).isa == SSE41.name
    assert on_x86().profile(artifact, graph).isa == AVX2.name


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_is_loaded_by_the_runtime_that_the_catalog_names(name: str) -> None:
    assert runtime(name) == target(name).runtime


def test_a_target_says_which_ops_it_takes(kit: Kit) -> None:
    cpu = target("sse4.1")
    graph, _ = block(kit, 3, 20)
    assert [cpu.supports(graph, op) for op in graph.ops()] == [None] * len(graph.ops())
    real = Graph("real")
    x = real.add_input("x", TensorType(DType.F32, (1, 4)))
    clamp = Clamp(inputs=(x,), output="y")
    real.add_op(clamp)
    assert cpu.supports(real, clamp) == "the libraries compute with integers only"


def test_time_grows_with_products_bytes_and_bits() -> None:
    for name in ("sse4.1", "avx-vnni", "amx-int8", "aarch64"):
        cost = target(name).cost
        assert cost(1000, 9, 1000, 8) < cost(2000, 9, 1000, 8) < cost(2000, 9, 2000, 8)
        assert cost(1000, 9, 1000, 8) <= cost(1000, 9, 1000, 16) < cost(1000, 90, 1000, 16)
    of_8, of_16 = (target("avx-vnni").cost(10**6, 0, 0, bits) for bits in (8, 16))
    assert of_16 == pytest.approx(1.6 * of_8)
