"""Attention that was written out becomes one op with the same meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from network_builder import Builder
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from qcomp.execute.session import FloatSession
from qcomp.frontends import import_model
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import MatMul, Softmax, Transpose
from qcomp.ir.ops.attention import Attention, Mask, Unattended
from qcomp.passes.base import PassManager
from qcomp.passes.canonicalize_layout import CanonicalizeLayout
from qcomp.passes.fold_constants import FoldConstants
from qcomp.passes.recompose_attention import RecomposeAttention

Array = NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]
LENGTH, HEADS, DEPTH = 6, 4, 3
WIDTH = HEADS * DEPTH
SCALE = DEPTH**-0.5
CAUSAL = np.tri(LENGTH, LENGTH) == 0
Same = Callable[[Builder, str], str]
Masked = Callable[[Builder, str], str]


def same(b: Builder, x: str) -> str:
    return x


def by_heads(b: Builder, x: str, permutation: Sequence[int], heads: int = HEADS) -> str:
    """[1, S, heads * D] in four axes, permuted."""
    return b("Transpose", b("Reshape", x, [1, LENGTH, heads, DEPTH]), perm=list(permutation))


def attention(
    b: Builder,
    *,
    query: Same = same,
    key: Same = same,
    scores: Masked = lambda b, s: b("Mul", s, SCALE),
    heads: int = HEADS,
    repeated: Same = same,
) -> str:
    """Of x [1, S, heads * D]."""
    q, k, v = (
        b("MatMul", "x", b.random.normal(size=(WIDTH, n * DEPTH))) for n in (HEADS, heads, heads)
    )
    q = by_heads(b, q, (0, 2, 1, 3))
    k, v = (repeated(b, by_heads(b, x, (0, 2, 1, 3), heads)) for x in (k, v))
    k = b("Transpose", k, perm=[0, 1, 3, 2])
    s = scores(b, b("MatMul", query(b, q), key(b, k)))
    y = b("MatMul", b("Softmax", s, axis=-1), v)
    return b("Reshape", b("Transpose", y, perm=[0, 2, 1, 3]), [1, LENGTH, WIDTH])


def of(*shapes: str, **choices: Any) -> Callable[[], onnx.ModelProto]:
    """A network of x and the masks named."""
    all_shapes: dict[str, list[int | str]] = {"x": [1, LENGTH, WIDTH], "kept": [1, 1, 1, LENGTH]}

    def build() -> onnx.ModelProto:
        b = Builder(17)
        y = attention(b, **choices)
        return b.model({n: all_shapes[n] for n in ("x", *shapes)}, [y])

    return build


def scaled(factor: float) -> Same:
    return lambda b, x: b("Mul", x, factor)


def then(*steps: Masked) -> Masked:
    def all_of(b: Builder, s: str) -> str:
        for step in steps:
            s = step(b, s)
        return s

    return all_of


def by_expand(b: Builder, x: str) -> str:
    g, r = 2, HEADS // 2
    one = b("Reshape", x, [1, g, 1, LENGTH, DEPTH])
    many = b("Expand", one, np.array([1, g, r, LENGTH, DEPTH]))
    return b("Reshape", many, [1, HEADS, LENGTH, DEPTH])


def inverted(b: Builder, s: str) -> str:
    """As transformers do: (1 - kept) * the least float32."""
    return b("Add", s, b("Mul", b("Sub", 1.0, "kept"), -3.4028235e38))


def chosen(value: float, *, inverse: bool = False) -> Masked:
    def choice(b: Builder, s: str) -> str:
        condition = b("Cast", b("Sub", 1.0, "kept") if inverse else "kept", to=9)
        return b("Where", condition, *([value, s] if inverse else [s, value]))

    return choice


def chosen_to_add(value: float) -> Masked:
    def choice(b: Builder, s: str) -> str:
        condition = b("Cast", "kept", to=9)
        whole = b("Expand", condition, np.array([1, 1, LENGTH, LENGTH]))
        return b("Add", s, b("Where", whole, 0.0, value))

    return choice


def added(array: Array) -> Masked:
    return lambda b, s: b("Add", s, array)


HALF = scaled(SCALE)
BIAS = np.random.default_rng(1).normal(size=(1, HEADS, LENGTH, LENGTH))
NETWORKS: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, Any]]] = {
    "scale behind": (of(), {}),
    "scale by division": (of(scores=lambda b, s: b("Div", s, 1 / SCALE)), {}),
    "scale of q": (of(query=HALF, scores=same), {}),
    "scale of k": (of(key=HALF, scores=same), {}),
    "half of each": (of(query=scaled(SCALE**0.5), key=scaled(SCALE**0.5), scores=same), {}),
    "heads in pairs": (of(heads=2, repeated=by_expand), {"groups": 2}),
    "one head of k": (of(heads=1), {"groups": 1}),
    "causal by -inf": (of(scores=then(HALF, added(np.where(CAUSAL, -np.inf, 0)))), {"ahead": 0}),
    "causal, scaled afterwards": (
        of(scores=then(added(np.where(CAUSAL, -1e9, 0)), HALF)), {"ahead": 0},
    ),
    "causal, subtracted": (
        of(scores=then(HALF, lambda b, s: b("Sub", s, np.where(CAUSAL, 1e9, 0)))), {"ahead": 0},
    ),
    "causal, bounded below": (
        of(scores=then(added(np.where(CAUSAL, -1e9, 0)), lambda b, s: b("Max", s, -1e9))),
        {"ahead": 0},
    ),
    "two positions ahead": (
        of(scores=added(np.where(np.tri(LENGTH, LENGTH, 2) == 0, -1e9, 0))), {"ahead": 2},
    ),
    "a bias": (of(scores=then(HALF, added(BIAS))), {"masks": (Mask.ADDED,)}),
    "a bias with a causal mask": (
        of(scores=then(HALF, added(BIAS), added(np.where(CAUSAL, -1e9, 0)))),
        {"masks": (Mask.ADDED,), "ahead": 0},
    ),
    "a constant pattern": (
        of(scores=added(np.where(np.arange(LENGTH) % 3 == 0, -1e9, 0))),
        {"masks": (Mask.ALLOWED,)},
    ),
    "padding": (of("kept", scores=then(HALF, inverted)), {"masks": (Mask.ALLOWED,)}),
    "a choice": (of("kept", scores=then(HALF, chosen(-1e9))), {"masks": (Mask.ALLOWED,)}),
    "a choice of -inf": (
        of("kept", scores=then(HALF, chosen(-np.inf))),
        {"masks": (Mask.ALLOWED,), "unattended": Unattended.ZERO},
    ),
    "the other choice": (
        of("kept", scores=then(chosen(-1e9, inverse=True), HALF)), {"masks": (Mask.EXCLUDED,)},
    ),
    "a choice that is added": (
        of("kept", scores=then(HALF, chosen_to_add(-1e9))), {"masks": (Mask.ALLOWED,)},
    ),
    "a sum that is added": (
        of("kept", scores=then(HALF, lambda b, s: b("Add", s, b("Add", "kept", BIAS)))),
        {"masks": (Mask.ADDED, Mask.ADDED)},
    ),
    "padding with a causal mask": (
        of("kept", scores=then(HALF, inverted, added(np.where(CAUSAL, -1e9, 0)))),
        {"masks": (Mask.ALLOWED,), "ahead": 0},
    ),
}  # fmt: skip


def normalized(model: onnx.ModelProto) -> Graph:
    imported = import_model(model)
    manager = PassManager()
    graph = manager.begin(imported.graph, imported.form)
    return manager.run(graph, [FoldConstants(), CanonicalizeLayout()])


def recomposed(graph: Graph) -> Graph:
    return PassManager().run(graph.clone(), [RecomposeAttention(), CanonicalizeLayout()])


def feeds(graph: Graph) -> dict[str, Array]:
    random = np.random.default_rng(0)
    kept = (np.arange(LENGTH) < 4).astype(np.float32).reshape(1, 1, 1, LENGTH)
    shapes = {n: graph.type(id).shape for n, id in graph.inputs.items()}
    found = {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    return found | ({"kept": kept} if "kept" in found else {})


@pytest.mark.parametrize(("build", "expected"), NETWORKS.values(), ids=NETWORKS)
def test_it_is_one_op_with_the_same_meaning(
    build: Callable[[], onnx.ModelProto], expected: dict[str, Any]
) -> None:
    graph = normalized(build())
    after = recomposed(graph)
    ops = after.ops()
    assert not any(isinstance(op, MatMul | Softmax | Transpose) for op in ops)
    (op,) = (op for op in ops if isinstance(op, Attention))
    assert op.masks == expected.get("masks", ())
    assert op.ahead == expected.get("ahead", LENGTH - 1)
    if "groups" in expected:
        assert after.type(op.k).shape[2] == expected["groups"]
    if "unattended" in expected:
        assert op.unattended is expected["unattended"]
    run = feeds(graph)
    (name,) = graph.outputs
    values = evaluate(after, run)[name]
    assert_allclose(values, evaluate(graph, run)[name], rtol=1e-4, atol=1e-5)
    assert_allclose(FloatSession(after).run(run)[name], values, rtol=1e-4, atol=1e-5)


def packed(b: Builder) -> str:
    """q, k and v of one layer, split, as [3, heads, S, D]."""
    qkv = b("MatMul", "x", b.random.normal(size=(WIDTH, 3 * WIDTH)))
    qkv = b("Reshape", qkv, [LENGTH, 3, HEADS, DEPTH])
    qkv = b("Transpose", qkv, perm=[1, 2, 0, 3])
    q, k, v = (b("Gather", qkv, np.array(i), axis=0) for i in range(3))
    s = b("MatMul", b("Mul", q, SCALE), b("Transpose", k, perm=[0, 2, 1]))
    y = b("MatMul", b("Softmax", s, axis=-1), v)
    return b("Reshape", b("Transpose", y, perm=[1, 0, 2]), [1, LENGTH, WIDTH])


def einsum(b: Builder) -> str:
    q, k, v = (
        b(
            "Reshape",
            b("MatMul", "x", b.random.normal(size=(WIDTH, WIDTH))),
            [1, LENGTH, HEADS, DEPTH],
        )
        for _ in range(3)
    )
    s = b("Einsum", q, k, equation="bshd,bthd->bhst")
    y = b("Einsum", b("Softmax", b("Mul", s, SCALE), axis=-1), v, equation="bhst,bthd->bshd")
    return b("Reshape", y, [1, LENGTH, WIDTH])


def one_head(b: Builder) -> str:
    q, k, v = (b("MatMul", "x", b.random.normal(size=(WIDTH, WIDTH))) for _ in range(3))
    s = b("Mul", b("MatMul", q, b("Transpose", k, perm=[0, 2, 1])), SCALE)
    return b("MatMul", b("Softmax", s, axis=-1), v)


@pytest.mark.parametrize("write", [packed, einsum, one_head])
def test_other_ways_to_make_heads(write: Callable[[Builder], str]) -> None:
    b = Builder(17)
    y = write(b)
    graph = normalized(b.model({"x": [1, LENGTH, WIDTH]}, [y]))
    after = recomposed(graph)
    assert sum(isinstance(op, Attention) for op in after.ops()) == 1
    assert not any(isinstance(op, MatMul | Softmax | Transpose) for op in after.ops())
    run = feeds(graph)
    (name,) = graph.outputs
    assert_allclose(evaluate(after, run)[name], evaluate(graph, run)[name], rtol=1e-4, atol=1e-5)


def over_queries(b: Builder) -> str:
    q, k, v = (b("MatMul", "x", b.random.normal(size=(WIDTH, WIDTH))) for _ in range(3))
    s = b("MatMul", q, b("Transpose", k, perm=[0, 2, 1]))
    return b("MatMul", b("Softmax", s, axis=1), v)


def constant_keys(b: Builder) -> str:
    s = b("MatMul", "x", b.random.normal(size=(WIDTH, 5)))
    return b("MatMul", b("Softmax", s, axis=-1), b.random.normal(size=(5, WIDTH)))


def other_readers(b: Builder) -> str:
    q, k, v = (b("MatMul", "x", b.random.normal(size=(WIDTH, WIDTH))) for _ in range(3))
    weights = b("Softmax", b("MatMul", q, b("Transpose", k, perm=[0, 2, 1])), axis=-1)
    y = b("MatMul", weights, v)
    return b("Add", y, b("ReduceSum", weights, [2], keepdims=1))


@pytest.mark.parametrize("write", [over_queries, constant_keys, other_readers])
def test_anything_else_stays(write: Callable[[Builder], str]) -> None:
    b = Builder(17)
    y = write(b)
    graph = normalized(b.model({"x": [1, LENGTH, WIDTH]}, [y]))
    assert not any(isinstance(op, Attention) for op in recomposed(graph).ops())
