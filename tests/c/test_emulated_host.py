"""What runs libraries in an emulator finds what it is there for: one defect at a time."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from emulated import Emulated

from qcomp.targets.base import Artifact, Memory, Requirements
from qcomp.targets.cpu.isa import AARCH64
from qcomp.targets.cpu.library.elf import data_object

SOURCE = """
#include <stdint.h>
typedef void (*task)(void *, int32_t, int32_t);
extern const int8_t echo_data[64] __attribute__((visibility("hidden")));
static void (*loop)(void *, task, void *, int32_t);
static void *user;
void echo_set_parallel_for(void (*f)(void *, task, void *, int32_t), void *u) {
  loop = f;
  user = u;
}
static void nothing(void *context, int32_t begin, int32_t end) {}
int echo_run(const int8_t *input, int8_t *output, int8_t *arena) {
  volatile const int8_t *in = input, *weights = echo_data;
  if (loop) loop(user, nothing, 0, 5);
  for (int i = 0; i < 5; i++) arena[i] = in[i] + weights[i];
  for (int i = 0; i < 5; i++) output[i] = arena[i];
  %s
  return 0;
}
"""

DEFECTS = {
    "input is read past its end": "(void)in[5];",
    "input is read before its begin": "(void)in[-1];",
    "output is written past its end": "output[5] = 1;",
    "output is written before its begin": "output[-1] = 1;",
    "arena is written past its end": "arena[64] = 1;",
    "arena is written before its begin": "arena[-1] = 1;",
    "weights are read past their end": "(void)weights[64];",
    "weights are read before their begin": "(void)weights[-1];",
    "output is wrong by one bit": "output[4] ^= 4;",
    "output is wrong with threads": "if (loop) output[4] ^= 4;",
    "input is overwritten": "((int8_t *)(uintptr_t)input)[0] ^= 1;",
    "arena is used before it is written": "output[0] ^= arena[40] & 1;",
    "a call fails": "return 1;",
}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    emulated = Emulated.of("aarch64", AARCH64.triple, tmp_path_factory.mktemp("host"))
    yield emulated
    emulated.close()


def library(body: str, folder: Path) -> Artifact:
    """Adds weights to five bytes, and then does what `body` says."""
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    assert compiler is not None
    (folder / "echo.c").write_text(SOURCE % body, encoding="utf-8")
    command = [compiler, "-O0", "-w", "-fPIC", "-c", "echo.c", "-o", "echo.o"]
    subprocess.run(command, check=True, cwd=folder)
    files = {
        "echo.o": (folder / "echo.o").read_bytes(),
        "echo_data.o": data_object(AARCH64.platform, "echo_data", bytes(range(64)), 64),
    }
    memory = Memory(arena=64, align=64, live=0, weights=64)
    return Artifact("echo", "aarch64", files, {}, Requirements(AARCH64.triple, {}, ()), memory)


def check(machine: Emulated, body: str, folder: Path) -> None:
    x = np.arange(5, dtype=np.int8)
    machine.check(library(body, folder), [x], {"y": 2 * x})


def test_a_library_without_defects_passes(machine: Emulated, tmp_path: Path) -> None:
    before = machine.counts.values
    check(machine, "", tmp_path)
    assert machine.counts.values - before == 5 * 2 * 2 * len(machine.hosts)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found(machine: Emulated, defect: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"differing bits|status 1|changed|ended with -?\d+"):
        check(machine, DEFECTS[defect], tmp_path)
