"""Caches as states: rows that a run adds are where the float network's are, in Python and in C."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from step_models import ROOM, WIDTH, cache_model, frames_model, mask_at

import qcomp
from qcomp.errors import CompileError

STEPS = 20  # more than the cache has room for
STATE = {"past_key": "present_key"}


def sequence(seed: int, steps: int = STEPS) -> dict[str, np.ndarray]:
    """Inputs of one sequence, its steps along the first axis, without states."""
    x = np.random.default_rng(seed).normal(size=(steps, 1, WIDTH)).astype(np.float32)
    return {"x": x, "mask": np.concatenate([mask_at(step) for step in range(steps)])}


def steps_of(feeds: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    return [
        {name: array[i : i + 1] for name, array in feeds.items()} for i in range(len(feeds["x"]))
    ]


@cache
def compiled(grown: bool) -> Any:
    return qcomp.compile(
        cache_model(grown=grown),
        "native",
        calibration=[sequence(seed) for seed in range(1, 5)],
        config=qcomp.QuantizationConfig(recipe="fast", activation_bits=8, states=STATE),
        name="steps",
    )


def by_floats(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(cache_model(grown=False).SerializeToString())
    past, found = np.zeros((1, ROOM, WIDTH), np.float32), []
    for i, feed in enumerate(steps_of(feeds)):
        y, key = session.run(["y", "present_key"], {**feed, "past_key": past})
        past[:, i % ROOM] = key[:, 0]
        found.append(y)
    return found


@pytest.mark.parametrize("grown", [False, True])
def test_a_cache_is_that_of_the_float_network(grown: bool) -> None:
    net, feeds = compiled(grown), sequence(0)
    assert net.graph.states == STATE
    assert [o.shape for o in net.outputs if o.name == "present_key"] == [(1, 1, WIDTH)]
    stream, expected = net.stream(), by_floats(feeds)
    answers = [stream(feed)["y"] for feed in steps_of(feeds)]
    error = np.array(answers) - np.array(expected)
    assert 10 * np.log10((np.array(expected) ** 2).sum() / (error**2).sum()) > 28
    assert any("in 4 sequences of up to 20 steps" in note for note in net.notes)


def test_both_forms_are_one_network() -> None:
    one, other = (compiled(grown).stream() for grown in (False, True))
    for feed in steps_of(sequence(0)):
        np.testing.assert_array_equal(one(feed)["y"], other(feed)["y"])
        np.testing.assert_array_equal(one.states["past_key"], other.states["past_key"])


def test_errors_are_told_by_the_steps() -> None:
    steps = compiled(False).accuracy.steps
    assert [(s.first, s.last) for s in steps] == [(1, 5), (6, 10), (11, 15), (16, 20)]
    assert all(s.sqnr_db is not None and s.sqnr_db > 28 for s in steps)
    assert "steps    1 to 5: " in compiled(False).summary()


def test_generated_code_is_its_meaning_along_a_sequence() -> None:
    net = compiled(True)
    one, other = net.stream(), net.stream(specification=True)
    for feed in steps_of(sequence(0)):
        np.testing.assert_array_equal(one(feed)["y"], other(feed)["y"])
        np.testing.assert_array_equal(one.states["past_key"], other.states["past_key"])


MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "steps.h"
static int16_t state[(STEPS_STATE_BYTES + 1) / 2];
static STEPS_X x[STEPS_INPUT0_SIZE];
static STEPS_MASK mask[STEPS_INPUT1_SIZE];
static STEPS_Y y[STEPS_OUTPUT0_SIZE];
int main(void) {
  void *const arena = aligned_alloc(STEPS_ARENA_ALIGN, (STEPS_ARENA_BYTES + 63) / 64 * 64 + 64);
  steps_reset(state);
  while (fread(x, sizeof x, 1, stdin) == 1 && fread(mask, sizeof mask, 1, stdin) == 1) {
    if (steps_step(x, mask, y, state, 0) != QCOMP_BAD_ARENA) return 2;
    if (steps_step(x, mask, y, state, arena) != QCOMP_OK) return 1;
    fwrite(y, sizeof y, 1, stdout);
  }
  free(arena);
  return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_c_program_has_the_same_bits(tmp_path: Path) -> None:
    net, feeds = compiled(False), steps_of(sequence(0))
    directory = net.save(tmp_path / "steps")
    (tmp_path / "main.c").write_text(MAIN, encoding="utf-8")
    infos = {info.name: info for info in (*net.inputs, *net.outputs)}
    types = {"X": "x", "MASK": "mask", "Y": "y"}
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow"]
    flags += [f"-DSTEPS_{macro}={infos[name].c_type}" for macro, name in types.items()]
    flags += ["-fsanitize=address,undefined", "-I", str(directory)]
    library = Path(directory) / "libsteps.a"
    program = tmp_path / "main"
    command = ["cc", *flags, str(tmp_path / "main.c"), str(library), "-o", str(program)]
    subprocess.run(command, check=True)
    stream, data, expected = net.stream(), b"", []
    for feed in feeds:
        given = {name: infos[name].quantized(array) for name, array in feed.items()}
        data += given["x"].tobytes() + given["mask"].tobytes()
        y = stream(feed)["y"]
        expected.append(np.rint(y / np.float32(infos["y"].scale)) + infos["y"].zero_point)
    found = subprocess.run([program], input=data, capture_output=True, check=True).stdout
    answers = np.frombuffer(found, infos["y"].dtype).reshape(len(feeds), *infos["y"].shape)
    np.testing.assert_array_equal(answers, np.array(expected))


def test_frames_one_by_one_are_the_whole_sequence() -> None:
    """At equal scales no bit differs."""
    x = np.random.default_rng(3).normal(size=(1, 3, 24)).astype(np.float32)
    answers = []
    for frames in (1, 8):
        model = frames_model(frames)
        parts = np.concatenate(np.split(x, 24 // frames, axis=2))
        config = qcomp.QuantizationConfig(
            recipe="fast", activation_bits=8, range=(-4.0, 4.0), states="auto"
        )
        net = qcomp.compile(model, "native", calibration={"x": parts}, config=config)
        assert net.graph.states == {"cache1_in": "cache1_out", "cache2_in": "cache2_out"}
        stream = net.stream()
        answers.append(np.concatenate([stream(part[None]) for part in parts], axis=2))
    np.testing.assert_array_equal(*answers)
    assert len(np.unique(answers[0])) > 20


def test_what_looks_like_a_state_is_told() -> None:
    x, zeros = np.ones((1, 3, 8), np.float32), np.zeros
    data = [{"x": x, "cache1_in": zeros((1, 3, 2)), "cache2_in": zeros((1, 5, 1))}]
    net = qcomp.compile(frames_model(8), "native", calibration=data, recipe="fast")
    assert any("--state cache1_in:cache1_out --state cache2_in:cache2_out" in n for n in net.notes)
    assert not net.graph.states


def test_auto_is_refused_where_nothing_looks_like_a_state() -> None:
    model = cache_model(grown=False, names=("a", "b"))
    config = qcomp.QuantizationConfig(states="auto")
    with pytest.raises(CompileError, match="no input and output look like a state"):
        qcomp.compile(model, "native", calibration=[sequence(0)], config=config)
