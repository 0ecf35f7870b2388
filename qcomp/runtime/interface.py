"""The inputs and outputs of the integer code, and the arrays that are given for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.index_bounds import IndexBounds, index_bounds
from qcomp.quant.conversion import Conversion, dequantize_real, quantize_real
from qcomp.quant.qparams import INTEGERS, QParams, dequantize, quantize
from qcomp.quant.tail import Tail

Array = NDArray[Any]
Answers = Array | Sequence[Array] | Mapping[str, Array]
Arrays = ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]

_FLOAT32 = np.dtype(np.float32)  # numpy has one such object


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the integer code, in the model's own layout.

    Its integers are in steps of `scale`; `conversion` is what stands between these values and the
    caller's, if anything does, and `tail` the function that comes last. `bounds` are those of
    indices of the rows of tables.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int
    bytes: int
    conversion: Conversion | None
    tail: Tail | None = None
    bounds: IndexBounds | None = None

    @property
    def is_quantized(self) -> bool:
        """Whether it stands for real numbers: int8 or int16, not the int32 of an index."""
        return np.dtype(self.dtype) in (INTEGERS[8], INTEGERS[16])

    @cached_property
    def real(self) -> str:
        """The type of its values in the caller's units."""
        return "float32" if self.is_quantized else self.dtype

    @property
    def c_type(self) -> str:
        """The type of its integers in C."""
        return f"{self.dtype}_t"

    @property
    def size(self) -> int:
        """How many integers it has."""
        return math.prod(self.shape)

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest value of its type."""
        limits = np.iinfo(self.dtype)
        return int(limits.min), int(limits.max)

    @property
    def qparams(self) -> QParams:
        return QParams(self.scale, self.zero_point, *self.limits)

    def within(self, integers: Array) -> Array:
        """The nearest integers that the code accepts, of one run."""
        if self.bounds is None:
            return integers
        return np.clip(integers, self.bounds.low, self.bounds.high).astype(self.dtype)

    def expect_rows(self, integers: Array) -> None:
        """ValueError for an index that is none, in any of several runs."""
        if self.bounds is None:
            return
        each = integers.reshape(-1, *self.shape)
        low, high = self.bounds.low, self.bounds.high
        if (wrong := np.argwhere((each < low) | (each > high))).size:
            run, *place = map(int, wrong[0])
            where = tuple(place)
            got, *accepted = (
                int(q) - self.zero_point for q in (each[(run, *where)], low[where], high[where])
            )
            raise ValueError(
                f"input {self.name}: {got} at {list(where)} is no row of the table that it is an "
                f"index of, or no length; expected {accepted[0]} to {accepted[1]}"
            )

    def quantized(self, real: Array) -> Array:
        """The integers of an input in the caller's units."""
        if self.conversion is None:
            return quantize(real, self.qparams)
        return quantize_real(real, self.qparams, self.conversion)

    def dequantized(self, integers: Array) -> Array:
        """An output in the caller's units."""
        if not self.is_quantized:
            return integers
        if self.conversion is None:
            real = dequantize(integers, self.qparams)
        else:
            real = dequantize_real(integers, self.qparams, self.conversion)
        return real if self.tail is None else self.tail(real)


def describe_tensors(graph: Graph, tensors: Mapping[str, str]) -> tuple[TensorInfo, ...]:
    """Infos of a graph's inputs or outputs."""
    infos, bounds = [], index_bounds(graph)
    for name, id in tensors.items():
        type, q = graph.type(id), graph.tensor(id).qparams
        scale, zero_point = (q.scale, q.zero_point) if q else (1.0, 0)
        infos.append(
            TensorInfo(
                name,
                type.shape,
                str(type.dtype.numpy),
                scale,
                zero_point,
                type.bytes,
                graph.conversions.get(name),
                graph.tails.get(name),
                bounds.get(id),
            )
        )
    return tuple(infos)


@dataclass(frozen=True)
class Interface:
    """Inputs and outputs together: what arrays are taken for them, and how many runs they hold.

    The first axis of every input may hold any multiple of the model's batch.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    @staticmethod
    def of(graph: Graph) -> Interface:
        return Interface(
            describe_tensors(graph, graph.inputs), describe_tensors(graph, graph.outputs)
        )

    @cached_property
    def _shapes(self) -> list[tuple[int, ...]]:
        return [info.shape for info in self.inputs]

    @cached_property
    def _one_run(self) -> list[tuple[tuple[int, ...], TensorInfo]]:
        return [(info.shape, info) for info in self.outputs]

    def is_one_run(self, x: Any) -> TypeGuard[Array]:
        """Whether it is the float32 array of the only input, for one run: most calls are such."""
        return (
            type(x) is np.ndarray
            and x.dtype is _FLOAT32
            and len(self._shapes) == 1
            and self.inputs[0].bounds is None
            and x.shape == self._shapes[0]
        )

    def arrays(self, x: Arrays) -> list[Array]:
        """In the model's order; ValueError for others than the inputs."""
        if isinstance(x, np.ndarray) and len(self.inputs) == 1:
            return [x]
        if isinstance(x, Mapping):
            names = [i.name for i in self.inputs]
            if set(x) != set(names):
                raise ValueError(f"expected the inputs {names}, got {list(x)}")
            return [np.asarray(x[n]) for n in names]
        is_one = hasattr(x, "__array__") or np.isscalar(x) or not isinstance(x, Iterable)
        arrays: list[Any] = [x] if is_one else list(x)  # type: ignore[arg-type]
        if len(arrays) != len(self.inputs):
            names = [i.name for i in self.inputs]
            raise ValueError(f"expected {len(names)} inputs {names}, got {len(arrays)}")
        return [np.asarray(a) for a in arrays]

    def expect_numbers(self, arrays: Sequence[Array]) -> None:
        """ValueError for what can't be rounded to integers."""
        for array, info in zip(arrays, self.inputs, strict=True):
            if array.dtype.kind not in "fiub":
                raise ValueError(f"input {info.name}: expected numbers, got {array.dtype}")

    def quantized(self, arrays: Sequence[Array]) -> list[Array]:
        """Numbers in the caller's units as integers of the inputs."""
        both = zip(arrays, self.inputs, strict=True)
        with np.errstate(over="ignore"):
            return [info.quantized(array.astype(np.float32)) for array, info in both]

    def dequantized(self, integers: Sequence[Array]) -> list[Array]:
        """Integers of the outputs in the caller's units."""
        both = zip(integers, self.outputs, strict=True)
        return [info.dequantized(array) for array, info in both]

    def expect_integers(self, arrays: Sequence[Array]) -> None:
        """ValueError for other types than the inputs'."""
        for array, info in zip(arrays, self.inputs, strict=True):
            if array.dtype != info.dtype:
                raise ValueError(f"input {info.name}: expected {info.dtype}, got {array.dtype}")

    def expect_rows(self, integers: Sequence[Array]) -> None:
        """ValueError for indices of rows that no table has; shapes are the inputs'."""
        for array, info in zip(integers, self.inputs, strict=True):
            info.expect_rows(array)

    def runs(self, arrays: Sequence[Array]) -> int:
        """How many runs the arrays hold; ValueError where shapes do not fit."""
        if self.inputs and [array.shape for array in arrays] == self._shapes:
            return 1
        counts = {_runs(a, info) for a, info in zip(arrays, self.inputs, strict=True)}
        if len(counts) != 1:
            raise ValueError(f"inputs hold different numbers of samples: {sorted(counts)} runs")
        return counts.pop()

    def parts(self, arrays: Sequence[Array], runs: int) -> Iterator[list[Array]]:
        """The inputs of each run."""
        sizes = [info.shape[0] if info.shape else None for info in self.inputs]
        both = list(zip(arrays, sizes, strict=True))
        for i in range(runs):
            yield [a if n is None else a[i * n : (i + 1) * n] for a, n in both]

    def results(self, runs: int) -> list[tuple[tuple[int, ...], TensorInfo]]:
        """The shapes of all runs' outputs: one behind the other where these count samples too."""
        if runs == 1:
            return self._one_run
        batch = self.inputs[0].shape[:1] if self.inputs else ()
        return [(_joined(info.shape, batch, runs), info) for info in self.outputs]

    def like(self, x: Arrays, arrays: Sequence[Array], infos: Sequence[TensorInfo]) -> Any:
        """A dict where `x` is one; else an array, or a tuple of several."""
        if not isinstance(x, np.ndarray) and isinstance(x, Mapping):
            return {info.name: array for info, array in zip(infos, arrays, strict=True)}
        return arrays[0] if len(arrays) == 1 else tuple(arrays)


def _runs(array: Array, info: TensorInfo) -> int:
    wanted = f"input {info.name}: expected [{', '.join(map(str, info.shape))}]"
    if array.ndim != len(info.shape) or array.shape[1:] != info.shape[1:]:
        raise ValueError(f"{wanted} with any multiple of samples, got {list(array.shape)}")
    if info.shape and (array.shape[0] == 0 or array.shape[0] % info.shape[0]):
        raise ValueError(f"{wanted}, {array.shape[0]} samples are no multiple of {info.shape[0]}")
    return array.shape[0] // info.shape[0] if info.shape else 1


def _joined(shape: tuple[int, ...], batch: tuple[int, ...], runs: int) -> tuple[int, ...]:
    return (runs * shape[0], *shape[1:]) if batch and shape[:1] == batch else (runs, *shape)
