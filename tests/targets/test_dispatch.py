"""A library of several instruction sets chooses what the processor has, or what is asked for."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qcomp.ir.evaluate import evaluate
from qcomp.targets.base import Artifact
from qcomp.targets.catalog import target
from qcomp.targets.cpu.isa import AMX_INT8, AVX512_VNNI, X86_LADDER, identifier
from qcomp.targets.cpu.library.dispatch import STATUS_BAD_CPU, STATUS_OK
from qcomp.targets.cpu.library.link import shared_library
from qcomp.targets.cpu.lower.graph import lower_variants
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.process.host import this_host
from tests.targets.conftest import Kit
from tests.targets.test_cpu_residual import block

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the ladder is of x86-64"
)


@pytest.fixture(scope="module")
def artifact(kit: Kit) -> Artifact:
    graph, _ = block(kit, 7, 70, 3)
    return target("x86-64").emit(graph, "net")


@pytest.fixture
def library(artifact: Artifact, tmp_path: Path) -> ctypes.CDLL:
    path = shared_library(artifact, tmp_path, this_host())
    assert path is not None
    return ctypes.CDLL(str(path))


def run(library: ctypes.CDLL, artifact: Artifact, kit: Kit) -> NDArray[np.int8]:
    _, inputs = block(kit, 7, 70, 3)
    x = np.ascontiguousarray(inputs["x"])
    y = np.full((1, 7, 9, 70), 99, np.int8)
    arena = artifact.memory.allocated()
    status = library.net_run(*(ctypes.c_void_p(a.ctypes.data) for a in (x, y, arena)))
    assert status == STATUS_OK
    return y


@pytest.fixture
def expected(kit: Kit) -> NDArray[np.int8]:
    graph, inputs = block(kit, 7, 70, 3)
    (y,) = evaluate(graph, inputs).values()
    return np.asarray(y, np.int8)


@pytest.mark.parametrize("number", range(len(X86_LADDER) + 1))
def test_every_variant_gives_the_same_bits(
    kit: Kit, artifact: Artifact, library: ctypes.CDLL, expected: NDArray[np.int8], number: int
) -> None:
    if number and this_host().lacks(X86_LADDER[number - 1].required):
        assert library.net_set_isa(number) == STATUS_BAD_CPU
        number = 0
    assert library.net_set_isa(number) == STATUS_OK
    assert_array_equal(run(library, artifact, kit), expected)


@pytest.mark.parametrize("number", [-1, len(X86_LADDER) + 1, 10**6])
def test_what_is_not_in_the_library_is_refused(library: ctypes.CDLL, number: int) -> None:
    assert library.net_set_isa(number) == STATUS_BAD_CPU


def test_a_refusal_changes_nothing(
    kit: Kit, artifact: Artifact, library: ctypes.CDLL, expected: NDArray[np.int8]
) -> None:
    assert library.net_set_isa(1) == STATUS_OK
    assert library.net_set_isa(99) == STATUS_BAD_CPU
    assert_array_equal(run(library, artifact, kit), expected)


def test_init_finds_out_what_the_first_run_would_and_leaves_a_choice(
    kit: Kit, artifact: Artifact, library: ctypes.CDLL, expected: NDArray[np.int8]
) -> None:
    assert library.net_set_isa(0) == STATUS_OK
    assert library.net_init() == STATUS_OK
    assert library.net_init() == STATUS_OK
    assert_array_equal(run(library, artifact, kit), expected)
    assert library.net_set_isa(1) == STATUS_OK
    assert library.net_init() == STATUS_OK
    assert_array_equal(run(library, artifact, kit), expected)


SANDBOXED = """
#define _GNU_SOURCE
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "net.h"
static uint8_t memory[NET_ARENA_BYTES + NET_ARENA_ALIGN];
static int8_t in[NET_INPUT0_BYTES], out[NET_OUTPUT0_BYTES];
int main(void) {
  void *arena = memory + (NET_ARENA_ALIGN - (uintptr_t)memory % NET_ARENA_ALIGN);
  if (net_init() != QCOMP_OK) return 2;
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) return 77;
  syscall(SYS_exit, net_run(in, out, arena)); /* any call but read, write and exit kills */
}
"""


@pytest.mark.skipif(platform.system() != "Linux", reason="seccomp is of Linux")
def test_runs_behind_init_make_no_system_call(artifact: Artifact, tmp_path: Path, cc: str) -> None:
    shared_library(artifact, tmp_path, this_host())
    (tmp_path / "net.h").write_text(artifact.sources["net.h"])
    (tmp_path / "main.c").write_text(SANDBOXED)
    build = [cc, "main.c", "libnet.so", f"-Wl,-rpath,{tmp_path}", "-o", "main"]
    subprocess.run(build, cwd=tmp_path, check=True)
    status = subprocess.run([tmp_path / "main"], check=False).returncode
    if status == 77:
        pytest.skip("this kernel has no seccomp")
    assert status == STATUS_OK


def test_the_variants_share_their_weights(kit: Kit) -> None:
    """Only tables that an instruction set wants in another form come on top."""
    graph, _ = block(kit, 7, 70, 3)
    one = lower_variants(graph, [AVX512_VNNI], "net")[0].data.size
    all_of_them = lower_variants(graph, X86_LADDER, "net")[0].data.size
    assert all_of_them == one


def test_the_header_names_the_variants(artifact: Artifact) -> None:
    names = [f"NET_{identifier(isa.name).upper()} = {n}" for n, isa in enumerate(X86_LADDER, 1)]
    assert f"enum {{ {', '.join(names)} }};" in artifact.sources["net.h"]
    assert "int net_set_isa(int isa);" in artifact.sources["net.h"]
    assert artifact.requires.isas == tuple(isa.name for isa in X86_LADDER)


def test_what_is_exported(artifact: Artifact, tmp_path: Path) -> None:
    path = shared_library(artifact, tmp_path, this_host())
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(path)], capture_output=True, text=True, check=True
    ).stdout
    names = {line.split()[-1] for line in listed.splitlines()}
    functions = {f"net_{f}" for f in ("run", "init", "set_isa", "set_parallel_for", "abi", "sizes")}
    assert names == functions | {"net_inputs", "net_outputs"}


@pytest.mark.parametrize("isa", X86_LADDER, ids=lambda isa: isa.name)
def test_each_rung_is_a_target_of_its_own(kit: Kit, isa: Isa) -> None:
    graph, _ = block(kit, 3, 20)
    artifact = target(isa.name).emit(graph, "net")
    assert artifact.requires.isas == (isa.name,)
    assert "set_isa" not in artifact.sources["net.h"]


def test_a_library_of_amx_alone_asks_for_the_tiles(kit: Kit, tmp_path: Path) -> None:
    """Where the processor has none or the kernel refuses them, it says so."""
    graph, _ = block(kit, 7, 70, 3)
    artifact = target("amx-int8").emit(graph, "net")
    path = shared_library(artifact, tmp_path, this_host())
    assert path is not None
    library = ctypes.CDLL(str(path))
    assert not hasattr(library, "net_set_isa")
    x, y = (np.zeros((1, 7, 9, 70), np.int8) for _ in range(2))
    arena = artifact.memory.allocated()
    status = library.net_run(*(ctypes.c_void_p(a.ctypes.data) for a in (x, y, arena)))
    lacking = this_host().lacks(AMX_INT8.required)
    assert status == (STATUS_BAD_CPU if lacking else STATUS_OK)
