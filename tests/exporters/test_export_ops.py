"""Each op through the export: onnxruntime's answer is the numpy meaning's.

An op is tried alone (its input in the graph's layout) and behind a max pooling of one pixel, which
leaves its input in NCHW, so that both layouts of each rule are run.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from exported_ops import CASES, RECURRENT, RNG, SEQUENCE, SHAPE, X, graph_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from qcomp.execute.session import FloatSession
from qcomp.exporters.onnx.model import RULES, export_onnx
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    OPS,
    AveragePool2d,
    BlockOrder,
    Conv2d,
    Coordinates,
    Domain,
    Function,
    NearestRounding,
    Op,
    Resize2d,
    ResizeMode,
    SpaceToDepth,
    Unary,
)
from qcomp.ir.tensor import DType, TensorType


def agree(op: Op, *, positive: bool = False, spatial_first: bool, seed: int = 0) -> None:
    """onnxruntime on the exported graph of one op gives what `evaluate` gives."""
    graph = graph_of(op, SHAPE, spatial_first=spatial_first)
    x = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    compare(graph, {"x": np.abs(x) + np.float32(0.1) if positive else x})


def compare(graph: Graph, inputs: Mapping[str, np.ndarray]) -> None:
    model = export_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    expected = evaluate(graph, inputs)
    got = FloatSession(graph, threads=1).run(inputs)
    assert got.keys() == expected.keys()
    for name, y in expected.items():
        assert (got[name].dtype, got[name].shape) == (y.dtype, y.shape)
        largest = float(np.abs(y[np.isfinite(y)]).max())
        results, y = _with_lowest(got[name]), _with_lowest(y)
        assert_allclose(results, y, rtol=1e-4, atol=1e-4 * max(1.0, largest))


def _with_lowest(y: np.ndarray) -> np.ndarray:
    """The most of no values is -inf, or the lowest number on other machines of ONNX Runtime."""
    return np.maximum(y, np.finfo(y.dtype).min) if y.dtype.kind == "f" else y


@pytest.mark.parametrize("spatial_first", [False, True], ids=["nhwc", "nchw"])
@pytest.mark.parametrize("op", CASES, ids=lambda op: op.mnemonic)
def test_onnxruntime_agrees_on(op: Op, spatial_first: bool) -> None:
    agree(op, spatial_first=spatial_first)


@pytest.mark.parametrize("op", RECURRENT, ids=lambda op: op.mnemonic)
def test_onnxruntime_agrees_on_layer(op: Op) -> None:
    x = np.random.default_rng(1).normal(size=SEQUENCE).astype(np.float32)
    compare(graph_of(op, SEQUENCE, spatial_first=False), {"x": x})


@pytest.mark.parametrize("function", list(Function))
def test_onnxruntime_agrees_on_function(function: Function) -> None:
    alpha, beta = (1.5, 0.25)
    op = Unary(inputs=X, output="y", function=function, alpha=alpha, beta=beta)
    positive = function in (Function.LOG, Function.SQRT, Function.POW, Function.RECIPROCAL)
    agree(op, spatial_first=False, positive=positive)
    agree(op, spatial_first=True, positive=positive)


@pytest.mark.parametrize("order", list(BlockOrder))
@pytest.mark.parametrize("spatial_first", [False, True])
def test_onnxruntime_agrees_on_space_to_depth(order: BlockOrder, spatial_first: bool) -> None:
    op = SpaceToDepth(inputs=X, output="y", block=2, order=order)
    graph = graph_of(op, (1, 4, 6, 3), spatial_first=spatial_first)
    compare(graph, {"x": RNG.normal(size=(1, 4, 6, 3)).astype(np.float32)})


def test_every_op_of_float_graphs_has_a_rule() -> None:
    ours = {cls for cls in OPS.values() if cls.domain is not Domain.INTEGER}
    assert ours == set(RULES)


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        ((2, 3), (1, 2), (0, 0, 0, 0), (1, 1)),
        ((3, 3), (2, 2), (1, 0, 2, 1), (1, 1)),
        ((2, 2), (1, 1), (3, 2, 0, 1), (1, 1)),
        ((2, 2), (1, 1), (1, 1, 1, 1), (3, 2)),
        ((6, 5), (1, 1), (0, 0, 0, 0), (1, 1)),
    ],
)
def test_onnxruntime_agrees_on_average_pooling(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    include: bool,
) -> None:
    op = AveragePool2d(
        inputs=X,
        output="y",
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        count_include_pad=include,
    )
    agree(op, spatial_first=False)


extents = st.sampled_from([1, 2, 3, 7, 8, 9])


@settings(deadline=None, max_examples=40)
@given(
    height=extents,
    width=extents,
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    shape=st.sampled_from([(1, 1, 1), (3, 5, 1), (8, 8, 8), (4, 8, 4), (6, 9, 3), (2, 17, 1)]),
    seed=st.integers(0, 9),
)
def test_onnxruntime_agrees_on_any_convolution(
    height: int,
    width: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    shape: tuple[int, int, int],
    seed: int,
) -> None:
    inputs, outputs, groups = shape
    top, left, bottom, right = padding
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = (max(top, reach[0] - height), max(left, reach[1] - width), bottom, right)
    rng = np.random.default_rng(seed)
    graph = Graph("conv")
    graph.add_input("x", TensorType(DType.F32, (1, height, width, inputs)))
    weight = rng.normal(size=(outputs, *kernel, inputs // groups)).astype(np.float32)
    graph.add_constant("w", weight)
    graph.add_constant("b", rng.normal(size=outputs).astype(np.float32))
    graph.outputs["y"] = graph.add_op(
        Conv2d(
            inputs=("x", "w", "b"),
            output="y",
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )
    )
    compare(graph, {"x": rng.normal(size=(1, height, width, inputs)).astype(np.float32)})


@settings(deadline=None, max_examples=60)
@given(
    source=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    mode=st.sampled_from(ResizeMode),
    coordinates=st.sampled_from(Coordinates),
    rounding=st.sampled_from(NearestRounding),
)
def test_onnxruntime_agrees_on_any_resize_to_a_size(
    source: tuple[int, int],
    size: tuple[int, int],
    mode: ResizeMode,
    coordinates: Coordinates,
    rounding: NearestRounding,
) -> None:
    scale = (size[0] / source[0], size[1] / source[1])
    resize_agrees(source, size, scale, mode, coordinates, rounding)


@settings(deadline=None, max_examples=60)
@given(
    source=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    scale=st.tuples(*[st.sampled_from([0.5, 0.6, 0.75, 1.0, 1.1, 1.5, 2.0, 2.7, 3.0])] * 2),
    mode=st.sampled_from(ResizeMode),
    coordinates=st.sampled_from(Coordinates),
    rounding=st.sampled_from(NearestRounding),
)
def test_onnxruntime_agrees_on_any_resize_by_a_scale(
    source: tuple[int, int],
    scale: tuple[float, float],
    mode: ResizeMode,
    coordinates: Coordinates,
    rounding: NearestRounding,
) -> None:
    height, width = (int(float(np.float32(s)) * e) for s, e in zip(scale, source, strict=True))
    resize_agrees(source, (height, width), scale, mode, coordinates, rounding)


@pytest.mark.parametrize("mode", list(ResizeMode))
def test_a_resize_whose_scale_is_not_its_ratio_is_sampled_by_matrices(mode: ResizeMode) -> None:
    """Neither of ONNX's `scales` and `sizes` can say it."""
    args = (mode, Coordinates.HALF_PIXEL, NearestRounding.FLOOR)
    kinds = resize_agrees((4, 4), (9, 9), (2.0, 2.0), *args)
    assert "Resize" not in kinds


def resize_agrees(
    source: tuple[int, int],
    size: tuple[int, int],
    scale: tuple[float, float],
    mode: ResizeMode,
    coordinates: Coordinates,
    rounding: NearestRounding,
) -> list[str]:
    op = Resize2d(
        inputs=X,
        output="y",
        size=size,
        scale=scale,
        mode=mode,
        coordinates=coordinates,
        rounding=rounding,
    )
    shape = (1, *source, 2)
    graph = graph_of(op, shape, spatial_first=False)
    compare(graph, {"x": np.arange(np.prod(shape), dtype=np.float32).reshape(shape)})
    return [node.op_type for node in export_onnx(graph).graph.node]
