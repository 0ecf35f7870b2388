"""Attention in integers is as near to floats as its weights of 8 or 15 bits are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lowered_graphs import PLAIN, integers, lowered
from numpy.typing import NDArray

from qcomp.errors import PassError
from qcomp.ir import DType, Form, Graph, TensorType, verify
from qcomp.ir.evaluate import evaluate
from qcomp.ir.ops.attention import Attention, Mask, QAttention, Unattended
from qcomp.passes.base import run_pass
from qcomp.passes.certify_accumulators import CertifyAccumulators
from qcomp.quant.metrics import sqnr_db

Array = NDArray[Any]
Q, K = (2, 9, 4, 16), (2, 24, 2, 16)


def network(masks: dict[str, tuple[Mask, Array]], *, ahead: int = 23, **fields: Any) -> Graph:
    """Masks whose name has "constant" in it are constants."""
    graph = Graph("g")
    for name, shape in (("q", Q), ("k", K), ("v", K)):
        graph.add_input(name, TensorType(DType.F32, shape))
    for name, (_, data) in masks.items():
        if "constant" in name:
            graph.add_constant(name, data.astype(np.float32))
        else:
            graph.add_input(name, TensorType(DType.F32, data.shape))
    kinds = tuple(kind for kind, _ in masks.values())
    op = Attention(
        inputs=("q", "k", "v", *masks), output="y", scale=0.25, ahead=ahead, masks=kinds, **fields
    )
    graph.outputs["y"] = graph.add_op(op)
    return graph


def feed(graph: Graph, masks: dict[str, tuple[Mask, Array]]) -> dict[str, Array]:
    random = np.random.default_rng(0)
    found = {n: random.normal(size=s).astype(np.float32) for n, s in (("q", Q), ("k", K), ("v", K))}
    given = {n: data.astype(np.float32) for n, (_, data) in masks.items() if n in graph.inputs}
    return found | given


RANDOM = np.random.default_rng(5)
PATTERN = RANDOM.random((1, 1, 9, 24)) < 0.6
PATTERN[0, 0, 4] = False  # a query without any key
BIAS = RANDOM.normal(size=(4, 9, 24))
LENGTHS = np.arange(24) < np.array([24, 7]).reshape(2, 1, 1, 1)
MASKS: dict[str, dict[str, tuple[Mask, Array]]] = {
    "none": {},
    "a condition": {"m": (Mask.ALLOWED, LENGTHS)},
    "a constant condition": {"constant": (Mask.EXCLUDED, ~PATTERN)},
    "added": {"m": (Mask.ADDED, np.where(LENGTHS, 0.0, -1e9))},
    "an added bias": {"m": (Mask.ADDED, BIAS)},
    "a constant bias": {"constant": (Mask.ADDED, np.where(PATTERN, BIAS, -np.inf))},
    "all": {
        "m": (Mask.ALLOWED, LENGTHS),
        "constant": (Mask.ADDED, BIAS),
        "n": (Mask.ADDED, 0.5 * BIAS),
    },
}


@pytest.mark.parametrize("unattended", list(Unattended), ids=lambda u: u.value)
@pytest.mark.parametrize(("bits", "least"), [(8, 33.0), (16, 70.0)])
@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_it_is_near_to_floats(
    masks: dict[str, tuple[Mask, Array]], bits: int, least: float, unattended: Unattended
) -> None:
    masks = {n: (kind, np.maximum(m, -1e30)) for n, (kind, m) in masks.items()}
    graph = network(masks, unattended=unattended)
    run = feed(graph, masks)
    _, integer, _ = lowered(graph, run, config=PLAIN.__class__(activation_bits=bits))
    verify(integer, Form.INTEGER)
    run_pass(integer, CertifyAccumulators())
    (op,) = (op for op in integer.ops() if isinstance(op, QAttention))
    assert op.probability_bits == (8 if bits == 8 else 15)
    q = integer.tensor(integer.outputs["y"]).qparams
    assert q is not None
    found = (evaluate(integer, integers(integer, run))["y"].astype(float) - q.zero_point) * q.scale
    assert sqnr_db(evaluate(graph, run)["y"], found) > (least if "m" not in masks else least - 8)


@pytest.mark.parametrize("masks", [MASKS["a condition"], MASKS["a constant condition"]])
def test_what_is_excluded_does_not_matter(masks: dict[str, tuple[Mask, Array]]) -> None:
    """Whatever k and v are there."""
    graph = network(masks, ahead=3)
    run = feed(graph, masks)
    _, integer, _ = lowered(graph, run)
    inputs = integers(integer, run)
    expected = evaluate(integer, inputs)["y"]
    for name in ("k", "v"):
        gone = 12 + np.arange(12)  # no query is at more than 8
        inputs[name][:, gone] = np.random.default_rng(1).integers(-128, 128, (2, 12, 2, 16))
    changed = evaluate(integer, inputs)["y"]
    attended = np.ones(9, bool)
    attended[4] = "constant" not in masks
    assert (changed == expected)[:, attended].all()


def test_too_many_keys_are_refused() -> None:
    graph = Graph("g")
    for name, n in (("q", 1), ("k", 20000)):
        graph.add_input(name, TensorType(DType.F32, (1, n, 1, 1)))
    op = Attention(inputs=("q", "k", "k"), output="y", scale=1.0, ahead=19999)
    graph.outputs["y"] = graph.add_op(op)
    run = {n: np.ones(graph.type(n).shape, np.float32) for n in ("q", "k")}
    with pytest.raises(PassError, match="20000 keys; expected at most 16384"):
        lowered(graph, run)
