"""Every integer op through TVM equals its meaning in every bit, and no source has a float."""

from __future__ import annotations

import re
from functools import partial

import pytest
from on_tvm import check_on, expect_driver, needs_tvm
from tvm_cases import CASES, i8, layer, scale, together

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Clamp, MaxPool2d, QConv2d, Table
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.targets.catalog import target
from qcomp.targets.tvm import languages, packages
from qcomp.targets.tvm.lower import lower
from qcomp.targets.tvm.table import FUNCTIONS, function_of

_COMMENTS = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def test_the_cases_are_of_all_ops() -> None:
    graphs = [together(make())[0] for make in CASES.values()]
    assert {type(op) for graph in graphs for op in graph.ops()} == set(FUNCTIONS)


@needs_tvm
@pytest.mark.parametrize("kind", CASES)
def test_the_oracle_equals_the_specification(kind: str) -> None:
    check_on("tvm-llvm", *together(CASES[kind]()))


@needs_tvm
@pytest.mark.parametrize("name", ["opencl", "opencl:cpu"])
@pytest.mark.parametrize("kind", CASES)
def test_kernels_of_opencl_equal_the_specification(kind: str, name: str) -> None:
    expect_driver(name)
    check_on(name, *together(CASES[kind]()))


def kernels_of(name: str, kind: str) -> str:
    """The source without comments."""
    sources = target(name).emit(together(CASES[kind]())[0], "net").sources
    return _COMMENTS.sub("", next(text for file, text in sources.items() if file.endswith(".cl")))


@needs_tvm
def test_threads_of_processors_multiply_vectors_and_those_of_devices_words() -> None:
    called = re.compile(r"qcomp_dot4\(\(*int(8|16)\)")
    assert called.search(kernels_of("opencl:cpu", "linear"))
    assert not called.search(kernels_of("opencl:dot4", "linear"))
    assert "vload8" in kernels_of("opencl:cpu", "elementwise")
    assert "vload8" not in kernels_of("opencl", "elementwise")


@needs_tvm
def test_sums_are_vectors_where_their_epilogue_has_none() -> None:
    expect_driver("opencl:cpu")
    x, graph = i8(1, 4, 4, 16), Graph("lookup")
    graph.add_input("x", TensorType(DType.I8, x.shape))
    constants = [operand.array for operand in layer((16, 1, 1, 16), Form.NARROW)]
    ids = [graph.add_constant(f"c{n}", array) for n, array in enumerate(constants)]
    narrow = Requantize(Form.NARROW, 3)
    graph.add_op(QConv2d(inputs=("x", *ids), output="a", x_zero_point=-5, requantize=narrow))
    table = graph.add_constant("table", i8(256))
    graph.outputs["y"] = graph.add_op(Table(inputs=("a", table), output="y"))
    scale(graph)
    check_on("opencl:cpu", graph, {"x": x})


@needs_tvm
def test_a_launch_knows_the_op_that_it_computes() -> None:
    graph, _ = together(CASES["pooling"]())
    machine = languages.OPENCL
    ops = [launch.op for launch in lower(graph, machine, "k").launches]
    assert ops == ["y0", "y1", "y2", "y3"]
    chained = Graph("chained")
    chained.add_input("x", TensorType(DType.I8, (1, 6, 6, 8)))
    window = partial(MaxPool2d, kernel=(2, 2))
    chained.add_op(window(inputs=("x",), output="a"))
    chained.outputs["b"] = chained.add_op(window(inputs=("a",), output="b"))
    assert [launch.op for launch in lower(chained, machine, "k").launches] == ["a", "b"]


@needs_tvm
def test_products_of_four_equal_the_specification() -> None:
    expect_driver("opencl:dot4")
    check_on("opencl:dot4", *together(CASES["linear"]()))


@needs_tvm
@pytest.mark.parametrize("kind", CASES)
def test_c_equals_the_specification_and_has_no_floats(kind: str) -> None:
    graph, inputs = together(CASES[kind]())
    check_on("tvm-c", graph, inputs)
    for name in ("opencl", "tvm-c"):
        for file, text in target(name).emit(graph, "net").sources.items():
            if file.endswith((".cl", "_kernels.c")):
                assert not re.search(r"\b(float|double|half)\d*\b", _COMMENTS.sub("", text)), file


def test_an_op_without_a_function_is_refused_with_those_that_there_are() -> None:
    graph = Graph("g")
    graph.add_input("x", TensorType(DType.F32, (1, 4)))
    op = graph.op(graph.add_op(Clamp(inputs=("x",), output="y")))
    with pytest.raises(TargetError, match=r"integers only; there are: argmax, (.|\n)*q_conv2d"):
        function_of(graph, op)


def test_without_tvm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_version", {"apache-tvm": "0.20.0"}.get)
    expected = (
        r"apache-tvm 0\.20\.0, apache-tvm-ffi is missing(.|\n)*pip install 'qcomp\[tvm\]', "
        r"which is apache-tvm==0\.27\.0\.post1 apache-tvm-ffi==0\.1\.14\.post1"
    )
    with pytest.raises(TargetError, match=expected):
        target("opencl").emit(together(CASES["power"]())[0], "net")
