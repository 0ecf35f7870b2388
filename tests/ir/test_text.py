"""The text form: `parse(str(g))` prints `str(g)` again, and what it refuses."""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from op_examples import EXAMPLES

from qcomp.ir import DType, Form, Graph, ParseError, Tensor, TensorType, parse, verify
from qcomp.ir.graph import constants_of
from qcomp.ir.ops import (
    NO_CLAMP,
    OPS,
    RELU6,
    Add,
    Clamp,
    ClampRange,
    Conv2d,
    Function,
    QWeighted,
    Unary,
)
from qcomp.ir.tensor import Mark, NormalStatistics, Origin
from qcomp.ir.text import LONGEST_ARRAY, arrays_of, attributes
from qcomp.quant.fixed_point import Form as RequantizeForm
from qcomp.quant.fixed_point import Requantize
from qcomp.quant.qparams import QParams
from qcomp.quant.recurrence import Factor

FLOATS = st.floats(allow_nan=False)
MULTIPLIER = 3  # an operand of convolutions and dense layers, with 46 bits in the form away
NAMES = st.text(max_size=12)


def clamps() -> st.SearchStrategy[ClampRange]:
    return st.tuples(FLOATS, FLOATS).map(lambda pair: ClampRange(min(pair), max(pair)))


def requantizes() -> st.SearchStrategy[Requantize]:
    i8 = st.integers(-128, 127)
    return st.builds(
        lambda form, zero, limits: Requantize(form, zero, min(limits), max(limits)),
        st.sampled_from(RequantizeForm),
        i8,
        st.tuples(i8, i8),
    )


def values(hint: Any) -> st.SearchStrategy[Any]:
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    strategies: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(-(2**31), 2**31),
        float: FLOATS,
        ClampRange: clamps(),
        Requantize: requantizes(),
        Factor: st.builds(Factor, st.integers(0, 2**31 - 1), st.integers(1, 62)),
    }
    return strategies[hint]


def tensor_type(text: str) -> TensorType:
    dtype, shape = text.rstrip("]").split("[")
    return TensorType(DType(dtype), tuple(int(e) for e in shape.split(",") if e))


def graph_of(mnemonic: str, drawn: Mapping[str, Any]) -> Graph:
    """One op; its constant operands are constants, the others inputs."""
    cls, example = OPS[mnemonic], EXAMPLES[mnemonic]
    graph = Graph(mnemonic)
    inputs = []
    wide = getattr(drawn.get("requantize"), "form", None) is RequantizeForm.AWAY
    for i, text in enumerate(example.operands):
        type = tensor_type(text)
        if wide and issubclass(cls, QWeighted) and i == MULTIPLIER:
            type = dataclasses.replace(type, dtype=DType.I64)
        if i in cls.constant_operands:
            inputs.append(graph.add_constant(f"c{i}", np.zeros(type.shape, type.dtype.numpy)))
        else:
            inputs.append(graph.add_input(f"x{i}", type))
    graph.add_op(cls(inputs=tuple(inputs), output="y", **{**drawn, **example.fixed}))
    graph.outputs["y"] = "y"
    return graph


@pytest.mark.parametrize("mnemonic", OPS)
@pytest.mark.sweep(24)
@given(data=st.data())
def test_every_op_with_any_attributes_parses_to_itself(mnemonic: str, data: st.DataObject) -> None:
    cls, fixed = OPS[mnemonic], EXAMPLES[mnemonic].fixed
    hints = typing.get_type_hints(cls)
    drawn = {
        f.name: data.draw(values(hints[f.name]), f.name)
        for f in attributes(cls)
        if f.name not in fixed and typing.get_origin(hints[f.name]) is not tuple
    }
    graph = graph_of(mnemonic, drawn)
    again = parse(str(graph))
    assert str(again) == str(graph)
    assert again.op("y") == graph.op("y")
    assert again.type("y") == graph.type("y")


@settings(deadline=None)
@given(NAMES, NAMES, NAMES)
def test_any_public_name_survives(name: str, x: str, y: str) -> None:
    graph = Graph(name)
    id = graph.add_input(x, TensorType(DType.F32, ()))
    graph.add_op(Clamp(inputs=(id,), output=graph.fresh_id("y")))
    graph.outputs[y] = graph.ops()[0].output
    again = parse(str(graph))
    assert str(again) == str(graph)
    assert (again.name, again.inputs, again.outputs) == (name, graph.inputs, graph.outputs)


@pytest.mark.parametrize(
    "name",
    ["", '"', "\\", 'a", %b: f32[1]', "a=%b", "a\nb", "\x85", "日本語", ":0", "}", "return", "0"],
)
def test_a_strange_name_is_quoted_on_one_line(name: str) -> None:
    graph = Graph("g")
    graph.inputs[name] = graph.add_tensor(Tensor("t", TensorType(DType.F32, (1,))))
    graph.outputs[name] = "t"
    text = str(graph)
    assert len(text.splitlines()) == 3
    assert text.isascii()
    again = parse(text)
    assert again.inputs == again.outputs == {name: "t"}


@settings(deadline=None)
@given(
    range=st.none() | st.tuples(st.floats(), st.floats()),
    scale=st.none() | st.floats(1e-38, 1e38),
    zero_point=st.integers(-128, 127),
)
def test_ranges_and_qparams_survive_on_every_kind_of_tensor(
    range: tuple[float, float] | None, scale: float | None, zero_point: int
) -> None:
    qparams = None if scale is None else QParams(scale, zero_point)
    graph = graph_of("add", {"clamp": NO_CLAMP})
    graph.add_constant("k", np.zeros((1,), np.float32))
    graph.replace_op(graph.op("y").with_input(1, "k"))
    for tensor in graph.tensors():
        graph.update_tensor(dataclasses.replace(tensor, range=range, qparams=qparams))
    again = parse(str(graph))
    assert str(again) == str(graph)
    for tensor in again.tensors():
        assert tensor.qparams == qparams
        assert (tensor.range is None) == (range is None)


def test_numbers_of_numpy_print_as_plain_numbers() -> None:
    graph = graph_of("unary", {"function": Function.POW, "alpha": np.float64(0.5)})
    tensor = graph.tensor("y")
    pair = (np.float64(-1.5), np.float64(2.0))
    graph.update_tensor(
        dataclasses.replace(tensor, range=pair, qparams=QParams(float(np.float32(0.1)), 3))
    )
    assert str(graph).splitlines()[1] == (
        "  %y = unary(%x0) {function=pow, alpha=0.5, beta=0.0} : f32[1,4,4,4]"
        " range=(-1.5, 2.0) qparams=(0.10000000149011612, 3, -128, 127)"
    )
    assert str(parse(str(graph))) == str(graph)


def test_infinite_and_missing_attributes() -> None:
    graph = parse(
        "graph @g(%x: f32[2]) {\n"
        "  %y = clamp(%x) {clamp=ClampRange(low=0.0, high=inf)} : f32[2]\n"
        "  %z = unary(%y) {function=silu, beta=nan} : f32[2]\n"
        "  %w = clamp(%z) {clamp=ClampRange(high=6.0, low=-inf)} : f32[2]\n"
        "  %v = clamp(%w) : f32[2]\n"
        "  return v=%v\n"
        "}"
    )
    clamps = [op.clamp for op in graph.ops() if isinstance(op, Clamp)]
    assert clamps == [ClampRange(low=0.0), ClampRange(high=6.0), NO_CLAMP]
    unary = graph.op("z")
    assert isinstance(unary, Unary)
    assert unary.alpha == 1.0
    assert np.isnan(unary.beta)
    assert str(parse(str(graph))) == str(graph)


def test_the_example_of_the_style_guide_parses() -> None:
    graph = parse(
        """
        graph @tiny(%x: f32[1,4,4,3]) {
          %w = constant : f32[8,1,1,3]
          %b = constant : f32[8]
          %y = conv2d(%x, %w, %b) {stride=(1, 1), padding=(0, 0, 0, 0), groups=1} : f32[1,4,4,8]
          return logits=%y
        }
        """
    )
    conv = graph.op("y")
    assert isinstance(conv, Conv2d)
    assert conv.clamp == NO_CLAMP
    assert graph.outputs == {"logits": "y"}
    verify(graph, Form.FLOAT)
    assert str(parse(str(graph))) == str(graph)


def test_the_text_is_fixed(golden: Any) -> None:
    graph = Graph("example")
    x = graph.add_input("image:0", TensorType(DType.F32, (1, 4, 4, 3)))
    w = graph.add_constant("w", np.zeros((8, 1, 1, 3), np.float32))
    b = graph.add_constant("b", np.zeros(8, np.float32))
    y = graph.add_op(Conv2d(inputs=(x, w, b), output="conv", clamp=RELU6))
    graph.add_op(Add(inputs=(y, b), output="sum"))
    graph.add_constant("unread", np.zeros((), np.int64))
    graph.update_tensor(dataclasses.replace(graph.tensor(y), range=(0.0, 6.0)))
    graph.outputs.update({"sum": "sum", "same again": "sum", "conv": "conv"})
    golden(str(graph))


def test_constants_come_from_an_npz(tmp_path: Path) -> None:
    graph = graph_of("dense", {"clamp": NO_CLAMP})
    random = np.random.default_rng(0)
    for id, array in list(constants_of(graph)):
        data = random.normal(size=array.shape).astype(np.float32)
        graph.update_tensor(dataclasses.replace(graph.tensor(id), data=data))
    np.savez(tmp_path / "constants.npz", **{id: a for id, a in constants_of(graph)})
    with np.load(tmp_path / "constants.npz", allow_pickle=False) as arrays:
        again = parse(str(graph), arrays)
    for id, array in constants_of(graph):
        assert_array_equal(again.data(id), array)
    verify(again, Form.FLOAT)  # the arrays became read-only
    verify(parse(str(graph)), Form.FLOAT)


@given(
    name=st.none() | st.text(),
    permutation=st.none() | st.permutations(range(4)).map(tuple),
    marks=st.lists(st.sampled_from(Mark), unique=True).map(tuple),
    scale=st.none() | st.lists(st.floats(), max_size=LONGEST_ARRAY + 2),
    normal=st.none() | st.lists(st.tuples(st.floats(), st.floats()), max_size=LONGEST_ARRAY + 2),
)
def test_origins_and_statistics_survive(
    name: str | None,
    permutation: tuple[int, ...] | None,
    marks: tuple[Mark, ...],
    scale: list[float] | None,
    normal: list[tuple[float, float]] | None,
) -> None:
    graph = graph_of("prelu", {})
    scales = None if scale is None else np.array(scale)
    origin = Origin(name, permutation, scales, marks)
    statistics = None if normal is None else NormalStatistics(*np.array(normal).reshape(-1, 2).T)
    for tensor in graph.tensors():
        graph.update_tensor(dataclasses.replace(tensor, origin=origin, normal=statistics))
    again = parse(str(graph), dict(arrays_of(graph)))
    assert str(again) == str(parse(str(graph))) == str(graph)
    for tensor in again.tensors():
        assert tensor.origin is not None
        assert tensor.origin.name == name
        assert tensor.origin.permutation == permutation
        assert tensor.origin.rewritten_by == marks
        assert_same(tensor.origin.scale, scales)
        assert (tensor.normal is None) == (statistics is None)
        if tensor.normal is not None and statistics is not None:
            assert_same(tensor.normal.mean, statistics.mean)
            assert_same(tensor.normal.std, statistics.std)


def assert_same(found: Any, expected: Any) -> None:
    assert (found is None) == (expected is None)
    if expected is not None:
        assert_array_equal(found, expected)


def test_long_arrays_stand_beside_the_text() -> None:
    graph = Graph("g")
    x = graph.add_input("x", TensorType(DType.F32, (LONGEST_ARRAY + 1,)))
    graph.add_op(Clamp(inputs=(x,), output="y", clamp=NO_CLAMP))
    graph.outputs["y"] = "y"
    short, long = np.arange(2.0), np.arange(LONGEST_ARRAY + 1.0)
    origin = Origin("a b", scale=short, rewritten_by=(Mark.CORRECTED, Mark.FITTED))
    graph.update_tensor(
        dataclasses.replace(graph.tensor("y"), origin=origin, normal=NormalStatistics(long, short))
    )
    assert str(graph).splitlines()[1] == (
        "  %y = clamp(%x) {clamp=ClampRange(low=-inf, high=inf)} : f32[9]"
        ' origin="a b" rewritten=(bias-corrected, weights-fitted)'
        " scale=[0.0, 1.0] mean=@9 std=[0.0, 1.0]"
    )
    assert [(key, array.tolist()) for key, array in arrays_of(graph)] == [("y@mean", long.tolist())]
    with pytest.raises(ParseError, match="'y@mean' does not exist"):
        parse(str(graph), {})
    with pytest.raises(ParseError, match=r"y@mean has the shape \(2,\)"):
        parse(str(graph), {"y@mean": short})


def test_constants_must_have_the_written_type() -> None:
    text = "graph @g() {\n  %k = constant : f32[2]\n  return k=%k\n}"
    with pytest.raises(ParseError, match=r"line 2: %k = constant.*\n.* is f64\[2\]"):
        parse(text, {"k": np.zeros(2)})
    with pytest.raises(ParseError, match=r"is f32\[3\]"):
        parse(text, {"k": np.zeros(3, np.float32)})
    with pytest.raises(ParseError, match="'k' does not exist"):
        parse(text, {})


X = "graph @g(%x: f32[2]) {\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected `graph @name"),
        ("graph @g() {", "expected `graph @name"),
        ("module {\n}", "expected `graph @name"),
        ("graph @g(%x f32[2]) {\n}", "line 1: .*\n.*can't read `%x f32"),
        ("graph @g(%x: f32[2] %y: f32[2]) {\n}", "can't read `%x: f32"),
        ("graph @g(%x: f32[2], %x: f32[2]) {\n}", "two inputs have the name x"),
        ("graph @g(a=%x: f32[2], b=%x: f32[2]) {\n}", "tensor %x exists already"),
        ("graph @g(%x: f33[2]) {\n}", "'f33' is not a valid DType"),
        ("graph @g(%x: i8[2] qparams=(0.0, 0, -128, 127)) {\n}", "scale must be positive"),
        (X + "%y = clmp(%x) : f32[2]\n}", "line 2: .*\n.*unknown op clmp"),
        (X + "%y = clamp(%z) : f32[2]\n}", "reads %z, which does not exist"),
        (X + "%y = clamp() : f32[2]\n}", "expected 1 operands, got 0"),
        (X + "%y = concat() {axis=0} : f32[2]\n}", "expected at least 1 operands"),
        (X + "%y = clamp(%x) : f32[3]\n}", r"its type is f32\[2\]"),
        (X + "%x = clamp(%x) : f32[2]\n}", "tensor %x exists already"),
        (X + "%y = clamp(%x)\n}", "expected an op, a constant or a return"),
        (X + "hello\n}", "expected an op, a constant or a return"),
        (X + "returning y=%x\n}", "expected an op, a constant or a return"),
        (X + "return y=%y\n}", "'y' does not exist"),
        (X + "return y=%x z\n}", "can't read `y=%x z`"),
        (X + "%y = unary(%x) {function=foo} : f32[2]\n}", "'foo' is not a valid Function"),
        (X + "%y = unary(%x) {fun=relu} : f32[2]\n}", "no attribute fun; expected function, alpha"),
        (X + "%y = unary(%x) {exp} : f32[2]\n}", "exp has no name"),
        (X + "%y = unary(%x) : f32[2]\n}", "missing 1 required .*'function'"),
        (X + "%y = unary(%x) {function=exp, alpha='1'} : f32[2]\n}", "can't read the value '1'"),
        (X + "%y = unary(%x) {function=1} : f32[2]\n}", "function=1 has the wrong type"),
        (X + "%y = clamp(%x) {clamp=3} : f32[2]\n}", "clamp=3 has the wrong type"),
        (X + "%y = clamp(%x) {clamp=Requantize()} : f32[2]\n}", "missing 2 required"),
        (X + "%y = clamp(%x) {clamp=ClampRange(low=6.0, high=0.0)} : f32[2]\n}", "empty clamp"),
        (X + "%y = reshape(%x) {shape=2} : f32[2]\n}", "shape=2 has the wrong type"),
        (X + "%y = reshape(%x) {shape=(True, 2)} : f32[2]\n}", "has the wrong type"),
        (X + "%y = reshape(%x) {output=(2,)} : f32[2]\n}", "no attribute output"),
        (X + "%y = reshape(%x) {shape=(2,} : f32[2]\n}", "does not match|was never closed"),
        (X + "%y = clamp(%x) {a=1) + f(b=2} : f32[2]\n}", "can't read the attributes"),
        (X + "%y = reshape(%x) {**x} : f32[2]\n}", "no attribute None"),
    ],
)
def test_broken_text_is_an_error_that_names_the_line(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse(text)


@pytest.mark.parametrize(
    "value",
    [
        "__import__('os').abort()",
        "(lambda: 0)()",
        "[c for c in (1,)]",
        "open('/nowhere')",
        "1 + 1",
        "ClampRange.__init__",
        "Requantize(form=print(1), zero_point=0)",
    ],
)
def test_attributes_are_never_executed(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"graph @g(%x: f32[2]) {{\n%y = clamp(%x) {{clamp={value}}} : f32[2]\n}}"
    with pytest.raises(ParseError, match="can't read the value"):
        parse(text)
    assert capsys.readouterr().out == ""
