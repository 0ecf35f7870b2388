"""What differs between the code of two networks: by which kernels, and in which bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qcomp.debug.change import Change, changed
from qcomp.runtime.network import CompiledNetwork
from qcomp.targets.layout import Held, Layout

_WITHIN = "computed in another op's"


def layouts(a: CompiledNetwork, b: CompiledNetwork) -> tuple[Layout, Layout] | None:
    """Of the most able instruction set that both have, else of each one's; None where nothing is
    known of one.
    """
    mine, theirs = (
        {one.isa: one for one in net.runtime.layouts(net.artifact, net.graph)} for net in (a, b)
    )
    if not mine or not theirs:
        return None
    common = [isa for isa in mine if isa in theirs]
    first, second = (common[-1], common[-1]) if common else (list(mine)[-1], list(theirs)[-1])
    return mine[first], theirs[second]


def kernels(a: Layout, b: Layout) -> Iterator[Change]:
    """Of ops that both have, those that other kernels compute."""
    mine, theirs = ({step.op: step for step in layout.steps} for layout in (a, b))
    for op in dict.fromkeys((*mine, *theirs)):
        told = [
            ", ".join(of[op].kernels) or "a view" if op in of else _WITHIN for of in (mine, theirs)
        ]
        yield from changed(op, {"kernels": told[0]}, {"kernels": told[1]})


def memory(a: Layout, b: Layout) -> Iterator[Change]:
    """Sizes of the arena, when it is fullest, and of what both hold in it."""
    yield from changed("arena", _arena(a), _arena(b))
    mine, theirs = ({held.name: held.bytes for held in layout.held} for layout in (a, b))
    for name in mine:
        if name in theirs:
            yield from changed(name, {"bytes": mine[name]}, {"bytes": theirs[name]})


def _arena(layout: Layout) -> Mapping[str, Any]:
    bytes, step = max(((_at(layout.held, n), -n) for n in range(_last(layout) + 1)), default=(0, 0))
    return {"bytes": layout.arena, "most that is held at once": f"{bytes} (step {-step})"}


def _at(held: tuple[Held, ...], step: int) -> int:
    return sum(one.bytes for one in held if one.first <= step <= one.last)


def _last(layout: Layout) -> int:
    return max((one.last for one in layout.held), default=0)
