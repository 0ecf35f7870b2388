"""States that are kept between runs: the same integers out and in, in Python and in C."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from recurrent_models import Layer

import qcomp
from qcomp.cli import main
from qcomp.errors import CompileError
from qcomp.ir.parse import parse

LSTM = Layer("LSTM", ("B", "h0", "c0"), steps=2, outputs=("Y", "Y_h", "Y_c"), hidden=9)
GRU = Layer("GRU", ("B", "h0"), steps=2, outputs=("Y", "Y_h"), hidden=9)
STATES = {"LSTM": {"h0": "Y_h", "c0": "Y_c"}, "GRU": {"h0": "Y_h"}}
LAYERS = {"LSTM": LSTM, "GRU": GRU}
STEPS = 400


def floats(layer: Layer, count: int, seed: int) -> tuple[list[dict[str, np.ndarray]], list[Any]]:
    """What goes in and comes out of each run of a sequence, by the float network."""
    session = onnxruntime.InferenceSession(layer.model().SerializeToString())
    names = [o.name for o in session.get_outputs()]
    states = STATES[layer.kind]
    feed = {name: np.zeros_like(a) for name, a in layer.feed(0).items()}
    fed, given = [], []
    for i in range(count):
        feed = {**feed, "x": layer.feed(seed + i)["x"]}
        fed.append(feed)
        found = dict(zip(names, session.run(names, feed), strict=True))
        given.append(found)
        feed = {name: found[output] for name, output in states.items()}
    return fed, given


@pytest.fixture(scope="module")
def nets() -> dict[str, Any]:
    return {
        kind: qcomp.compile(
            layer.model(),
            "native",
            calibration=floats(layer, 60, 1000)[0],
            config=qcomp.QuantizationConfig(activation_bits=8, states=STATES[kind]),
            name="steps",
        )
        for kind, layer in LAYERS.items()
    }


@pytest.mark.parametrize("kind", LAYERS)
def test_states_have_one_type_and_scale(nets: dict[str, Any], kind: str) -> None:
    graph = nets[kind].graph
    for name, output in graph.states.items():
        one, other = graph.tensor(graph.inputs[name]), graph.tensor(graph.outputs[output])
        assert (one.type, one.qparams) == (other.type, other.qparams)
        assert one.type.dtype.bytes == 2
    assert parse(str(graph)).states == graph.states == STATES[kind]


@pytest.mark.parametrize("kind", LAYERS)
def test_a_stream_is_runs_whose_integers_go_round(nets: dict[str, Any], kind: str) -> None:
    net, layer = nets[kind], LAYERS[kind]
    stream, fed = net.stream(), floats(layer, 5, 0)[0]
    integers = {name: a for name, a in net.quantized(fed[0]).items() if name != "x"}
    for feed in fed:
        given = {**integers, "x": net.quantized(feed)["x"]}
        expected = net.specification_integer(given)
        answer = stream({"x": feed["x"]})
        integers = {name: expected[output] for name, output in STATES[kind].items()}
        for name, array in stream.states.items():
            np.testing.assert_array_equal(array, integers[name])
        info = next(o for o in net.outputs if o.name == "Y")
        np.testing.assert_array_equal(answer["Y"], info.dequantized(expected["Y"]))
    stream.reset()
    assert not any(array.any() for array in stream.states.values())
    np.testing.assert_array_equal(stream(fed[0]["x"]), net.stream()({"x": fed[0]["x"]})["Y"])


@pytest.mark.parametrize("kind", LAYERS)
def test_errors_do_not_grow_with_the_steps(nets: dict[str, Any], kind: str) -> None:
    fed, given = floats(LAYERS[kind], STEPS, 0)
    stream = nets[kind].stream()
    signal, error = np.zeros((2, STEPS))
    for i, (feed, exact) in enumerate(zip(fed, given, strict=True)):
        y = exact["Y"].astype(np.float64)
        signal[i], error[i] = (y**2).sum(), ((stream(feed["x"]) - y) ** 2).sum()
    decibels = [
        10 * np.log10(signal[p].sum() / error[p].sum()) for p in np.split(np.arange(400), 4)
    ]
    assert min(decibels) > 33.0
    assert decibels[3] > decibels[1] - 1.5


MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "steps.h"
static int16_t state[(STEPS_STATE_BYTES + 1) / 2];
static int8_t x[STEPS_INPUT0_BYTES];
static STEPS_Y y[STEPS_OUTPUT0_SIZE];
int main(void) {
  void *const arena = aligned_alloc(STEPS_ARENA_ALIGN, (STEPS_ARENA_BYTES + 63) / 64 * 64 + 64);
  steps_reset(state);
  while (fread(x, 1, sizeof x, stdin) == sizeof x) {
    if (steps_step(x, y, state, arena) != QCOMP_OK) return 1;
    fwrite(y, 1, sizeof y, stdout);
  }
  if (steps_step(x, y, state, 0) != QCOMP_BAD_ARENA) return 2;
  free(arena);
  return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.parametrize("kind", LAYERS)
def test_a_c_program_has_the_same_bits(nets: dict[str, Any], kind: str, tmp_path: Path) -> None:
    net, fed = nets[kind], floats(LAYERS[kind], 30, 0)[0]
    directory = net.save(tmp_path / "steps")
    source, program = tmp_path / "main.c", tmp_path / "main"
    source.write_text(MAIN, encoding="utf-8")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow"]
    info = next(o for o in net.outputs if o.name == "Y")
    library = Path(directory) / "libsteps.a"
    command = ["cc", *flags, f"-DSTEPS_Y={info.dtype}_t", "-I", str(directory), str(source)]
    subprocess.run([*command, str(library), "-o", str(program)], check=True)
    xs = [net.quantized(feed)["x"] for feed in fed]
    data = b"".join(x.tobytes() for x in xs)
    found = subprocess.run([program], input=data, capture_output=True, check=True).stdout
    stream = net.stream()
    expected = [np.rint(stream(feed["x"]) / np.float32(info.scale)) for feed in fed]
    answers = np.frombuffer(found, info.dtype).reshape(len(fed), *info.shape)
    np.testing.assert_array_equal(answers - info.zero_point, np.array(expected))


BROKEN = {
    "'h1' from 'Y_h'; expected one of the inputs x, h0, c0": {"h1": "Y_h"},
    r"'x' is f32\[2,1,5\] and 'Y_h' f32\[1,1,9\]": {"x": "Y_h"},
    "'Y_h' is asked for in two ways": {"h0": "Y_h", "c0": "Y_h"},
}


@pytest.mark.parametrize("message", BROKEN)
def test_what_is_no_state_is_refused(message: str) -> None:
    config = qcomp.QuantizationConfig(states=BROKEN[message])
    with pytest.raises(CompileError, match=message):
        qcomp.compile(LSTM.model(), "native", calibration=floats(LSTM, 2, 0)[0], config=config)


def test_a_network_without_states_has_no_stream() -> None:
    layer = Layer("RNN", steps=2, outputs=("Y",))
    data = [layer.feed(seed) for seed in range(4)]
    net = qcomp.compile(layer.model(), "native", calibration=data, recipe="fast")
    with pytest.raises(CompileError, match="has no states; compile it with states="):
        net.stream()


def test_the_command_line_names_states(tmp_path: Path) -> None:
    path, data, out = tmp_path / "steps.onnx", tmp_path / "data.npz", tmp_path / "out"
    onnx.save(GRU.model(), path)
    fed = floats(GRU, 20, 0)[0]
    np.savez(data, **{name: np.concatenate([feed[name] for feed in fed]) for name in fed[0]})
    given = ["compile", str(path), "-o", str(out), "--calibration", str(data), "--recipe", "fast"]
    for state, status in (("h0:Y_h", 0), ("auto", 0), ("h0", 2)):
        with pytest.raises(SystemExit) as left:
            main([*given, "--state", state])
        assert left.value.code == status
    assert "steps_step(" in (out / "steps.h").read_text(encoding="utf-8")
    assert qcomp.load(out).graph.states == {"h0": "Y_h"}
