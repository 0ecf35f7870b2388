"""Whether a length between two others may be padded, and with what: asked of the float network.

It runs at a length between, and at the next larger one that has a plan, on the same rows of samples
with padding behind them. Where each output is the same in these rows, the padding is excluded: by a
mask among the inputs, by one that follows from ids, or because later rows do not reach earlier
ones. Inputs are tried with 0, with 1 and with the least value that the samples have.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcomp.errors import CompileError
from qcomp.execute.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.padding import Padding
from qcomp.ir.tensor import Array, TensorId
from qcomp.lengths import Lengths

COMPARED = 4  # samples
_NEAR = 1e-4  # of the largest value of an output
_MOST_TRIALS = 32

Run = Mapping[str, Array]


@dataclass(frozen=True)
class Padded:
    """How a network is padded, or what keeps it from that."""

    padding: Padding | None = None
    notes: tuple[str, ...] = ()


def padding_of(
    lengths: Lengths, inside: Graph, taken_at: Callable[[int], Graph], samples: Sequence[Run]
) -> Padded:
    """taken_at: the float network at a length. inside: at the largest, which the samples are for,
    with what is done to inputs outside of it.
    """
    if not lengths:
        return Padded()
    between = _between(lengths)
    try:
        if not samples:
            raise CompileError("without calibration data nothing can be compared")
        taken, shorter = taken_at(lengths.largest), taken_at(between)
        inputs = _axes(lengths, taken, taken.inputs, shorter, shorter.inputs, between)
        outputs = _axes(lengths, taken, taken.outputs, shorter, shorter.outputs, between)
        if converted := [name for name in inputs if name in inside.conversions]:
            raise CompileError(f"{converted[0]} is converted on its way in")
        values = _found(taken, shorter, inputs, outputs, between, samples[:COMPARED])
    except CompileError as error:
        reason = str(error).splitlines()[0]
        note = f"{lengths.dimension} takes {lengths} only, and is not padded: {reason}"
        return Padded(notes=(note,))
    padding = Padding({n: (axis, values[n]) for n, axis in inputs.items()}, outputs)
    listed = ", ".join(f"{name} with {value:g}" for name, value in values.items())
    note = (
        f"{lengths.dimension} of 1 to {lengths.largest} is padded to the next of {lengths}: "
        f"{listed}, at which the float network does not look"
    )
    return Padded(padding, (note,))


def _between(lengths: Lengths) -> int:
    """A length that is none of them, as large as may be; 1 less than the smallest at least."""
    for n in range(lengths.largest - 1, 0, -1):
        if n not in lengths.sizes and 4 * n <= 3 * lengths.largest:
            return n
    return max(lengths.largest - 1, 1)


def _axes(
    lengths: Lengths,
    one: Graph,
    ids: Mapping[str, TensorId],
    other: Graph,
    others: Mapping[str, TensorId],
    length: int,
) -> dict[str, int]:
    """The axis of the length of each tensor that has one."""
    found = {}
    for name, id in ids.items():
        shapes = one.type(id).shape, other.type(others[name]).shape
        apart = [i for i, (a, b) in enumerate(zip(*shapes, strict=True)) if a != b]
        if not apart:
            continue
        (axis, *more) = apart
        if more or (shapes[0][axis], shapes[1][axis]) != (lengths.largest, length):
            raise CompileError(
                f"{name} is {list(shapes[0])} at {lengths.largest} and {list(shapes[1])} at "
                f"{length}; expected one axis that is the length"
            )
        found[name] = axis
    return found


def _found(
    taken: Graph,
    shorter: Graph,
    inputs: Mapping[str, int],
    outputs: Mapping[str, int],
    length: int,
    samples: Sequence[Run],
) -> dict[str, float]:
    """The first values at which nothing differs; CompileError with the least that does."""
    short, whole = FloatSession(shorter), FloatSession(taken)
    cut = [_cut(sample, inputs, length) for sample in samples]
    expected = [short.run(feed) for feed in cut]
    least: tuple[float, str] | None = None
    for values in itertools.islice(_choices(taken, inputs, samples), _MOST_TRIALS):
        padded = [_padded(taken, feed, inputs, values) for feed in cut]
        got = [_cut(whole.run(feed), outputs, length) for feed in padded]
        difference = max(
            (_difference(a[name], b[name]), name)
            for a, b in zip(expected, got, strict=True)
            for name in a
        )
        if difference[0] <= _NEAR:
            return values
        least = difference if least is None else min(least, difference)
    assert least is not None
    raise CompileError(
        f"the float network looks at rows of padding: {least[1]} differs by {least[0]:.2g} of its "
        "largest value; expected a mask among the inputs, 0 or 1 or least where there is nothing"
    )


def _choices(
    taken: Graph, inputs: Mapping[str, int], samples: Sequence[Run]
) -> Iterator[dict[str, float]]:
    """All zeros first."""
    each = []
    for name in inputs:
        least = min(float(sample[name].min()) for sample in samples)
        each.append(list(dict.fromkeys([0.0, 1.0, least])))
    return (dict(zip(inputs, values, strict=True)) for values in itertools.product(*each))


def _cut(run: Run, axes: Mapping[str, int], length: int) -> dict[str, Array]:
    return {
        name: np.take(array, np.arange(length), axes[name]) if name in axes else array
        for name, array in run.items()
    }


def _padded(
    taken: Graph, run: Run, axes: Mapping[str, int], values: Mapping[str, float]
) -> dict[str, Array]:
    whole = {}
    for name, array in run.items():
        shape = taken.type(taken.inputs[name]).shape
        whole[name] = np.full(shape, values.get(name, 0.0), array.dtype)
        whole[name][tuple(map(slice, array.shape))] = array
    return whole


def _difference(expected: Array, got: Array) -> float:
    largest = float(np.abs(expected).max()) or 1.0
    return float(np.abs(expected - got).max()) / largest
