"""The guard program finds what it is there for: each test gives it a library with one defect."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from guard_check import GuardResult, guard_check

HEADER = """
#include <stdint.h>
#define ECHO_ARENA_BYTES 64
#define ECHO_ARENA_ALIGN 64
#define ECHO_INPUT0_BYTES 5
#define ECHO_OUTPUT0_BYTES 5
#ifndef QCOMP_PARALLEL_DEFINED
#define QCOMP_PARALLEL_DEFINED
typedef void (*qcomp_task)(void *context, int32_t begin, int32_t end);
typedef void (*qcomp_parallel_for)(void *user, qcomp_task task, void *context, int32_t count);
#endif
int echo_run(const int8_t *input, int8_t *output, void *arena);
int echo_set_isa(int isa);
void echo_set_parallel_for(qcomp_parallel_for function, void *user);
"""

SOURCE = """
#include "echo.h"
static int chosen;
static qcomp_parallel_for loop;
int echo_set_isa(int isa) {
  chosen = isa;
  return isa < 3 ? 0 : 2;
}
void echo_set_parallel_for(qcomp_parallel_for function, void *user) {
  (void)user;
  loop = function;
}
int echo_run(const int8_t *input, int8_t *output, void *arena) {
  int8_t *const scratch = arena;
  for (int i = 0; i < 5; i++) scratch[i] = input[i];
  for (int i = 0; i < 5; i++) output[i] = scratch[i];
  %s
  return 0;
}
"""

DEFECTS = {
    "input is read past its end": "(void)((volatile const int8_t *)input)[5];",
    "input is read before its begin": "(void)((volatile const int8_t *)input)[-1];",
    "output is written past its end": "output[5] = 1;",
    "output is written before its begin": "output[-1] = 1;",
    "arena is written past its end": "scratch[64] = 1;",
    "arena is written before its begin": "scratch[-1] = 1;",
    "output is wrong by one bit": "output[4] ^= 4;",
    "input is overwritten": "((int8_t *)(uintptr_t)input)[0] ^= 1;",
    "arena is used before it is written": "output[0] ^= scratch[40] & 1;",
    "a call fails": "return 1;",
}


def library(directory: Path, cc: str, body: str, name: str = "echo") -> Path:
    """A library that copies five bytes, and then does what `body` says."""
    header = HEADER.replace("echo", name).replace("ECHO", name.upper())
    (directory / f"{name}.h").write_text(header)
    (directory / f"{name}.c").write_text((SOURCE % body).replace("echo", name))
    command = [cc, "-std=c99", "-O0", "-w", "-c", f"{name}.c", "-o", f"{name}.o"]
    subprocess.run(command, check=True, cwd=directory)
    subprocess.run(["ar", "rcs", f"lib{name}.a", f"{name}.o"], check=True, cwd=directory)
    manifest = {
        "name": name,
        "header": f"{name}.h",
        "static_library": f"lib{name}.a",
        "isa": ["first", "second", "foreign"],
        "inputs": [{"bytes": 5}],
        "outputs": [{"bytes": 5}],
    }
    (directory / f"{name}.manifest.json").write_text(json.dumps(manifest))
    return directory


def check(directory: Path, isa: str | None = None, threads: int = 1) -> GuardResult:
    vectors = np.arange(15, dtype=np.int8).reshape(3, 5)
    return guard_check(directory, [vectors], [vectors], isa=isa, threads=threads)


def test_a_library_without_defects_is_clean(tmp_path: Path, cc: str) -> None:
    result = check(library(tmp_path, cc, ""))
    assert result.clean
    assert (result.samples, result.callers, result.runs) == (3, 4, 18)


@pytest.mark.parametrize("name", ["network", "guard"])
def test_the_network_may_have_the_name_of_a_file_of_the_harness(
    name: str, tmp_path: Path, cc: str
) -> None:
    assert check(library(tmp_path, cc, "", name)).clean


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found(defect: str, tmp_path: Path, cc: str) -> None:
    assert not check(library(tmp_path, cc, DEFECTS[defect])).clean


@pytest.mark.slow
def test_each_instruction_set_is_run_on_request(tmp_path: Path, cc: str) -> None:
    echo = library(tmp_path, cc, "if (chosen == 2) output[4] ^= 4;")
    assert check(echo, "first").clean
    assert not check(echo, "second").clean
    assert check(echo).clean
    foreign = check(echo, "foreign")
    assert not foreign.clean
    assert foreign.fault is not None
    assert "does not run instruction set 3" in foreign.fault


def test_threads_share_the_runs_on_request(tmp_path: Path, cc: str) -> None:
    echo = library(tmp_path, cc, "if (loop != 0) output[4] ^= 4;")
    assert check(echo).clean
    assert not check(echo, threads=2).clean


def test_vectors_of_the_wrong_size_are_refused(tmp_path: Path, cc: str) -> None:
    wrong = np.zeros((1, 4), np.int8)
    with pytest.raises(ValueError, match="a sample has 8 bytes; the manifest says 10"):
        guard_check(library(tmp_path, cc, ""), [wrong], [wrong])
