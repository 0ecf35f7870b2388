"""Operators that move integers, as steps on the way to a result: all have the parameters of x."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qcomp.exporters.tflite.writer import Writer
from qcomp.quant.qparams import QParams


def reshaped(w: Writer, x: int, shape: Sequence[int], q: QParams) -> int:
    return w.through(
        "RESHAPE", x, shape, q, w.numbers(shape), table="ReshapeOptions", new_shape=list(shape)
    )


def sliced(
    w: Writer,
    x: int,
    starts: Sequence[int],
    sizes: Sequence[int],
    steps: Sequence[int],
    q: QParams,
) -> int:
    """`sizes` elements from `starts`; an end before the first element is left open."""
    ends = [a + n * s for a, n, s in zip(starts, sizes, steps, strict=True)]
    open_ends = sum(1 << axis for axis, end in enumerate(ends) if end < 0)
    operands = [w.numbers(starts), w.numbers([max(end, 0) for end in ends]), w.numbers(steps)]
    return w.through(
        "STRIDED_SLICE",
        x,
        sizes,
        q,
        *operands,
        table="StridedSliceOptions",
        end_mask=open_ends,
    )


def gathered(
    w: Writer, x: int, shape: Sequence[int], axis: int, indices: NDArray[np.integer], q: QParams
) -> int:
    """The elements of x, of this shape, at constant indices along an axis."""
    grown = [*shape[:axis], indices.size, *shape[axis + 1 :]]
    return w.through("GATHER", x, grown, q, w.numbers(indices), table="GatherOptions", axis=axis)


def transposed(w: Writer, x: int, shape: Sequence[int], order: Sequence[int], q: QParams) -> int:
    return w.through("TRANSPOSE", x, [shape[i] for i in order], q, w.numbers(order))


def looked_up(
    w: Writer,
    x: int,
    shape: Sequence[int],
    bits: int,
    table: int,
    result: Sequence[int],
    q: QParams,
) -> int:
    """Rows of a constant table, one for each integer of x, from the least one on."""
    index = w.tensor(f"index.{len(w.tensors)}", shape, np.int32, None)
    w.emit("CAST", [x], [index])
    row = w.tensor(f"row.{len(w.tensors)}", shape, np.int32, None)
    first = w.numbers(np.array(1 << (bits - 1)))
    w.emit("ADD", [index, first], [row], table="AddOptions")
    y = w.activation(f"lookup.{len(w.tensors)}", result, q)
    w.emit("GATHER", [table, row], [y], bits=q.bits, table="GatherOptions")
    return y
