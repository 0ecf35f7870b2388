"""Arrays as runs of a graph: cut into its batches, or gathered to them, converted and checked.

An array holds a whole number of the graph's batches along its first axis, or one sample without
that axis. Where it holds another number of samples, they wait for those of the next ones; what is
left at the end makes no run, which is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qcomp.errors import CalibrationError
from qcomp.ir.tensor import Array, DType, TensorType

Inputs = Mapping[str, TensorType]
Run = dict[str, Array]
Tell = Callable[[str], None]


class Stored(Protocol):
    """An array that may still be in a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def parts(self, count: int) -> Iterator[NDArray[Any]]:
        """`count` equal parts along the first axis; the whole array if count is 1."""
        ...


@dataclass(frozen=True, eq=False)
class InMemory:
    """An array as the caller gave it."""

    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def parts(self, count: int) -> Iterator[NDArray[Any]]:
        yield from np.split(self.array, count) if count > 1 else [self.array]


@dataclass(eq=False)
class Runs:
    """What items become, one after the other; `waiting` are samples that fill no batch yet, and
    `items` counts those that were begun.
    """

    inputs: Inputs
    waiting: list[Run] = field(default_factory=list)
    given: bool = False
    items: int = 0

    def of(self, where: str, arrays: Mapping[str, Stored]) -> Iterator[Run]:
        """The runs that one item or file makes full; CalibrationError for what does not fit."""
        self.items += 1
        for name, type in self.inputs.items():
            _check_type(f"{where}, input {name}", arrays[name], type)
        counts = {n: run_count(arrays[n].shape, type) for n, type in self.inputs.items()}
        singles = self._singles(arrays)
        if singles and (self.waiting or not all(counts.values())):
            for sample in self._samples(where, arrays, singles):
                self.waiting.append(sample)
                if len(self.waiting) == self.batch:
                    yield self._gathered()
            return
        for name, type in self.inputs.items():
            _check_shape(f"{where}, input {name}", arrays[name].shape, type)
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise CalibrationError(f"{where}: inputs differ in their number of batches: {listed}")
        parts = [arrays[name].parts(count) for name, count in counts.items()]
        for i, run in enumerate(zip(*parts, strict=True)):
            self.given = True
            yield {
                name: converted(f"{where}, input {name}, batch {i}", part, type, type.shape)
                for (name, type), part in zip(self.inputs.items(), run, strict=True)
            }

    def end(self, tell: Tell) -> None:
        """Tell of samples that are left over; CalibrationError where no run was filled."""
        if self.waiting and not self.given:
            raise CalibrationError(
                f"calibration data has {counted(len(self.waiting), 'sample')}; a run of the graph "
                f"takes {self.batch}"
            )
        if self.waiting:
            count = counted(len(self.waiting), "sample")
            tell(f"the last {count} left out: a run takes {self.batch}")

    @property
    def batch(self) -> int:
        return batch_of(self.inputs)

    def _singles(self, arrays: Mapping[str, Stored]) -> int:
        """How many samples the arrays hold, where they may be gathered; else 0."""
        if self.batch < 2:
            return 0
        counts = {sample_count(arrays[n].shape, type) for n, type in self.inputs.items()}
        return counts.pop() if len(counts) == 1 else 0

    def _samples(self, where: str, arrays: Mapping[str, Stored], count: int) -> Iterator[Run]:
        parts = [arrays[name].parts(count) for name in self.inputs]
        for i, sample in enumerate(zip(*parts, strict=True)):
            yield {
                name: converted(
                    f"{where}, input {name}, sample {i}", part, type, (1, *type.shape[1:])
                )
                for (name, type), part in zip(self.inputs.items(), sample, strict=True)
            }

    def _gathered(self) -> Run:
        self.given = True
        run = {name: np.concatenate([w[name] for w in self.waiting]) for name in self.inputs}
        self.waiting.clear()
        return run


def batch_of(inputs: Inputs) -> int:
    """Samples of a run, where all inputs agree in it; else 1."""
    batches = {t.shape[0] if t.rank > 1 else 1 for t in inputs.values()}
    return max(batches.pop(), 1) if len(batches) == 1 else 1


def run_count(shape: tuple[int, ...], type: TensorType) -> int:
    """How many runs an array of this shape holds; 0 if it does not fit."""
    if shape == type.shape:
        return 1
    if not type.shape or type.shape[0] == 0:
        return 0
    batch, *sample = type.shape
    if batch == 1 and shape == tuple(sample):
        return 1
    if shape[1:] == tuple(sample) and len(shape) == type.rank and shape[0] % batch == 0:
        return shape[0] // batch
    return 0


def sample_count(shape: tuple[int, ...], type: TensorType) -> int:
    """How many samples an array of this shape holds; 0 if it does not fit."""
    sample = type.shape[1:]
    if len(shape) == type.rank and shape[1:] == sample:
        return shape[0]
    return 1 if shape == sample else 0


def _check_type(where: str, array: Stored, type: TensorType) -> None:
    accepted = (
        array.dtype.kind in "fiub" if type.dtype is DType.F32 else array.dtype == type.dtype.numpy
    )
    if not accepted:
        wanted = "floats or integers" if type.dtype is DType.F32 else type.dtype.value
        raise CalibrationError(f"{where}: element type {array.dtype}; expected {wanted}")
    if 0 in array.shape:
        raise CalibrationError(f"{where}: shape {array.shape} is empty; expected {_shapes(type)}")


def _check_shape(where: str, shape: tuple[int, ...], type: TensorType) -> None:
    if run_count(shape, type) == 0:
        hint = layout_hint(shape, type) or _labels_hint(shape, type)
        raise CalibrationError(f"{where}: shape {shape}; expected {_shapes(type)}{hint}")


_ORDERS: Mapping[int, tuple[tuple[tuple[int, ...], str], ...]] = {
    4: (((0, 3, 1, 2), "NHWC"), ((0, 2, 3, 1), "NCHW")),
    3: (((2, 0, 1), "HWC"), ((1, 2, 0), "CHW")),
}
"""Of images that have another layout, by rank: the transposition, and what they have."""


def layout_hint(shape: tuple[int, ...], type: TensorType) -> str:
    """How to transpose images that come in the other of NHWC and NCHW."""
    for order, name in _ORDERS.get(len(shape), ()):
        moved = tuple(shape[axis] for axis in order)
        if run_count(moved, type) or sample_count(moved, type):
            return f"; images of another layout, {name}: transpose{order} them"
    return ""


def _labels_hint(shape: tuple[int, ...], type: TensorType) -> str:
    """Of one number for each sample, where the network takes more."""
    is_one_each = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
    if not is_one_each or type.rank < 2:
        return ""
    return "; one number for each sample, as labels are: give the network's inputs"


def _shapes(type: TensorType) -> str:
    if not type.shape:
        return "a single number ()"
    batch, *sample = type.shape
    rest = "".join(f", {extent}" for extent in sample)
    if batch == 1:
        return f"(N{rest}) or one sample {tuple(sample)}"
    return f"(N{rest}) with N a multiple of {batch}, or samples {tuple(sample)} to gather"


def converted(where: str, part: NDArray[Any], type: TensorType, shape: Sequence[int]) -> Array:
    """Of the graph's element type; CalibrationError for what is not finite then."""
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(part, type.dtype.numpy).reshape(tuple(shape))
    if type.dtype is DType.F32 and not (array < np.inf).all():
        raise CalibrationError(
            f"{where}: NaN or infinity as f32; expected finite numbers, or -inf in masks"
        )
    return array


def counted(count: int, what: str) -> str:
    """`1 sample`, `2 samples`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
