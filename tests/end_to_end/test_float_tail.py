"""The sigmoid or softmax by which a network ends is left to floats, in Python as in C."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
from network_builder import Builder
from specified import Runs, answers, quantized, sqnr_by_output

import qcomp
from qcomp.errors import CompileError
from qcomp.execute.session import FloatSession
from qcomp.frontends import import_model
from qcomp.ir.parse import parse
from qcomp.ir.text import format_graph
from qcomp.quant.tail import Tail, TailFunction

SHAPE = [2, 5, 3]


def network(*ends: tuple[str, dict[str, object]]) -> tuple[Builder, str]:
    """Ten rows of logits by a matrix, and these ops one after the other."""
    b = Builder(17)
    y = b("MatMul", "x", np.random.default_rng(3).normal(size=(3, 6)))
    for kind, attributes in ends:
        y = b(kind, y, **attributes)
    return b, y


def runs(count: int, seed: int) -> Runs:
    random = np.random.default_rng(seed)
    return [{"x": 4 * random.normal(size=SHAPE).astype(np.float32)} for _ in range(count)]


ENDS = {
    "sigmoid": (("Sigmoid", {}),),
    "softmax": (("Softmax", {"axis": -1}),),
    "softmax-inner": (("Softmax", {"axis": 1}),),
    "log-softmax-moved": (("LogSoftmax", {"axis": 1}), ("Transpose", {"perm": [2, 0, 1]})),
}
TAILS = {
    "sigmoid": Tail(TailFunction.SIGMOID),
    "softmax": Tail(TailFunction.SOFTMAX, 2),
    "softmax-inner": Tail(TailFunction.SOFTMAX, 1),
    "log-softmax-moved": Tail(TailFunction.LOG_SOFTMAX, 2),
}


@pytest.mark.parametrize("end", ENDS)
def test_integers_stand_for_what_goes_into_the_function(end: str) -> None:
    b, y = network(*ENDS[end])
    model = b.model({"x": SHAPE}, [y])
    graph = quantized(model, runs(32, 0), float_tail=True)
    assert graph.tails == {y: TAILS[end]}
    assert sqnr_by_output(model, graph, runs(8, 1))[y] > 28.0
    assert parse(format_graph(graph)).tails == graph.tails


@pytest.mark.parametrize("end", ["sigmoid", "softmax", "softmax-inner"])
def test_small_probabilities_keep_their_ratios(end: str) -> None:
    b, y = network(*ENDS[end])
    model, given = b.model({"x": SHAPE}, [y]), runs(8, 1)
    expected = np.array([FloatSession(import_model(model).graph).run(run)[y] for run in given])
    apart = []
    for tail in (True, False):
        graph = quantized(model, runs(32, 0), float_tail=tail)
        found = np.array([answers(graph, run)[y] for run in given])
        apart.append(np.abs(np.log(np.maximum(found, 1e-6) / np.maximum(expected, 1e-6))).mean())
    assert 4 * apart[0] < apart[1]


@pytest.mark.parametrize("end", ENDS)
def test_a_header_computes_what_python_does(end: str, cc: str, tmp_path: Path) -> None:
    b, y = network(*ENDS[end])
    config = qcomp.QuantizationConfig(recipe="fast", float_tail=True)
    data = [run["x"] for run in runs(16, 0)]
    net = qcomp.compile(b.model({"x": SHAPE}, [y]), calibration=data, config=config, name="n")
    again = qcomp.load(net.save(tmp_path / "n"))
    x = runs(1, 2)[0]["x"]
    expected = net(x)
    assert again(x).tobytes() == expected.tobytes()
    (tmp_path / "helper.c").write_text(
        '#include "n/n.h"\nvoid real(const int8_t *q, float *y) { n_dequantize_output(q, y); }\n'
    )
    flags = ["-std=c99", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    command = [cc, *flags, tmp_path / "helper.c", "-o", tmp_path / "helper.so", "-lm"]
    subprocess.run(command, check=True)
    q, found = net.run_integer(net.quantized(x)), np.empty_like(expected)
    helper = ctypes.CDLL(str(tmp_path / "helper.so"))
    helper.real(ctypes.c_void_p(q.ctypes.data), ctypes.c_void_p(found.ctypes.data))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_affine_end_before_the_function_is_left_to_floats_too() -> None:
    b, y = network()
    y = b("Sigmoid", b("Add", b("Mul", y, np.full(6, 0.01)), np.full(6, 300.0)))
    graph = quantized(b.model({"x": SHAPE}, [y]), runs(32, 0), float_tail=True)
    assert (set(graph.tails), set(graph.conversions)) == ({y}, {y})


def test_what_else_reads_the_probabilities_keeps_them_in_integers() -> None:
    b, y = network(("Sigmoid", {}))
    z = b("Mul", y, "x2")
    last = b("Softmax", z)
    graph = quantized(
        b.model({"x": SHAPE, "x2": [2, 5, 6]}, [y, last]),
        [{**run, "x2": np.ones((2, 5, 6), np.float32)} for run in runs(16, 0)],
        float_tail=True,
    )
    assert set(graph.tails) == {last}


@pytest.mark.parametrize("ends", [(), (("Sigmoid", {}), ("Relu", {}))])
def test_a_network_without_one_is_an_error(ends: tuple[tuple[str, dict[str, object]], ...]) -> None:
    b, y = network(*ends)
    with pytest.raises(CompileError, match=f"float_tail: .*{y}.*expected an output that a sigmoid"):
        quantized(b.model({"x": SHAPE}, [y]), runs(16, 0), float_tail=True)
