"""Permutations of axes, as Transpose writes them, and twists.

    Transpose(x, p) has axis i of the result from axis p[i] of x.
    Transpose(Transpose(x, p), q) = Transpose(x, after(p, q)),   after(p, q)[i] = p[q[i]].

A value v *has the twist* t when it is held as another value h in memory and v = Transpose(h, t):
semantic axis i of v is axis t[i] of h. Twists that differ only in where axes of extent 1 go hold
the same values in the same order, so a Reshape turns one into the other.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence

Permutation = tuple[int, ...]
Shape = tuple[int, ...]


def identity(rank: int) -> Permutation:
    return tuple(range(rank))


def after(first: Permutation, then: Permutation) -> Permutation:
    """The permutation of Transpose(Transpose(x, first), then)."""
    return tuple(first[i] for i in then)


def inverse(permutation: Permutation) -> Permutation:
    result = [0] * len(permutation)
    for i, axis in enumerate(permutation):
        result[axis] = i
    return tuple(result)


def permuted(values: Sequence[int], permutation: Permutation) -> tuple[int, ...]:
    """The extents (or other per-axis values) of x seen through Transpose(x, permutation)."""
    return tuple(values[i] for i in permutation)


def held(values: Sequence[int], twist: Permutation) -> tuple[int, ...]:
    """Per-axis values of v, in the order of the axes of h where v = Transpose(h, twist)."""
    return permuted(values, inverse(twist))


def keeps_order(shape: Shape, permutation: Permutation) -> bool:
    """Whether Transpose of this shape moves only axes of extent 1, which a Reshape does too."""
    moved = [axis for axis in permutation if shape[axis] != 1]
    return moved == sorted(moved)


def equivalent(shape: Shape, a: Permutation, b: Permutation) -> bool:
    """Whether two twists of a value of this shape hold its elements in the same order."""
    return keeps_order(held(shape, a), after(a, inverse(b)))


def carried(shape: Shape, twist: Permutation, target: Shape) -> Permutation | str:
    """The twist of Reshape(v, target) for a v with this twist, or why there is none.

    Axes split into the smallest groups that source and target share, such as C | H W for
    [C, H, W] to [C, H*W]. The reshape works on the held value iff each group lies there together
    and in order; the groups then follow each other as in the held value.
    """
    groups = _shared_groups(shape, target)
    order = sorted((i for i, e in enumerate(shape) if e != 1), key=lambda i: twist[i])
    position = {axis: k for k, axis in enumerate(order)}
    for sources, targets in groups:
        first = position[sources[0]]
        if [position[i] for i in sources] != list(range(first, first + len(sources))):
            torn = f"its axes {tuple(sources)} make up {tuple(targets)} of the result"
            return f"{torn}, and the permutation does not keep them together"
    groups.sort(key=lambda group: position[group[0][0]])
    # Axes of extent 1 go anywhere: leading ones stay in front, others follow their neighbour.
    following: dict[int, list[int]] = {-1: []}
    last = -1
    for i, extent in enumerate(target):
        if extent == 1:
            following[last].append(i)
        else:
            last = i
            following[i] = []
    physical = list(following[-1])
    for _, targets in groups:
        for i in targets:
            physical += [i, *following[i]]
    result = inverse(tuple(physical))
    return identity(len(target)) if equivalent(target, result, identity(len(target))) else result


def refinement(a: Shape, b: Shape) -> Shape | None:
    """The extents that both shapes are merged from: every axis is a run of them, or of extent 1.

    None where axes overlap in part. Leading axes of extent 1 that both have stay.
    """
    ends = sorted({*itertools.accumulate(a, operator.mul), *itertools.accumulate(b, operator.mul)})
    steps = list(itertools.pairwise([1, *(e for e in ends if e > 1)]))
    if math.prod(a) != math.prod(b) or any(after % before for before, after in steps):
        return None
    units = next((i for i, e in enumerate(zip(a, b, strict=False)) if e != (1, 1)), 0)
    return (1,) * units + tuple(after // before for before, after in steps)


def covered(shape: Shape, parts: Shape) -> list[list[int]]:
    """For each axis of a shape the axes of its refinement that it is merged from."""
    waiting = [i for i, e in enumerate(parts) if e > 1]
    result: list[list[int]] = []
    for extent in shape:
        axes: list[int] = []
        while math.prod(parts[i] for i in axes) < extent:
            axes.append(waiting.pop(0))
        result.append(axes)
    return result


def _shared_groups(source: Shape, target: Shape) -> list[tuple[list[int], list[int]]]:
    """Axes of source and target (extents above 1) in the smallest runs of equal product."""
    sources = [i for i, e in enumerate(source) if e != 1]
    targets = [i for i, e in enumerate(target) if e != 1]
    groups = []
    while sources:
        a, b = [sources.pop(0)], [targets.pop(0)]
        left, right = source[a[0]], target[b[0]]
        while left != right:
            if left < right:
                a.append(sources.pop(0))
                left *= source[a[-1]]
            else:
                b.append(targets.pop(0))
                right *= target[b[-1]]
        groups.append((a, b))
    return groups
