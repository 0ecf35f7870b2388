"""Which plan of a library of several lengths takes some arrays."""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.runtime.interface import Array, Interface


def plan_of(interfaces: Sequence[Interface], arrays: Sequence[Array]) -> int:
    """The number of the one whose inputs have the shapes of the arrays; ValueError names them all.

    The first axis may hold any multiple of the model's batch, unless the length is that axis.
    """
    first = [tuple(info.shape[:1] for info in known.inputs) for known in interfaces]
    for number, known in enumerate(interfaces):
        if [array.shape for array in arrays] == [info.shape for info in known.inputs]:
            return number
    if all(batch == first[0] for batch in first):
        for number, known in enumerate(interfaces):
            try:
                known.runs(arrays)
            except ValueError:
                continue
            return number
    accepted = "; ".join(_shapes(known) for known in interfaces)
    got = ", ".join(str(list(array.shape)) for array in arrays)
    raise ValueError(f"expected inputs of one of the lengths, {accepted}; got {got}")


def _shapes(known: Interface) -> str:
    return ", ".join(f"{info.name} {list(info.shape)}" for info in known.inputs)
