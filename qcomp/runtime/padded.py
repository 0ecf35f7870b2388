"""Calls with a length that no plan of a library has: padded to the next one, and cut again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcomp.ir.padding import Padding, fitting
from qcomp.runtime.interface import Array, Interface


@dataclass(frozen=True)
class Fitted:
    """The number of a plan, its arrays, and how many rows of its results count."""

    plan: int
    arrays: list[Array]
    length: int

    def cut(
        self, padding: Padding, outputs: Sequence[str], results: Sequence[Array]
    ) -> list[Array]:
        """Results without what the padding gives."""
        return [
            np.take(array, np.arange(self.length), padding.outputs[name])
            if name in padding.outputs
            else array
            for name, array in zip(outputs, results, strict=True)
        ]


def fitted(
    padding: Padding,
    lengths: Sequence[int],
    known: Interface,
    arrays: Sequence[Array],
    *,
    integers: bool,
) -> Fitted:
    """Arrays for the smallest plan that has room; ValueError for lengths that differ among inputs,
    or that no plan has room for. known: the interface of the largest.
    """
    given = {
        info.name: array.shape[padding.inputs[info.name][0]]
        for info, array in zip(known.inputs, arrays, strict=True)
        if info.name in padding.inputs and array.ndim == len(info.shape)
    }
    if len(set(given.values())) != 1:
        listed = ", ".join(f"{name} {list(a.shape)}" for name, a in _named(known, arrays))
        raise ValueError(f"expected inputs of one length, 1 to {max(lengths)}; got {listed}")
    length = next(iter(given.values()))
    size = fitting(length, lengths)
    whole = []
    for info, array in zip(known.inputs, arrays, strict=True):
        if info.name not in padding.inputs:
            whole.append(array)
            continue
        axis, value = padding.inputs[info.name]
        filler = info.quantized(np.full((), value, np.float32)) if integers else value
        widths = [(0, size - length if i == axis else 0) for i in range(array.ndim)]
        whole.append(np.pad(array, widths, constant_values=filler))
    return Fitted(list(lengths).index(size), whole, length)


def _named(known: Interface, arrays: Sequence[Array]) -> list[tuple[str, Array]]:
    return [(info.name, array) for info, array in zip(known.inputs, arrays, strict=True)]
