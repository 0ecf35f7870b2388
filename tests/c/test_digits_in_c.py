"""The compiled digits network as a C program meets it: header, symbols, guard pages, example."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guard_check import WARNINGS, guard_check
from numpy.typing import NDArray
from symbols import PUBLIC

import qcomp
from qcomp.quant.qparams import dequantize, quantize
from qcomp.targets.cpu.library.dispatch import variables
from qcomp.targets.cpu.process.host import native

QUANTIZE = """
#include <stdio.h>
#include "digits.h"
#include "digits.h"
int main(void) {
  float real[DIGITS_INPUT0_SIZE];
  int8_t q[DIGITS_INPUT0_SIZE];
  while (fread(real, sizeof real, 1, stdin) == 1) {
    digits_quantize_input(real, q);
    fwrite(q, sizeof q, 1, stdout);
  }
  return 0;
}
"""

DEQUANTIZE = """
#include <stdio.h>
#include "digits.h"
int main(void) {
  float real[DIGITS_OUTPUT0_SIZE];
  int8_t q[DIGITS_OUTPUT0_SIZE];
  while (fread(q, sizeof q, 1, stdin) == 1) {
    digits_dequantize_output(q, real);
    fwrite(real, sizeof real, 1, stdout);
  }
  return 0;
}
"""

DESCRIBE = """
#include <stdio.h>
#include "digits.h"
int main(void) {
  const qcomp_tensor *t = &digits_inputs[0];
  printf("%s %d %d", t->name, (int)t->type, (int)t->rank);
  for (int i = 0; i < t->rank; i++) printf(" %d", (int)t->shape[i]);
  printf(" %.9g %d\\n", t->scale, (int)t->zero_point);
  return 0;
}
"""

# x86 arithmetic and conversions on floats; moves and bit operations of the same registers are not.
FLOAT_ARITHMETIC = re.compile(
    r"\tv?(add|sub|mul|div|sqrt|min|max|cmp|comi|ucomi|round|rcp|rsqrt|fmadd|fmsub|fnmadd|fnmsub|"
    r"cvt|dp|hadd|hsub|rndscale|scalef)\w*(ss|sd|ps|pd)\b|\tv?cvt\w+|\tf(ld|st|add|mul|sub|div|ild|ist)\w*\b"
)


def build(cc: str, directory: Path, source: str, aside: Path) -> Path:
    (aside / "main.c").write_text(source)
    program = aside / "main"
    command = [cc, *WARNINGS, f"-I{directory}", aside / "main.c", directory / "libdigits.a"]
    subprocess.run([*command, "-o", program], check=True)
    return program


def output_of(command: Sequence[str | Path]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}")
    return found


@pytest.fixture(scope="session")
def test_digits(examples: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    with np.load(examples / "digits_test.npz") as data:
        return data["images"], data["labels"]


def test_quantize_input_equals_python_on_ties_extremes_and_what_is_no_number(
    digits: Path, cc: str, tmp_path: Path
) -> None:
    q = qcomp.load(digits).inputs[0].qparams
    scale, tiny = np.float32(q.scale), np.float32(1e-45)
    steps = np.arange(-300, 300, 0.25, dtype=np.float32)
    special = np.array([0, -0.0, tiny, -tiny, 1e30, -1e30, np.inf, -np.inf], np.float32)
    values = np.concatenate([steps * scale, np.nextafter(steps * scale, np.float32(9)), special])
    values = np.resize(values, (-(-values.size // 64), 64))
    program = build(cc, digits, QUANTIZE, tmp_path)
    done = subprocess.run([program], input=values.tobytes(), check=True, capture_output=True)
    answer = np.frombuffer(done.stdout, np.int8).reshape(values.shape)
    np.testing.assert_array_equal(answer, quantize(values, q))


def test_quantize_input_gives_the_zero_point_for_nan(digits: Path, cc: str, tmp_path: Path) -> None:
    program = build(cc, digits, QUANTIZE, tmp_path)
    nan = np.full(64, np.nan, np.float32)
    done = subprocess.run([program], input=nan.tobytes(), check=True, capture_output=True)
    assert set(np.frombuffer(done.stdout, np.int8)) == {qcomp.load(digits).inputs[0].zero_point}


def test_dequantize_output_equals_python_in_every_bit(
    digits: Path, cc: str, tmp_path: Path
) -> None:
    q = np.resize(np.arange(-128, 128, dtype=np.int8), (26, 10))
    program = build(cc, digits, DEQUANTIZE, tmp_path)
    done = subprocess.run([program], input=q.tobytes(), check=True, capture_output=True)
    expected = dequantize(q, qcomp.load(digits).outputs[0].qparams)
    assert done.stdout == expected.tobytes()


def test_the_tensor_descriptions_say_what_the_manifest_says(
    digits: Path, cc: str, tmp_path: Path
) -> None:
    info = qcomp.load(digits).inputs[0]
    words = output_of([build(cc, digits, DESCRIBE, tmp_path)]).split()
    assert words[:7] == ["image", "1", "4", "1", "1", "8", "8"]
    assert np.float32(words[7]) == np.float32(info.scale)
    assert int(words[8]) == info.zero_point


def test_the_header_is_clean_in_c_plus_plus(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "main.cpp").write_text('#include "digits.h"\nint main() { return 0; }\n')
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]
    subprocess.run([tool("c++"), *flags, f"-I{digits}", tmp_path / "main.cpp"], check=True)


@pytest.mark.parametrize("library", ["libdigits.so", "libdigits.a"])
def test_the_library_needs_no_symbol_from_elsewhere(digits: Path, library: str) -> None:
    command = [tool("nm"), "-j", *(["-D"] if library.endswith(".so") else [])]

    def names(option: str) -> set[str]:
        lines = output_of([*command, option, digits / library]).splitlines()
        return {line for line in lines if line and not line.endswith(":")}

    assert names("--undefined-only") <= names("--defined-only")


def test_the_library_defines_its_public_names_and_no_other(digits: Path) -> None:
    listed = output_of([tool("nm"), "-D", "--defined-only", digits / "libdigits.so"])
    names = {line.split()[-1] for line in listed.splitlines()}
    assert names == {f"digits_{part}" for part in PUBLIC}


def test_the_library_has_the_variables_that_are_promised(digits: Path) -> None:
    """For each instruction set: tests/targets/test_writable_data.py."""
    listed = output_of([tool("nm"), digits / "libdigits.a"])
    symbols = [line.split()[-2:] for line in listed.splitlines() if len(line.split()) == 3]
    assert {kind for kind, _ in symbols} <= set("TtRrb")
    promised = {f"digits_{variable}" for variable in variables([native()])}
    assert {name for kind, name in symbols if kind == "b"} == promised


def test_the_library_has_no_floating_point_arithmetic(digits: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("knows the instructions of x86-64 only")
    code = output_of([tool("objdump"), "-d", "--no-show-raw-insn", digits / "libdigits.a"])
    assert "digits_run" in code
    assert [line for line in code.splitlines() if FLOAT_ARITHMETIC.search(line)] == []


def test_no_byte_outside_the_buffers_is_touched_and_no_bit_differs(digits: Path, cc: str) -> None:
    result = guard_check(digits)
    assert result.clean, result
    assert result.samples >= 4


def test_the_same_on_real_digits_from_four_threads(
    digits: Path, cc: str, test_digits: tuple[Any, Any]
) -> None:
    net = qcomp.load(digits)
    q = net.quantized(test_digits[0][:100])
    result = guard_check(digits, [q], [net.specification_integer(q)])
    assert result.clean, result
    assert result.samples == 100


@pytest.mark.parametrize("program", ["digits_app", "digits_app_shared"])
def test_the_example_application_recognises_the_test_digits(
    program: str,
    digits: Path,
    cc: str,
    examples: Path,
    tmp_path: Path,
    test_digits: tuple[Any, Any],
) -> None:
    images, labels = test_digits
    net = qcomp.load(digits)
    variables = [f"NETWORK={digits}", f"BUILD={tmp_path}", f"CC={cc}"]
    subprocess.run([tool("make"), "-C", examples / "c_app", *variables], check=True)
    q = net.quantized(images)
    q.tofile(tmp_path / "images.i8")
    app = tmp_path / program
    printed = output_of([app, tmp_path / "images.i8", tmp_path / "logits.i8"])
    logits = np.fromfile(tmp_path / "logits.i8", np.int8).reshape(-1, 10)
    np.testing.assert_array_equal(logits, net.specification_integer(q))
    assert [int(digit) for digit in printed.split()] == list(logits.argmax(1))
    assert np.mean(logits.argmax(1) == labels) > 0.965


def test_the_example_builds_with_cmake(
    digits: Path, cc: str, examples: Path, tmp_path: Path
) -> None:
    cmake = tool("cmake")
    options = [f"-DNETWORK={digits}", f"-DCMAKE_C_COMPILER={cc}"]
    subprocess.run([cmake, "-S", examples / "c_app", "-B", tmp_path, *options], check=True)
    subprocess.run([cmake, "--build", tmp_path], check=True)
    for program in ("digits_app", "digits_app_shared"):
        done = subprocess.run([tmp_path / program], capture_output=True, text=True)
        assert done.returncode == 2
        assert "usage:" in done.stderr
