"""Einsum as sums, products of matrices and products of elements, two operands at a time.

    a: [batch, left, summed]    b: [batch, right, summed]    ->    [batch, left, right]

A label of one operand alone that the result lacks is summed first. Each of the groups becomes one
axis for the product, which is a MatMul where something is summed, else a Mul.
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onnx.helper import make_node

from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.expansion import Nodes, Source

_ELLIPSIS = "..."


@dataclass(frozen=True)
class _Term:
    """A value and the label of each of its axes."""

    name: str
    labels: str


def einsum(s: Source) -> Nodes:
    shapes = [s.shape(i) for i in range(len(s.proto.input))]
    given, result = _labels(s.text("equation", ""), [len(shape) for shape in shapes])
    writer = _Writer(s, _extents(given, shapes))
    terms = [_Term(s.input(i), labels) for i, labels in enumerate(given)]
    terms = [writer.summed(t, _elsewhere(terms, i, result)) for i, t in enumerate(terms)]
    while len(terms) > 1:
        a, b, *rest = terms
        needed = {*result, *(c for t in rest for c in t.labels)}
        terms = [writer.product(a, b, needed), *rest]
    writer.finish(writer.ordered(terms[0], result))
    return writer.nodes


def _elsewhere(terms: Sequence[_Term], index: int, result: str) -> set[str]:
    """The labels that a sum of one term must keep."""
    return {*result, *(c for i, t in enumerate(terms) if i != index for c in t.labels)}


def _labels(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Of the operands and the result, one letter for an axis; an ellipsis gets letters too."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    given = left.split(",")
    if len(given) != len(ranks):
        raise Refused(f"equation {equation!r} for {len(ranks)} operands")
    free = [c for c in string.ascii_letters if c not in equation]
    most = max(
        (r - len(g.replace(_ELLIPSIS, "")) for g, r in zip(given, ranks, strict=True)), default=0
    )
    between = "".join(free[: max(most, 0)])
    spelt = []
    for labels, rank in zip(given, ranks, strict=True):
        if _ELLIPSIS in labels:
            count = rank - len(labels.replace(_ELLIPSIS, ""))
            labels = labels.replace(_ELLIPSIS, between[len(between) - count :] if count else "")
        if len(labels) != rank or len(set(labels)) != rank or not labels.isascii():
            raise Refused(f"equation {equation!r}: {labels!r} for rank {rank}", "distinct labels")
        spelt.append(labels)
    if not arrow:
        every = "".join(spelt).translate({ord(c): None for c in between})
        right = between + "".join(sorted(c for c in set(every) if every.count(c) == 1))
    right = right.replace(_ELLIPSIS, between)
    if len(set(right)) != len(right) or not set(right) <= set("".join(spelt)):
        raise Refused(f"equation {equation!r}: a result {right!r}", "distinct labels of operands")
    return spelt, right


def _extents(given: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    extents: dict[str, int] = {}
    for labels, shape in zip(given, shapes, strict=True):
        for label, extent in zip(labels, shape, strict=True):
            if extents.setdefault(label, extent) != extent:
                raise Refused(f"label {label!r} has {extents[label]} and {extent} elements")
    return extents


@dataclass
class _Writer:
    """The nodes so far."""

    source: Source
    extents: dict[str, int]

    def __post_init__(self) -> None:
        self.nodes: Nodes = []
        self._serial = itertools.count()

    def summed(self, term: _Term, kept: set[str]) -> _Term:
        axes = [i for i, label in enumerate(term.labels) if label not in kept]
        if not axes:
            return term
        labels = "".join(label for label in term.labels if label in kept)
        name = self._name()
        if self.source.context.opset >= 13:
            given = self.source.integers(f"{name}.axes", axes)
            self.nodes.append(make_node("ReduceSum", [term.name, given], [name], keepdims=0))
        else:
            self.nodes.append(make_node("ReduceSum", [term.name], [name], axes=axes, keepdims=0))
        return _Term(name, labels)

    def product(self, a: _Term, b: _Term, needed: set[str]) -> _Term:
        both = [c for c in a.labels if c in b.labels]
        batch = [c for c in both if c in needed]
        summed = [c for c in both if c not in needed]
        left = [c for c in a.labels if c not in both]
        right = [c for c in b.labels if c not in both]
        name = self._name()
        if summed:
            x = self._grouped(a, batch, left, summed)
            y = self._grouped(b, batch, summed, right)
            self.nodes.append(make_node("MatMul", [x, y], [name]))
        else:
            x = self._grouped(a, batch, left, [])
            y = self._grouped(b, batch, [], right)
            self.nodes.append(make_node("Mul", [x, y], [name]))
        labels = "".join([*batch, *left, *right])
        return _Term(self._reshaped(name, [self.extents[c] for c in labels]), labels)

    def _grouped(self, term: _Term, *groups: Sequence[str]) -> str:
        """With its axes in the order of the groups: those of the first as they are, each of the
        others as one.
        """
        first, *others = groups
        name = self.ordered(term, "".join(c for group in groups for c in group)).name
        shape = [self._extent(c) for c in first] + [self._extent(group) for group in others]
        return self._reshaped(name, shape)

    def _extent(self, labels: Iterable[str]) -> int:
        return math.prod(self.extents[c] for c in labels)

    def ordered(self, term: _Term, labels: str) -> _Term:
        if term.labels == labels:
            return term
        name, order = self._name(), [term.labels.index(c) for c in labels]
        self.nodes.append(make_node("Transpose", [term.name], [name], perm=order))
        return _Term(name, labels)

    def _reshaped(self, x: str, shape: Sequence[int]) -> str:
        name = self._name()
        given = self.source.integers(f"{name}.shape", shape)
        self.nodes.append(make_node("Reshape", [x, given], [name]))
        return name

    def finish(self, term: _Term) -> None:
        self.nodes.append(make_node("Identity", [term.name], [self.source.output]))

    def _name(self) -> str:
        return self.source.name(f"step{next(self._serial)}")
