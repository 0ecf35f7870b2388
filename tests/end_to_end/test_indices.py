"""Indices of the rows of tables: from the end too, and refused where a table has no such row."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import FAST
from onnx import TensorProto, helper, numpy_helper

import qcomp
from qcomp.runtime.verification import verify_directory

ROWS, LENGTH, WIDTH = 50, 6, 3
Node = onnx.NodeProto


def model(nodes: list[Node], kind: int = TensorProto.INT64, **constants: Any) -> onnx.ModelProto:
    """Row `places` of a table; `nodes` compute these from `ids` [1, LENGTH]."""
    table = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)
    graph = helper.make_graph(
        [*nodes, helper.make_node("Gather", ["table", "places"], ["y"])],
        "network",
        [helper.make_tensor_value_info("ids", kind, [1, LENGTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.asarray(a), n)
            for n, a in {"table": table, **constants}.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(kind: str, *inputs: str, out: str = "places", **attributes: Any) -> Node:
    return helper.make_node(kind, list(inputs), [out], **attributes)


WAYS: dict[str, tuple[list[Node], dict[str, Any]]] = {
    "as they are": ([node("Identity", "ids")], {}),
    "reshaped": ([node("Reshape", "ids", "shape")], {"shape": np.int64([2, 3])}),
    "one more": ([node("Add", "ids", "one")], {"one": np.int64(1)}),
    "from the other end": ([node("Sub", "nine", "ids")], {"nine": np.int64(9)}),
    "each by its place": ([node("Add", "ids", "places_of")], {"places_of": np.arange(LENGTH)}),
    "some of them": (
        [node("Slice", "ids", "begin", "end", "axes")],
        {"begin": np.int64([1]), "end": np.int64([4]), "axes": np.int64([1])},
    ),
    "the last one, one less": (
        [node("Gather", "ids", "five", out="last", axis=1), node("Sub", "last", "one")],
        {"five": np.int64(5), "one": np.int64(1)},
    ),
    "every third row": ([node("Mul", "ids", "three")], {"three": np.int64(3)}),
    "of a narrower type": (
        [node("Cast", "ids", out="narrow", to=TensorProto.INT32), node("Add", "narrow", "one")],
        {"one": np.int32(1)},
    ),
    "repeated": ([node("Tile", "ids", "twice")], {"twice": np.int64([2, 1])}),
}


def session(made: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(made.SerializeToString(), options)


def valid(floats: onnxruntime.InferenceSession, ids: np.ndarray) -> np.ndarray | None:
    """What onnxruntime gives; None where it refuses."""
    try:
        (y,) = floats.run(None, {"ids": ids})
    except Exception:  # its own class, which it does not export
        return None
    return np.asarray(y)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_row_is_refused_where_onnxruntime_refuses_it(way: str) -> None:
    """And rows counted from the end are those that it takes."""
    nodes, constants = WAYS[way]
    made = model(nodes, **constants)
    floats, random = session(made), np.random.default_rng(1)
    data = [{"ids": np.clip(random.integers(0, 9, (1, LENGTH)), 0, 16)} for _ in range(4)]
    net = qcomp.compile(made, calibration=data, config=FAST, cache=None)
    bound = 3 * net.outputs[0].scale  # rounded once
    refused = 0
    for _ in range(150):
        ids = random.integers(-20, 17, (1, LENGTH))
        ids[0, random.integers(LENGTH)] += random.choice([-60, -35, 0, 35, 60])
        expected = valid(floats, ids)
        if expected is None:
            refused += 1
            with pytest.raises(ValueError, match=r"input ids: .* is no row of the table"):
                net({"ids": ids})
        else:
            np.testing.assert_allclose(net({"ids": ids})["y"], expected, atol=bound)
    assert 0 < refused < 150


def test_an_unsigned_byte_has_no_place_from_the_end() -> None:
    made = model([node("Cast", "ids", to=TensorProto.INT32)], TensorProto.UINT8)
    data = [{"ids": np.arange(LENGTH, dtype=np.uint8)[None]}]
    net = qcomp.compile(made, calibration=data, config=FAST)
    assert net.inputs[0].zero_point == -128
    with pytest.raises(ValueError, match=r"50 at \[0, 2\] .* expected 0 to 49"):
        net(np.uint8([[0, 49, 50, 3, 4, 5]]))
    with pytest.raises(ValueError, match="is no row"):
        net.specification(np.uint8([[0, 49, 50, 3, 4, 5]]))


def test_of_several_runs_each_index_is_checked() -> None:
    data = [{"ids": np.arange(LENGTH)[None]}]
    net = qcomp.compile(model([node("Identity", "ids")]), calibration=data, config=FAST)
    ids = np.zeros((4, LENGTH), np.int64)
    assert net(ids).shape == (4, LENGTH, WIDTH)
    ids[2, 1] = -ROWS - 1
    with pytest.raises(ValueError, match=r"-51 at \[0, 1\]"):
        net(ids)
    with pytest.raises(ValueError, match=r"-51 at \[0, 1\]"):
        net.run_integer(ids.astype(np.int8))


def test_a_saved_network_is_verified_on_indices_that_are_such(tmp_path: Path) -> None:
    """Vectors, extremes and random inputs; the header says which are accepted."""
    nodes, constants = WAYS["each by its place"]
    data = [{"ids": np.arange(LENGTH)[None]}]
    net = qcomp.compile(model(nodes, **constants), calibration=data, config=FAST, name="net")
    net.save(tmp_path / "net")
    assert verify_directory(tmp_path / "net", samples=4).exact
    header = (tmp_path / "net" / "net.h").read_text()
    assert "/* input has at all places numbers -50 to 44; QCOMP_BAD_INPUT," in header


CALLS = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "net.h"
static const int low[] = LOW, high[] = HIGH;
static uint32_t state = 1;
static uint32_t drawn(void) { return state = state * 1664525u + 1013904223u, state >> 8; }
int main(void) {
  int refused = 0;
  for (int call = 0; call < 10000; call++) {
    INDEX *input = malloc(NET_INPUT0_BYTES);
    int8_t *output = malloc(NET_OUTPUT0_BYTES);
    unsigned char *arena = aligned_alloc(NET_ARENA_ALIGN, NET_ARENA_BYTES);
    int wrong = 0;
    memset(output, 0x55, NET_OUTPUT0_BYTES);
    memset(arena, 0x55, NET_ARENA_BYTES);
    for (int i = 0; i < NET_INPUT0_SIZE; i++) {
      input[i] = drawn() % 8 ? low[i] + (int)(drawn() % (high[i] - low[i] + 1)) : (INDEX)drawn();
      wrong |= input[i] < low[i] || input[i] > high[i];
    }
    if (net_run(input, output, arena) != (wrong ? QCOMP_BAD_INPUT : QCOMP_OK)) return 2;
    refused += wrong;
    for (int i = 0; wrong && i < NET_OUTPUT0_BYTES; i++) if (output[i] != 0x55) return 3;
    for (int i = 0; wrong && i < NET_ARENA_BYTES; i++) if (arena[i] != 0x55) return 4;
    free(input), free(output), free(arena);
  }
  return refused > 1000 && refused < 9000 ? 0 : 5;
}
"""


@pytest.mark.parametrize("way", ["as they are", "each by its place", "some of them"])
def test_ten_thousand_calls_in_c_touch_nothing_that_they_should_not(
    way: str, tmp_path: Path
) -> None:
    """Rows of exact size, under the sanitizers; what is refused leaves everything as it was."""
    nodes, constants = WAYS[way]
    data = [{"ids": np.arange(LENGTH)[None]}]
    net = qcomp.compile(model(nodes, **constants), calibration=data, config=FAST, name="net")
    net.save(tmp_path / "net")
    bounds = net.inputs[0].bounds
    assert bounds is not None
    low, high = ("{" + ", ".join(map(str, a.reshape(-1))) + "}" for a in (bounds.low, bounds.high))
    macros = {"INDEX": net.inputs[0].c_type, "LOW": low, "HIGH": high}
    defined = "".join(f"#define {name} {value}\n" for name, value in macros.items())
    (tmp_path / "calls.c").write_text(defined + CALLS)
    flags = ["-std=c11", "-Wall", "-Werror", "-O1", "-fsanitize=address,undefined"]
    flags.append(f"-I{tmp_path / 'net'}")
    files = [str(tmp_path / "calls.c"), str(tmp_path / "net/libnet.a")]
    program = str(tmp_path / "calls")
    built = subprocess.run(["cc", *flags, *files, "-o", program], capture_output=True, text=True)
    if built.returncode != 0:
        pytest.skip(f"no compiler with sanitizers: {built.stderr[:200]}")
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
