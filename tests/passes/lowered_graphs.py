"""Small float graphs, brought to the QDQ and the integer form, and how far the two are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qcomp.config import QuantizationConfig
from qcomp.ir import DType, Graph, TensorType
from qcomp.ir import ops as o
from qcomp.ir.evaluate import evaluate, evaluate_all
from qcomp.ir.tensor import TensorId
from qcomp.passes.base import run_pass
from qcomp.passes.events import PassLog
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.passes.insert_quantize import InsertQuantize
from qcomp.passes.snap_scales import SnapScales
from qcomp.quant.qparams import quantize

Array = NDArray[Any]
Feed = Mapping[str, Array]

PLAIN = QuantizationConfig(weight_range="minmax", activation_bits=8)


def sample(
    random: np.random.Generator,
    shape: tuple[int, ...],
    spread: float = 1.0,
    shift: float = 0.0,
    positive: bool = False,
) -> Array:
    data = random.normal(shift, 1.0, shape) * spread
    data = np.abs(data) + 0.3 * spread if positive else data
    return np.asarray(data, np.float32)


def annotated(graph: Graph, feed: Feed) -> Graph:
    """A copy whose ranges are those of one run, finite and not absurd."""
    graph = graph.clone()
    for id, value in evaluate_all(graph, feed).items():
        tensor = graph.tensor(id)
        if tensor.type.dtype is DType.F32:
            finite = value[np.isfinite(value)]
            low, high = (
                float(np.clip(f(finite, initial=0.0), -1e4, 1e4)) for f in (np.min, np.max)
            )
            graph.update_tensor(replace(tensor, range=(low, high)))
    return graph


def lowered(
    graph: Graph, feed: Feed, *, snap: bool = True, config: QuantizationConfig = PLAIN
) -> tuple[Graph, Graph, PassLog]:
    """The QDQ form and the integer form."""
    qdq, _ = run_pass(annotated(graph, feed), InsertQuantize(config))
    if snap:
        qdq, _ = run_pass(qdq, SnapScales())
    integer, log = run_pass(qdq, FuseRequantize())
    return qdq, integer, log


def integers(graph: Graph, feed: Feed) -> dict[str, Array]:
    quantized = {}
    for name, id in graph.inputs.items():
        qparams = graph.tensor(id).qparams
        assert qparams is not None
        quantized[name] = quantize(feed[name], qparams)
    return quantized


def steps_apart(qdq: Graph, integer: Graph, feed: Feed) -> float:
    """The largest distance of the two forms' outputs, in steps of the output."""
    expected, got = evaluate(qdq, feed), evaluate(integer, integers(integer, feed))
    largest = 0.0
    for name, id in integer.outputs.items():
        q = integer.tensor(id).qparams
        if q is None:
            assert_array_equal(got[name], expected[name])
        else:
            steps = expected[name].astype(np.float64) / q.scale + q.zero_point
            largest = max(largest, float(np.abs(got[name] - np.rint(steps)).max()))
    return largest


def build(*shape: int, name: str = "g") -> Graph:
    graph = Graph(name)
    graph.add_input("x", TensorType(DType.F32, shape))
    return graph


def weighted(graph: Graph, x: TensorId, weight: Array, bias: Array, y: TensorId = "y") -> TensorId:
    w = graph.add_constant(f"{y}.w", np.asarray(weight, np.float32))
    b = graph.add_constant(f"{y}.b", np.asarray(bias, np.float32))
    return graph.add_op(o.Dense(inputs=(x, w, b), output=y))


def feed_of(graph: Graph, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {n: sample(random, graph.type(t).shape) for n, t in graph.inputs.items()}
