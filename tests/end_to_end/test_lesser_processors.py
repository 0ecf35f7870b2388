"""Code for instruction sets that a processor lacks ends in an error with their name, not a signal.

Python's part is asked with the features of other processors; the code's own part runs on these, in
an emulator.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llvmlite import binding as llvm
from numpy.testing import assert_array_equal

import qcomp
from qcomp.targets.cpu.isa import AVX2, SSE41
from qcomp.targets.cpu.library.dispatch import STATUS_BAD_CPU, STATUS_OK

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="its code asks an x86 processor"
)

# Processors by what they are the last without.
HAS = {"Haswell": AVX2.required, "Nehalem": SSE41.required}
TARGETS = ("avx2", "avx-vnni", "avx512-vnni", "avx512-vbmi", "amx-int8")
BEYOND = [(cpu, name) for cpu in HAS for name in TARGETS if (cpu, name) != ("Haswell", "avx2")]

MAIN = """
#include <stdalign.h>
#include <stdio.h>
#include "net.h"
int main(void) {
  static alignas(64) unsigned char arena[NET_ARENA_BYTES];
  static const int8_t x[NET_INPUT0_SIZE] = {1, -2, 3, 127};
  static int8_t y[NET_OUTPUT0_SIZE] = {99, 99, 99};
  int status = net_run(x, y, arena);
  printf("%d %d %d %d", status, y[0], y[1], y[2]);
}
"""


def compiled(models: Any, name: str) -> qcomp.CompiledNetwork:
    data = models.samples(8, 1, 4)
    return qcomp.compile(models.dense(), name, calibration=data, recipe="fast", name="net")


def printed(net: qcomp.CompiledNetwork, cc: str, processor: str, folder: Path) -> list[int]:
    """The status and the results of a C program, in an emulator."""
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if emulator is None:
        pytest.skip("needs qemu-x86_64")
    saved = net.save(folder / "net")
    (folder / "main.c").write_text(MAIN, encoding="utf-8")
    command = [cc, "-std=c11", "-static", f"-I{saved}", "main.c", saved / "libnet.a", "-lm"]
    subprocess.run([*command, "-o", "main"], check=True, cwd=folder)
    run = [emulator, "-cpu", processor, folder / "main"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    return [*map(int, done.stdout.split())]


@pytest.mark.parametrize(("processor", "name"), BEYOND)
def test_the_code_returns_a_status_and_writes_nothing(
    models: Any, cc: str, processor: str, name: str, tmp_path: Path
) -> None:
    answer = printed(compiled(models, name), cc, processor, tmp_path)
    assert answer == [STATUS_BAD_CPU, 99, 99, 99]


@pytest.mark.parametrize(
    ("processor", "name"), [*((cpu, "x86-64") for cpu in HAS), ("Haswell", "avx2")]
)
def test_what_a_processor_has_is_exact(
    models: Any, cc: str, processor: str, name: str, tmp_path: Path
) -> None:
    net = compiled(models, name)
    x = np.array([[1, -2, 3, 127]], np.int8)
    (expected,) = net.specification_integer({"x": x}).values()
    status, *y = printed(net, cc, processor, tmp_path)
    assert status == STATUS_OK
    assert_array_equal(y, expected[0])


@pytest.mark.parametrize(("processor", "name"), BEYOND)
def test_python_names_what_is_missing(
    models: Any, processor: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled, saved and loaded; the code is not run."""
    features = dict.fromkeys(HAS[processor], True)
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: features)
    net = compiled(models, name)
    assert net.sqnr_db_output is not None
    loaded = qcomp.load(net.save(tmp_path / "net"))
    for one in (net, loaded):
        with pytest.raises(qcomp.TargetError, match=rf"{name} needs .*, which this machine lacks"):
            one(np.ones((1, 4), np.float32))
