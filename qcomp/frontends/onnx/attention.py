"""Attention as ONNX has it and as ONNX Runtime's optimizer fuses it, in products and a softmax.

A later pass makes one op of these again, so that there is one form of what all exporters write.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.helper import make_node

from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.expansion import Expansion, Nodes, Source
from qcomp.frontends.onnx.quantized import CONTRIB

_HEADS_FIRST = [0, 2, 1, 3]
_PRESENT = (1, 2)  # results: keys and values with those of the past


@dataclass
class _Writer:
    """Collects nodes; values by the name of their role."""

    s: Source
    nodes: Nodes = field(default_factory=list)

    def add(self, role: str, op: str, *inputs: str, **attributes: Any) -> str:
        return self.put(self.s.name(role), op, *inputs, **attributes)

    def put(self, output: str, op: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(make_node(op, list(inputs), [output], **attributes))
        return output

    def number(self, role: str, value: float) -> str:
        return self.s.given(role, np.array(value, np.float32))

    def by_heads(self, role: str, x: str, shape: tuple[int, ...], heads: int) -> str:
        """[B, S, heads * D] to [B, heads, S, D]."""
        if heads < 1 or shape[2] % heads:
            raise Refused(f"{shape[2]} elements of {heads} heads")
        parts = self.s.integers(f"{role}.shape", [*shape[:2], heads, shape[2] // heads])
        split = self.add(f"{role}.split", "Reshape", x, parts)
        return self.add(role, "Transpose", split, perm=_HEADS_FIRST)

    def repeated(self, role: str, x: str, shape: tuple[int, ...], heads: int) -> str:
        """[B, G, T, D] with each head as often as there are heads of q for it."""
        b, g, t, d = shape
        if g == heads:
            return x
        if heads % g:
            raise Refused(f"{heads} heads of q and {g} of k")
        apart = self.s.integers(f"{role}.apart", [b, g, 1, t, d])
        many = self.s.integers(f"{role}.many", [b, g, heads // g, t, d])
        whole = self.s.integers(f"{role}.whole", [b, heads, t, d])
        spread = self.add(
            f"{role}.spread", "Expand", self.add(f"{role}.one", "Reshape", x, apart), many
        )
        return self.add(role, "Reshape", spread, whole)

    def weighted(
        self, q: str, k: str, v: str, scale: float, masks: list[tuple[str, str, float]], cap: float
    ) -> str:
        """softmax(scale * q k' + masks) v; masks are (Add or Where, the operand, what excludes)."""
        keys = self.add("keys", "Transpose", k, perm=[0, 1, 3, 2])
        x = self.add("scores", "MatMul", q, keys)
        x = self.add("scaled", "Mul", x, self.number("scale", scale))
        if cap > 0:
            x = self.add("capped", "Mul", x, self.number("per cap", 1.0 / cap))
            x = self.add("bent", "Tanh", x)
            x = self.add("uncapped", "Mul", x, self.number("cap", cap))
        for i, (op, mask, fill) in enumerate(masks):
            if op == "Where":
                x = self.add(f"masked{i}", op, mask, x, self.number(f"fill{i}", fill))
            else:
                x = self.add(f"masked{i}", op, x, mask)
        return self.add("weighted", "MatMul", self.add("weights", "Softmax", x, axis=-1), v)

    def merged(self, x: str, shape: tuple[int, ...]) -> None:
        """[B, H, S, E] to the result [B, S, H * E]."""
        b, h, s, e = shape
        inside = self.add("inside", "Transpose", x, perm=_HEADS_FIRST)
        self.put(self.s.output, "Reshape", inside, self.s.integers("merged", [b, s, h * e]))


def attention(s: Source) -> Nodes:
    """ONNX's own: 3 or 4 axes, grouped heads, keys and values of the past."""
    w = _Writer(s)
    if len(s.proto.output) > 3 and s.result(3):
        raise Refused(
            "scores are a result", "the values, and keys and values with those of the past"
        )
    if s.input(6):
        raise Refused("lengths of sequences are an operand", "a mask")
    shapes = [s.shape(i) for i in range(3)]
    ranks = {len(shape) for shape in shapes}
    if ranks not in ({3}, {4}):
        raise Refused(f"q, k and v of shapes {shapes}", "3 axes of each, or 4")
    flat = ranks == {3}
    names = [s.input(i) for i in range(3)]
    if flat:
        heads = [s.integer("q_num_heads"), *[s.integer("kv_num_heads")] * 2]
        for i, role in enumerate("qkv"):
            names[i] = w.by_heads(role, names[i], shapes[i], heads[i])
            b, n, e = shapes[i]
            shapes[i] = (b, heads[i], n, e // heads[i])
    past = 0
    for i, result in zip((1, 2), _PRESENT, strict=True):
        wanted = len(s.proto.output) > result and bool(s.result(result))
        present = s.result(result) if wanted else s.name(f"present{i}")
        if s.input(i + 3):
            if len(s.shape(i + 3)) != 4:
                raise Refused(f"a past of shape {s.shape(i + 3)}", "4 axes")
            past = s.shape(i + 3)[2]
            names[i] = w.put(present, "Concat", s.input(i + 3), names[i], axis=2)
            b, h, n, e = shapes[i]
            shapes[i] = (b, h, n + past, e)
        elif wanted:
            names[i] = w.put(present, "Identity", names[i])
    (b, heads_of_q, queries, depth), keys = shapes[0], shapes[1][2]
    k, v = (
        w.repeated(f"{r}.heads", names[i], shapes[i], heads_of_q) for i, r in ((1, "k"), (2, "v"))
    )
    masks = []
    if s.input(3):
        is_condition = s.context.element_type(s.input(3)) == TensorProto.BOOL
        masks.append(("Where" if is_condition else "Add", s.input(3), -math.inf))
    seen = _seen(s, queries, keys, past)
    if not seen.all():
        masks.append(("Add", s.given("seen", _excluding(~seen)), 0.0))
    scale = _real(s, "scale", 0.0) or depth**-0.5
    y = w.weighted(names[0], k, v, scale, masks, _real(s, "softcap", 0.0))
    if flat:
        w.merged(y, (b, heads_of_q, queries, shapes[2][3]))
    else:
        w.put(s.output, "Identity", y)
    return w.nodes


def _seen(s: Source, queries: int, keys: int, past: int) -> NDArray[np.bool_]:
    """Which keys each query sees by their positions: none behind it, or those of a window."""
    ahead = np.arange(keys) - (np.arange(queries)[:, None] + past)
    left, right = (s.integer(f"{side}_window_size", -1) for side in ("left", "right"))
    seen = np.ones(ahead.shape, bool)
    if s.integer("is_causal", 0):
        seen &= ahead <= 0
    if left >= 0:
        seen &= ahead >= -left
    if right >= 0:
        seen &= ahead <= right
    return seen


def multi_head_attention(s: Source) -> Nodes:
    """(query, key, value, bias, key padding mask, attention bias)."""
    w = _Writer(s)
    if any(s.input(i) for i in range(6, len(s.proto.input))):
        raise Refused("keys and values of the past are operands", "those of the sequence")
    _expect_one_result(s)
    if not (s.input(1) and s.input(2)):
        raise Refused("query, key and value are packed", "three operands")
    shapes, heads = [s.shape(i) for i in range(3)], s.integer("num_heads")
    if any(len(shape) != 3 for shape in shapes):
        raise Refused(f"operands of shapes {shapes}", "[batch, length, elements] each")
    names, done = [], 0
    for i, role in enumerate("qkv"):
        name = s.input(i)
        if s.input(3):
            bias = s.constant(3, "the bias")[done : done + shapes[i][2]]
            name = w.add(f"{role}.biased", "Add", name, s.given(f"{role}.bias", bias))
            done += shapes[i][2]
        names.append(w.by_heads(role, name, shapes[i], heads))
    masks = _padding(w, 4, shapes[1][1])
    if s.input(5):
        masks.append(("Add", s.input(5), 0.0))
    return _fused(w, names, shapes, heads, masks)


def packed_attention(s: Source) -> Nodes:
    """(input, weights of q, k and v, bias, mask): the layer before is within."""
    w = _Writer(s)
    if any(s.input(i) for i in (4, 6)):
        raise Refused("keys and values of the past are operands", "those of the sequence")
    _expect_one_result(s)
    b, length, _ = s.shape(0)
    weight, heads = s.constant(1, "the weight"), s.integer("num_heads")
    if weight.shape[1] % 3 or any(a.name == "qkv_hidden_sizes" for a in s.proto.attribute):
        raise Refused("q, k and v of different sizes", "equal ones")
    size = weight.shape[1] // 3
    names = []
    for i, role in enumerate("qkv"):
        part = slice(i * size, (i + 1) * size)
        x = w.add(
            f"{role}.product", "MatMul", s.input(0), s.given(f"{role}.weight", weight[:, part])
        )
        if s.input(2):
            bias = s.given(f"{role}.bias", s.constant(2, "the bias")[part])
            x = w.add(f"{role}.biased", "Add", x, bias)
        names.append(w.by_heads(role, x, (b, length, size), heads))
    masks = _padding(w, 3, length)
    if s.input(5):
        masks.append(("Add", s.input(5), 0.0))
    return _fused(w, names, [(b, length, size)] * 3, heads, masks)


def _fused(
    w: _Writer,
    names: list[str],
    shapes: list[tuple[int, ...]],
    heads: int,
    masks: list[tuple[str, str, float]],
) -> Nodes:
    """What both operators of ONNX Runtime end with."""
    (b, queries, size), keys = shapes[0], shapes[1][1]
    if w.s.integer("unidirectional", 0):
        seen = np.tri(queries, keys, keys - queries, dtype=bool)
        masks = [*masks, ("Add", w.s.given("causal", _excluding(~seen)), 0.0)]
    scale = _real(w.s, "scale", 0.0) or (size // heads) ** -0.5
    y = w.weighted(names[0], names[1], names[2], scale, masks, 0.0)
    w.merged(y, (b, heads, queries, shapes[2][2] // heads))
    return w.nodes


def _padding(w: _Writer, index: int, keys: int) -> list[tuple[str, str, float]]:
    """A mask of 0 and 1 for each key of each sequence."""
    if not w.s.input(index):
        return []
    shape = w.s.shape(index)
    if len(shape) != 2 or shape[1] != keys:
        raise Refused(f"a mask of shape {shape}", "[batch, keys], 0 where there is none")
    there = w.add("there", "Cast", w.s.input(index), to=TensorProto.BOOL)
    condition = w.add("condition", "Unsqueeze", there, w.s.integers("axes", [1, 2]))
    return [("Where", condition, _real(w.s, "mask_filter_value", -10000.0))]


def _expect_one_result(s: Source) -> None:
    if any(s.result(i) for i in range(1, len(s.proto.output))):
        raise Refused("keys and values are results", "the values alone")


def _excluding(gone: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(gone, -np.inf, 0.0).astype(np.float32)


def _real(s: Source, name: str, default: float) -> float:
    """An attribute."""
    for a in s.proto.attribute:
        if a.name == name and a.type == onnx.AttributeProto.FLOAT:
            return float(a.f)
    return default


ATTENTION: Mapping[tuple[str, str], Expansion] = {("", "Attention"): attention}
FUSED_ATTENTION: Mapping[tuple[str, str], Expansion] = {
    (CONTRIB, "MultiHeadAttention"): multi_head_attention,
    (CONTRIB, "Attention"): packed_attention,
}
