"""Compiled attention: masks that callers give, lengths, threads and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from network_builder import Builder
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from onnx import TensorProto

import qcomp
from qcomp.ir.ops import QAttention
from qcomp.quant.metrics import sqnr_db
from qcomp.runtime.network import CompiledNetwork

Array = NDArray[Any]
HEADS, DEPTH = 4, 8
WIDTH = HEADS * DEPTH
Masked = Callable[[Builder, str], str]


def network(
    length: int, mask: dict[str, list[int]], masked: Masked, *, kind: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """Self attention of q, k and v that are inputs, with a mask among them."""
    b = Builder(17)
    parts = []
    for name, order in (("q", (0, 2, 1, 3)), ("k", (0, 2, 3, 1)), ("v", (0, 2, 1, 3))):
        heads = b("Reshape", name, [1, length, HEADS, DEPTH])
        parts.append(b("Transpose", heads, perm=list(order)))
    scores = masked(b, b("Mul", b("MatMul", parts[0], parts[1]), DEPTH**-0.5))
    y = b("MatMul", b("Softmax", scores, axis=-1), parts[2])
    y = b("Reshape", b("Transpose", y, perm=[0, 2, 1, 3]), [1, length, WIDTH])
    shapes = {name: [1, length, WIDTH] for name in "qkv"}
    model = b.model({**shapes, **mask}, [y])
    for value in model.graph.input:
        if value.name in mask:
            value.type.tensor_type.elem_type = kind
    return model


def samples(length: int, count: int, seed: int, masks: dict[str, Any] | None = None) -> list[Any]:
    random = np.random.default_rng(seed)
    return [
        {n: random.normal(size=(1, length, WIDTH)).astype(np.float32) for n in "qkv"}
        | {n: make(random) for n, make in (masks or {}).items()}
        for _ in range(count)
    ]


def reference(run: dict[str, Array], allowed: Array) -> Array:
    """[1, S, W] in float64; a query without a key gets the mean."""
    q, k, v = (run[n].reshape(-1, HEADS, DEPTH).swapaxes(0, 1).astype(float) for n in "qkv")
    s = np.where(allowed, q @ k.swapaxes(1, 2) * DEPTH**-0.5, -1e30)
    p = np.exp(s - s.max(axis=2, keepdims=True))
    y = (p / p.sum(axis=2, keepdims=True)) @ v
    return np.asarray(y.swapaxes(0, 1).reshape(1, -1, WIDTH))


def compiled(model: onnx.ModelProto, runs: list[Any], **choices: Any) -> CompiledNetwork:
    net = qcomp.compile(model, calibration=runs, recipe="fast", **choices)
    assert sum(isinstance(op, QAttention) for op in net.graph.ops()) == 1
    return net


def answer(net: CompiledNetwork, run: dict[str, Array]) -> Array:
    return first(net(run))


def first(outputs: dict[str, Array]) -> Array:
    (y,) = outputs.values()
    return y


def chosen(fill: float) -> Masked:
    return lambda b, s: b("Where", b("Unsqueeze", "mask", [1, 2]), s, fill)


def lengths(random: np.random.Generator) -> Array:
    return np.arange(9)[None] < random.integers(3, 10)


@pytest.mark.parametrize("fill", [-1e9, -np.inf])
def test_a_mask_of_truth_values(fill: float) -> None:
    """Callers give bool or numbers; a sequence without a key has the mean, or 0 of -inf."""
    model = network(9, {"mask": [1, 9]}, chosen(fill), kind=TensorProto.BOOL)
    net = compiled(model, samples(9, 6, 0, {"mask": lengths}))
    for run in samples(9, 3, 1, {"mask": lengths}):
        got = answer(net, run)
        assert sqnr_db(reference(run, run["mask"]), got) > 28
        assert_array_equal(got, answer(net, run | {"mask": run["mask"].astype(np.int64)}))
        assert_array_equal(got, first(net.specification(run)))
        other = dict(run)
        for name in "kv":  # what is excluded does not matter
            other[name] = np.where(run["mask"][0, :, None], run[name], np.float32(1.5))
        assert_array_equal(got, answer(net, other))
    nothing = samples(9, 1, 2)[0] | {"mask": np.zeros((1, 9), bool)}
    got = answer(net, nothing)
    if np.isfinite(fill):
        assert sqnr_db(reference(nothing, np.zeros(9, bool)), got) > 20
    else:
        assert not got.any()


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("value", [-1e4, -3e38, -np.inf])
def test_an_added_mask(value: float, seen: bool) -> None:
    """Also where it is 0 in all calibration data."""

    def mask(random: np.random.Generator) -> Array:
        shown = lengths(random).reshape(1, 1, 1, 9) | (not seen)
        return np.where(shown, 0.0, value).astype(np.float32)

    model = network(9, {"mask": [1, 1, 1, 9]}, lambda b, s: b("Add", s, "mask"))
    net = compiled(model, samples(9, 24, 0, {"mask": mask}))
    for run in samples(9, 3, 1):
        run["mask"] = np.where(np.arange(9) < 5, 0.0, value).astype(np.float32).reshape(1, 1, 1, 9)
        got = answer(net, run)
        assert sqnr_db(reference(run, run["mask"][0] == 0), got) > (25 if seen else 15)
        assert_array_equal(got, first(net.specification(run)))
        other = run | {n: run[n].copy() for n in "kv"}
        for name in "kv":
            other[name][:, 5:] = 1.5
        assert_array_equal(got, answer(net, other))


def causal(length: int) -> Masked:
    return lambda b, s: b("Add", s, np.where(np.tri(length) > 0, 0.0, -np.inf))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_causal_mask_is_no_array_and_threads_share_heads(bits: int) -> None:
    config = qcomp.QuantizationConfig(activation_bits=bits)
    net = compiled(network(40, {}, causal(40)), samples(40, 4, 0), config=config)
    (op,) = (op for op in net.graph.ops() if isinstance(op, QAttention))
    assert (op.ahead, op.masks) == (0, ())
    (run,) = samples(40, 1, 1)
    got = answer(net, run)
    assert sqnr_db(reference(run, np.tri(40) > 0), got) > (30 if bits == 8 else 65)
    assert_array_equal(got, first(net.specification(run)))
    assert_array_equal(got, first(net(run, threads=3)))


def test_no_matrix_of_scores_is_stored() -> None:
    """What is stored grows with the length and not with its square."""
    short, long = (
        compiled(network(length, {}, lambda b, s: s), samples(length, 2, 0)).arena_bytes
        for length in (512, 1024)
    )
    assert long < 2.1 * short
