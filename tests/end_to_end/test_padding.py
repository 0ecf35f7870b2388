"""Lengths between those that a library has plans for: padded to the next, in Python and in C."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sequence_models import sequence_model, sequences

import qcomp

LENGTHS = (8, 16)


def masked_model() -> Any:
    """y[1, S, CHANNELS] of x[1, FEATURES, S], and of a mask that is added to scores."""
    model = sequence_model(masked=True)
    del model.graph.output[1:]
    del model.graph.node[-1]
    return model


def sample(length: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": sequences(length, 1, seed=seed)[0], "mask": np.zeros((1, 1, length), np.float32)}


@pytest.fixture(scope="module")
def net() -> Any:
    data = [sample(16, seed) for seed in range(12)]
    for n, one in enumerate(data):
        one["mask"][..., 4 + n :] = -50.0
    options = {"bind": {"S": LENGTHS}, "calibration": data, "recipe": "fast", "name": "seq"}
    return qcomp.compile(masked_model(), **options)


@pytest.mark.parametrize("length", [1, 5, 11])
def test_a_length_between_is_its_plan_with_padding_behind(net: Any, length: int) -> None:
    given, plan = sample(length, 7), 8 if length < 8 else 16
    whole = sample(plan)
    whole["mask"][:] = -50.0
    whole["x"][:] = 0.0
    for name in given:
        whole[name][..., :length] = given[name]
    answer = net(given)["y"]
    np.testing.assert_array_equal(answer, net(whole)["y"][:, :length])
    np.testing.assert_array_equal(answer, net.specification(given)["y"])
    integers = net.run_integer({n: net.quantized(whole)[n][..., :length] for n in given})["y"]
    np.testing.assert_array_equal(integers, net.run_integer(net.quantized(whole))["y"][:, :length])


def test_what_is_padded_with_what_is_told(net: Any) -> None:
    assert net.artifact.padding.inputs == {"x": (2, 0.0), "mask": (2, -50.0)}
    assert any("padded to the next of 8 and 16: x with 0, mask with -50" in n for n in net.notes)
    assert net.shorter[0].accuracy.parts
    assert "  at 8     y" in net.summary()


@pytest.mark.parametrize("length", [0, 17])
def test_other_lengths_are_refused_with_those_there_are(net: Any, length: int) -> None:
    with pytest.raises(ValueError, match=f"the length {length}; expected 1 to 16"):
        net(sample(length))


PROGRAM = """\
#include "seq.h"
#include <stdio.h>
#include <stdlib.h>
static uint8_t memory[SEQ_ARENA_BYTES + SEQ_ARENA_ALIGN], more[SEQ_PAD_BYTES + SEQ_ARENA_ALIGN];
static void *aligned(uint8_t *p) {
  return p + (SEQ_ARENA_ALIGN - (uintptr_t)p % SEQ_ARENA_ALIGN) % SEQ_ARENA_ALIGN;
}
int main(void) {
  int32_t length;
  while (fread(&length, sizeof length, 1, stdin) == 1) {
    const size_t rows = length > 0 ? (size_t)length : 0;
    SEQ_X *x = malloc(rows * (SEQ_INPUT0_SIZE / 16) * sizeof *x + 1);
    SEQ_MASK *mask = malloc(rows * (SEQ_INPUT1_SIZE / 16) * sizeof *mask + 1);
    SEQ_Y *y = malloc(rows * (SEQ_OUTPUT0_SIZE / 16) * sizeof *y + 1);
    if (fread(x, sizeof *x, rows * (SEQ_INPUT0_SIZE / 16), stdin) + fread(mask, sizeof *mask,
        rows * (SEQ_INPUT1_SIZE / 16), stdin) != rows * (SEQ_INPUT0_SIZE + SEQ_INPUT1_SIZE) / 16)
      return 1;
    const int status = seq_run_length(length, x, mask, y, aligned(more), aligned(memory));
    if (status != (length < 1 || length > 16 ? QCOMP_BAD_INPUT : QCOMP_OK)) return 2;
    if (status == QCOMP_OK) fwrite(y, sizeof *y, rows * (SEQ_OUTPUT0_SIZE / 16), stdout);
    free(x), free(mask), free(y);
  }
  return 0;
}
"""


def test_c_has_the_same_bits_and_reads_nothing_else(net: Any, cc: str, tmp_path: Path) -> None:
    net.save(tmp_path)
    (tmp_path / "main.c").write_text(PROGRAM, encoding="utf-8")
    infos = {info.name: info for info in (*net.inputs, *net.outputs)}
    types = [f"-DSEQ_{name.upper()}={infos[name].c_type}" for name in ("x", "mask", "y")]
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", *types]
    flags += ["-fsanitize=address,undefined"]
    subprocess.run([cc, *flags, "main.c", "libseq.a", "-o", "main"], cwd=tmp_path, check=True)
    random, data, expected = np.random.default_rng(0), b"", b""
    for length in [0, -3, 17, 1000, *random.integers(1, 17, 60)]:
        data += np.int32(length).tobytes()
        if length < 1:
            continue
        given = sample(int(length), int(length))
        integers = {n: infos[n].quantized(array) for n, array in given.items()}
        data += integers["x"].tobytes() + integers["mask"].tobytes()
        if length <= 16:
            expected += net.run_integer(integers)["y"].tobytes()
    found = subprocess.run([tmp_path / "main"], input=data, capture_output=True, check=True).stdout
    assert found == expected
    assert qcomp.load(tmp_path).artifact.padding == net.artifact.padding


def test_a_network_that_looks_at_its_padding_keeps_its_lengths() -> None:
    options = {"bind": {"S": LENGTHS}, "calibration": sequences(16, 12), "recipe": "fast"}
    net = qcomp.compile(sequence_model(), **options)
    assert net.artifact.padding is None
    assert any("S takes 8 and 16 only, and is not padded: the float" in n for n in net.notes)
    assert "run_length" not in next(iter(net.artifact.sources.values()))
