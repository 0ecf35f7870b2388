"""Sequences of tensors, of which every element is known by its name.

Exporters write them for `torch.split` and lists. A node that gives a sequence adds nothing to the
graph but its parts; one that takes an element of it, at a constant place, is that element.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx.helper import make_node

from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.expansion import Expansion, Nodes, Source

_MOST = 1024  # elements


def _elements(s: Source, index: int = 0) -> list[str]:
    name = s.input(index)
    if name not in s.context.sequences:
        raise Refused(f"{name!r} is no sequence of known elements", "those made in the graph")
    return s.context.sequences[name]


def _give(s: Source, names: list[str]) -> None:
    """The result is a sequence of these tensors."""
    for name in names:
        if not name or name in s.context.sequences:
            raise Refused(f"{name!r} as an element", "tensors")
    s.context.sequences[s.output] = names
    s.context.used.update(names)


def _place(s: Source, index: int, count: int, default: int | None = None) -> int:
    place = int(s.number(index, "the position", default))
    if not -count <= place < count:
        raise Refused(f"position {place} in a sequence of {count}")
    return place % count


def split_to_sequence(s: Source) -> Nodes:
    """Slices; in pieces of one, and without the axis, where no size is given."""
    shape, axis = s.shape(0), s.integer("axis", 0)
    if not -len(shape) <= axis < len(shape):
        raise Refused(f"axis {axis} of rank {len(shape)}")
    axis, extent = axis % len(shape), shape[axis]
    sizes, squeezed = _sizes(s, extent)
    if len(sizes) > _MOST or min(sizes, default=1) < 1 or sum(sizes) != extent:
        raise Refused(f"parts {sizes} of an axis of {extent}", f"up to {_MOST} that fill it")
    names, nodes, start = [s.name(f"part{i}") for i in range(len(sizes))], [], 0
    for name, size in zip(names, sizes, strict=True):
        piece = s.name(f"{name}.slice") if squeezed else name
        bounds = [s.integers(f"{name}.{w}", [v]) for w, v in _bounds(start, size, axis)]
        nodes.append(make_node("Slice", [s.input(0), *bounds], [piece]))
        if squeezed:
            flat = s.integers(f"{name}.shape", [*shape[:axis], *shape[axis + 1 :]])
            nodes.append(make_node("Reshape", [piece, flat], [name]))
        start += size
    _give(s, names)
    return nodes


def _bounds(start: int, size: int, axis: int) -> tuple[tuple[str, int], ...]:
    return ("start", start), ("end", start + size), ("axis", axis)


def _sizes(s: Source, extent: int) -> tuple[list[int], bool]:
    """Of the parts, and whether they lose the axis."""
    if not s.input(1):
        return [1] * min(extent, _MOST + 1), s.integer("keepdims", 1) == 0
    given = s.constant(1, "the sizes")
    if given.dtype.kind not in "iu":
        raise Refused(f"sizes of {given.dtype}", "integers")
    given = given.astype(np.int64)
    if given.ndim:
        return given.reshape(-1).tolist(), False
    size = max(int(given), 1)
    whole, rest = divmod(extent, size)
    return [size] * min(whole, _MOST + 1) + ([rest] if rest else []), False


def sequence_construct(s: Source) -> Nodes:
    _give(s, [str(name) for name in s.proto.input])
    return []


def sequence_empty(s: Source) -> Nodes:
    _give(s, [])
    return []


def sequence_insert(s: Source) -> Nodes:
    before = list(_elements(s))
    place = int(s.number(2, "the position", len(before)))
    if not -len(before) <= place <= len(before):
        raise Refused(f"position {place} in a sequence of {len(before)}")
    at = place if place >= 0 else place + len(before)
    _give(s, [*before[:at], s.input(1), *before[at:]])
    return []


def sequence_erase(s: Source) -> Nodes:
    before = list(_elements(s))
    del before[_place(s, 1, len(before), -1)]
    _give(s, before)
    return []


def sequence_at(s: Source) -> Nodes:
    elements = _elements(s)
    return [make_node("Identity", [elements[_place(s, 1, len(elements))]], [s.output])]


def sequence_length(s: Source) -> Nodes:
    s.context.constants[s.output] = np.array(len(_elements(s)), np.int64)
    return []


def concat_from_sequence(s: Source) -> Nodes:
    """Behind each other along an axis, or along a new one."""
    elements, axis = _elements(s), s.integer("axis")
    if not elements:
        raise Refused("a sequence without elements", "one or more")
    if not s.integer("new_axis", 0):
        return [make_node("Concat", elements, [s.output], axis=axis)]
    shape = s.context.shape(elements[0])
    if not -len(shape) - 1 <= axis <= len(shape):
        raise Refused(f"axis {axis} of rank {len(shape) + 1}")
    axis %= len(shape) + 1
    grown = s.integers("grown", [*shape[:axis], 1, *shape[axis:]])
    names = [s.name(f"grown{i}") for i in range(len(elements))]
    nodes = [make_node("Reshape", [e, grown], [n]) for e, n in zip(elements, names, strict=True)]
    return [*nodes, make_node("Concat", names, [s.output], axis=axis)]


SEQUENCES: Mapping[tuple[str, str], Expansion] = {
    ("", "ConcatFromSequence"): concat_from_sequence,
    ("", "SequenceAt"): sequence_at,
    ("", "SequenceConstruct"): sequence_construct,
    ("", "SequenceEmpty"): sequence_empty,
    ("", "SequenceErase"): sequence_erase,
    ("", "SequenceInsert"): sequence_insert,
    ("", "SequenceLength"): sequence_length,
    ("", "SplitToSequence"): split_to_sequence,
}
