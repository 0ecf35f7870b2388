"""A library for AArch64 asks the processor for instruction sets before it uses them."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_array_equal

from qcomp.ir.evaluate import evaluate
from qcomp.ir.ops import (
    QDense,
)
from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.isa import AARCH64, AARCH64_DOTPROD, AARCH64_I8MM, ARM_LADDER
from qcomp.targets.cpu.library.archive import archive
from qcomp.targets.cpu.library.dispatch import STATUS_BAD_CPU, STATUS_OK
from qcomp.targets.cpu.library.module import build_objects
from qcomp.targets.cpu.lower.graph import lower_variants
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.systems import LIBRARIES
from tests.targets.aarch64 import (
    built,
    emulated,
    run_in_emulator,
    run_program,
)
from tests.targets.every_kind import linear


@pytest.mark.parametrize(
    ("isa", "without", "with_them"),
    [(AARCH64_DOTPROD, "cortex-a72", "neoverse-n1"), (AARCH64_I8MM, "neoverse-n1", "max")],
    ids=["dotprod", "i8mm"],
)
def test_a_processor_without_the_instructions_is_refused(
    kit: Any, isa: Isa, without: str, with_them: str, arm_gcc: str, tmp_path: Path
) -> None:
    """By the status of NAME_run, not by a signal: the library asks before it runs any of them."""
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    graph, inputs = kit.one_op(op, kit.i8(2, 19), *constants)
    run_in_emulator(graph, inputs, [isa], arm_gcc, tmp_path)
    feed = b"".join(inputs[name].tobytes() for name in graph.inputs)
    assert run_program(tmp_path / "net", feed, without).returncode == STATUS_BAD_CPU
    assert run_program(tmp_path / "net", feed, with_them).returncode == STATUS_OK


def test_one_library_of_both_sets_chooses_by_the_processor(
    kit: Any, arm_gcc: str, tmp_path: Path
) -> None:
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    graph, inputs = kit.one_op(op, kit.i8(2, 19), *constants)
    got = run_in_emulator(graph, inputs, ARM_LADDER, arm_gcc, tmp_path)
    for name, expected in evaluate(graph, inputs).items():
        assert_array_equal(got[name], expected)


CHOICES = """
#include <stdio.h>
int net_set_isa(int isa);
int main(void) {
  for (int isa = -1; isa < 4; isa++) printf("%d ", net_set_isa(isa));
}
"""


def test_sets_that_the_processor_lacks_can_not_be_asked_for(
    kit: Any, arm_gcc: str, tmp_path: Path
) -> None:
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    graph, _ = kit.one_op(op, kit.i8(2, 19), *constants)
    objects = build_objects(lower_variants(graph, ARM_LADDER, "net"), "net")
    (tmp_path / "net.a").write_bytes(archive(objects))
    (tmp_path / "main.c").write_text(CHOICES, encoding="utf-8")
    link = [arm_gcc, "-static", "main.c", "net.a", "-o", "net"]
    subprocess.run(link, cwd=tmp_path, check=True)
    plain, dots = b"2 0 0 2 2 ", b"2 0 0 0 2 "
    answers = {"cortex-a53": plain, "cortex-a72": plain, "neoverse-n1": dots, "max": dots}
    for processor, answer in answers.items():
        assert emulated(tmp_path / "net", b"", processor) == answer


@pytest.mark.parametrize(
    ("processor", "release", "able"),
    [
        ("neoverse-n1", "4.11.0", True),
        ("neoverse-n1", "4.19.110-perf", True),
        ("neoverse-n1", "5.4.0", True),
        ("neoverse-n1", "10.1.0", True),
        ("neoverse-n1", "4.10.17", False),
        ("neoverse-n1", "4.9.186-perf", False),
        ("neoverse-n1", "3.18.71", False),
        ("cortex-a72", "5.4.0", False),
    ],
)
@pytest.mark.parametrize(
    "isa", [AARCH64_DOTPROD, LIBRARIES["arm64-android"][-1]], ids=["linux", "android"]
)
def test_dot_products_are_asked_for_where_the_kernel_tells(
    kit: Any, isa: Isa, processor: str, release: str, able: bool, arm_gcc: str, tmp_path: Path
) -> None:
    """The set alone runs where it may be used, and is refused by its status elsewhere."""
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    graph, inputs = kit.one_op(op, kit.i8(2, 19), *constants)
    built(graph, [isa], arm_gcc, tmp_path)
    feed = b"".join(inputs[name].tobytes() for name in graph.inputs)
    done = run_program(tmp_path / "net", feed, processor, "-r", release)
    assert done.returncode == (STATUS_OK if able else STATUS_BAD_CPU)


WINDOWS = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
int net_set_isa(int isa);
int main(int argc, char **argv) {
  uint8_t *page = mmap((void *)0x7ffe0000, 4096, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (page == MAP_FAILED) return 9;
  page[0x274 + 43] = atoi(argv[1]);
  for (int isa = -1; isa < 4; isa++) printf("%d ", net_set_isa(isa));
}
"""


@pytest.mark.parametrize(("there", "answer"), [(0, b"2 0 0 2 2 "), (1, b"2 0 0 0 2 ")])
def test_windows_is_asked_by_the_page_that_it_shares_with_programs(
    kit: Any, there: int, answer: bytes, arm_gcc: str, tmp_path: Path
) -> None:
    """The code for Windows as an object for Linux, in a program that has such a page."""
    isas = [replace(isa, platform=AARCH64.platform) for isa in LIBRARIES["arm64-windows"]]
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    graph, _ = kit.one_op(op, kit.i8(2, 19), *constants)
    objects = build_objects(lower_variants(graph, isas, "net"), "net")
    (tmp_path / "net.a").write_bytes(archive(objects))
    (tmp_path / "main.c").write_text(WINDOWS, encoding="utf-8")
    link = [arm_gcc, "-static", "main.c", "net.a", "-o", "net"]
    subprocess.run(link, cwd=tmp_path, check=True)
    run = ["qemu-aarch64", "-cpu", "max", tmp_path / "net", str(there)]
    assert subprocess.run(run, capture_output=True, check=True).stdout == answer
