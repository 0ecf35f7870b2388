"""Every integer op through TVM equals its meaning in every bit, and no source has a float."""

from __future__ import annotations

import re

import pytest
from on_tvm import check_on, expect_driver, needs_tvm
from tvm_cases import CASES, together

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Clamp
from qcomp.ir.tensor import DType, TensorType
from qcomp.targets.catalog import target
from qcomp.targets.tvm import packages
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
@pytest.mark.parametrize("kind", CASES)
def test_kernels_of_opencl_equal_the_specification(kind: str) -> None:
    expect_driver("opencl")
    check_on("opencl", *together(CASES[kind]()))


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
