"""What differs between two compilations: by settings, tensors, kernels and bytes, in every plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qcomp.debug.change import Change, changed
from qcomp.debug.layout_difference import kernels, layouts, memory
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.ops.base import Operand
from qcomp.ir.tensor import Array, Tensor, TensorId
from qcomp.ir.text import attributes, format_value
from qcomp.recipes.file import fields_of
from qcomp.runtime.load import load
from qcomp.runtime.network import CompiledNetwork

_DUST = 1e-6  # of a factor, that says nothing
_LEAST = 1e-300

_Pair = tuple[CompiledNetwork, CompiledNetwork]


@dataclass(frozen=True)
class NetworkDifference:
    """Changes of settings, of tensors in the order in which they are computed, of the kernels that
    compute them, of memory, and of figures.

    A tensor that only one of them has is a change of its own, and so is its type, op, scale, zero
    point, factors per channel, attributes and numbers. Figures are what follows from these. Of a
    library of several lengths, a shorter plan (`TENSOR at LENGTH`) tells of what the longer ones
    have not told.
    """

    settings: tuple[Change, ...]
    tensors: tuple[Change, ...]
    kernels: tuple[Change, ...]
    memory: tuple[Change, ...]
    figures: tuple[Change, ...]

    @property
    def same(self) -> bool:
        """Whether they compute the same, for the same target."""
        return not (self.settings or self.tensors)

    @property
    def first(self) -> Change | None:
        """Of the tensors: what a fault that spreads began with."""
        return next(iter(self.tensors), None)

    def json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {"same": self.same, **dataclasses.asdict(self)}


def differences(a: Path, b: Path) -> NetworkDifference:
    """Of two directories that `save` wrote; ModelError for others."""
    return between(load(a), load(b))


def between(a: CompiledNetwork, b: CompiledNetwork) -> NetworkDifference:
    """Of two networks."""
    pairs = _plans(a, b)
    found = {length: layouts(*nets) for length, nets in pairs.items()}
    code = {length: pair for length, pair in found.items() if pair is not None}
    return NetworkDifference(
        tuple(_settings(a, b)),
        _once((n, _tensors(mine.graph, theirs.graph)) for n, (mine, theirs) in pairs.items()),
        _once((n, kernels(*pair)) for n, pair in code.items()),
        _once((n, memory(*pair)) for n, pair in code.items()),
        _once((n, _figures(*nets)) for n, nets in pairs.items()),
    )


def _plans(a: CompiledNetwork, b: CompiledNetwork) -> Mapping[int, _Pair]:
    """Those of the same length, from the largest; the largest of each where there are none."""
    mine, theirs = (dict(zip(net.lengths, net.plans, strict=False)) for net in (a, b))
    return {n: (mine[n], theirs[n]) for n in mine if n in theirs} or {0: (a, b)}


def _once(found: Iterable[tuple[int, Iterable[Change]]]) -> tuple[Change, ...]:
    """Changes by lengths, those of later ones with the length and only where they are others."""
    told: dict[Change, Change] = {}
    for number, (length, changes) in enumerate(found):
        for change in changes:
            where = f"{change.where} at {length}" if number else change.where
            told.setdefault(change, replace(change, where=where))
    return tuple(told.values())


def _settings(a: CompiledNetwork, b: CompiledNetwork) -> Iterator[Change]:
    yield from changed("compile", _told(a), _told(b))
    mine, theirs = fields_of(a.config), fields_of(b.config)
    overrides = mine.pop("overrides"), theirs.pop("overrides")
    yield from changed("config", mine, theirs)
    for key in dict.fromkeys((*overrides[0], *overrides[1])):
        fields = [chosen.get(key, {}) for chosen in overrides]
        yield from changed(f"override {key}", *fields)


def _told(net: CompiledNetwork) -> Mapping[str, Any]:
    told = {"target": net.target, "isa": ", ".join(net.isa), "recipe": net.config.recipe}
    return told | ({"lengths": ", ".join(map(str, net.lengths))} if net.lengths else {})


def _tensors(a: Graph, b: Graph) -> Iterator[Change]:
    """Of a constant, under the op that reads it: passes call what they rewrite otherwise."""
    yield from changed("graph", a.inputs, b.inputs)
    yield from changed("graph", a.outputs, b.outputs)
    for id in dict.fromkeys((*_computed(a), *_computed(b))):
        if id not in a or id not in b:
            yield Change(id, "is", *("nothing" if id not in g else _line(g, id) for g in (a, b)))
        else:
            yield from _tensor(a, b, id)


def _computed(graph: Graph) -> Iterator[TensorId]:
    yield from graph.inputs.values()
    yield from (op.output for op in graph.ops())


def _line(graph: Graph, id: TensorId) -> str:
    op = graph.producer(id)
    return f"{'input' if op is None else op.mnemonic} {graph.type(id)}"


def _tensor(a: Graph, b: Graph, id: TensorId) -> Iterator[Change]:
    mine, theirs = a.tensor(id), b.tensor(id)
    yield from changed(id, _known(mine), _known(theirs))
    factors = [None if t.origin is None else t.origin.scale for t in (mine, theirs)]
    yield from _factors(id, *factors)
    ops = a.producer(id), b.producer(id)
    yield from changed(id, _attributes(a, ops[0]), _attributes(b, ops[1]))
    if ops[0] is not None and type(ops[0]) is type(ops[1]):
        yield from _constants(a, ops[0], b, ops[1])


def _constants(a: Graph, mine: Op, b: Graph, theirs: Op | None) -> Iterator[Change]:
    """Of two ops of one type."""
    pairs = zip(mine.inputs, () if theirs is None else theirs.inputs, strict=False)
    names = {d.index: name for name, d in _operands(type(mine)).items()}
    for place, (x, y) in enumerate(pairs):
        if a.is_constant(x) and b.is_constant(y):
            role = names.get(place, f"operand {place}")
            if a.type(x) == b.type(y):
                yield from _numbers(mine.output, role, a.data(x), b.data(y))
            else:
                yield Change(mine.output, role, str(a.type(x)), str(b.type(y)))


def _operands(cls: type[Op]) -> dict[str, Operand]:
    """The operands of an op by their names."""
    every = [vars(c) for c in reversed(cls.__mro__)]
    return {name: d for fields in every for name, d in fields.items() if isinstance(d, Operand)}


def _known(tensor: Tensor) -> Mapping[str, Any]:
    q = tensor.qparams
    fields = {} if q is None else {"scale": q.scale, "zero point": q.zero_point}
    return {"type": tensor.type, **fields}


def _factors(id: TensorId, a: Array | None, b: Array | None) -> Iterator[Change]:
    """By which equalization multiplied the model's channels, if they differ by more than dust."""
    ones = [np.ones(1) if factors is None else factors for factors in (a, b)]
    if {len(factors) for factors in ones} - {1, max(map(len, ones))}:
        yield Change(id, "channels with factors", *(str(len(factors)) for factors in ones))
        return
    mine, theirs = np.broadcast_arrays(*ones)
    relative = np.abs(mine - theirs) / np.maximum(np.maximum(np.abs(mine), np.abs(theirs)), _LEAST)
    alive = relative * ((mine != 0.0) & (theirs != 0.0))  # dead channels have the factor 0
    at = int((alive if alive.any() else relative).argmax())
    if relative[at] > _DUST:
        yield Change(
            id, f"equalized, most in channel {at}: times", f"{mine[at]:.6g}", f"{theirs[at]:.6g}"
        )


def _attributes(graph: Graph, op: Op | None) -> Mapping[str, Any]:
    if op is None:
        return {}
    fields = {f.name: format_value(getattr(op, f.name)) for f in attributes(type(op))}
    return {"op": op.mnemonic, "reads": ", ".join(graph.activations(op)), **fields}


def _numbers(id: TensorId, role: str, a: Array, b: Array) -> Iterator[Change]:
    """How many differ, and where by how much the most."""
    differ = a != b
    count = int(np.count_nonzero(differ))
    if not count:
        return
    distance = np.abs(a.astype(np.float64) - b.astype(np.float64))
    at = np.unravel_index(int(distance.argmax()), a.shape)
    place = ", ".join(str(int(i)) for i in at)
    what = f"{role}, {count} of {a.size} numbers differ, most at [{place}]:"
    yield Change(id, what, str(a[at]), str(b[at]))


def _figures(a: CompiledNetwork, b: CompiledNetwork) -> Iterator[Change]:
    yield from changed("bytes", _bytes(a), _bytes(b))
    yield from changed("sqnr", _ratios(a), _ratios(b))
    found = [{f"{f.kind.value} of {f.where}": f.text for f in net.findings} for net in (a, b)]
    yield from changed("finding", *found)


def _bytes(net: CompiledNetwork) -> Mapping[str, int]:
    memory = net.artifact.memory
    return {"arena": memory.arena, "live": memory.live, "weights": memory.weights}


def _ratios(net: CompiledNetwork) -> Mapping[str, str]:
    parts = () if net.accuracy is None else net.accuracy.parts
    return {str(p.part): "none" if p.sqnr_db is None else f"{p.sqnr_db:.2f} dB" for p in parts}
