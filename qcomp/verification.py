"""Compare a saved library with the integer specification that is saved beside it.

Three kinds of samples: the stored test vectors (whose outputs are compared too), edge vectors, in
which every value is an extreme of its type or the zero point, and random ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.compiler import CompiledNetwork, TensorInfo, load
from qcomp.errors import CompileError

Array = NDArray[Any]
Arrays = tuple[Array, ...]
Progress = Callable[[int], None]

_BATCH = 8  # samples at a time, which bounds the memory of the specification
_SEED = 20


@dataclass(frozen=True)
class Difference:
    """What one batch of answers has against the expected ones."""

    values: int = 0
    differing_values: int = 0
    differing_bits: int = 0

    def __add__(self, other: Difference) -> Difference:
        return Difference(
            self.values + other.values,
            self.differing_values + other.differing_values,
            self.differing_bits + other.differing_bits,
        )


@dataclass(frozen=True)
class VerificationReport:
    """Counts over all samples; the library is right when no bit differs."""

    samples: int
    compared_values: int
    differing_values: int
    differing_bits: int
    first_difference: str | None

    @property
    def exact(self) -> bool:
        return self.differing_bits == 0


@dataclass(frozen=True)
class Batch:
    """Samples of one kind, and the stored answers where there are any."""

    kind: str
    inputs: Arrays
    stored: Arrays | None = None


def difference(ours: Array, expected: Array) -> Difference:
    """Compare two arrays bit for bit; a wrong shape or type is an error, not a difference."""
    if ours.shape != expected.shape or ours.dtype != expected.dtype:
        raise CompileError(
            f"expected {expected.dtype}{list(expected.shape)}, got {ours.dtype}{list(ours.shape)}"
        )
    a = np.ascontiguousarray(ours).reshape(-1)
    b = np.ascontiguousarray(expected).reshape(-1)
    bits = int(np.unpackbits(a.view(np.uint8) ^ b.view(np.uint8)).sum())
    return Difference(a.size, int(np.count_nonzero(a != b)), bits)


def verify_directory(
    directory: Path, samples: int = 32, progress: Progress | None = None
) -> VerificationReport:
    """Run the library of `directory` against its specification, on `samples` random vectors too."""
    net = load(directory)
    stored_inputs, stored_outputs = load_vectors(net, Path(directory))
    batches = [
        *_split(Batch("stored vector", stored_inputs, stored_outputs)),
        *_split(Batch("edge vector", edge_vectors(net.inputs, stored_inputs))),
        *random_batches(stored_inputs, samples),
    ]
    total, count, first = Difference(), 0, None
    for batch in batches:
        found = _compare(net, batch)
        if found.differing_bits and first is None:
            first = f"{batch.kind}: {found.differing_values} of {found.values} values differ"
        total += found
        count += len(batch.inputs[0])
        if progress is not None:
            progress(len(batch.inputs[0]))
    return VerificationReport(
        count, total.values, total.differing_values, total.differing_bits, first
    )


def _compare(net: CompiledNetwork, batch: Batch) -> Difference:
    ours = as_tuple(net.run_integer(as_argument(batch.inputs)))
    meaning = as_tuple(net.specification_integer(as_argument(batch.inputs)))
    total = Difference()
    for expected in (meaning, batch.stored):
        if expected is not None:
            for a, b in zip(ours, expected, strict=True):
                total += difference(a, b)
    return total


def load_vectors(net: CompiledNetwork, directory: Path) -> tuple[Arrays, Arrays]:
    """The stored inputs and outputs, each with a leading sample axis."""
    path = directory / f"{net.name}.vectors.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            inputs = tuple(stored[f"input_{i}"] for i in range(len(net.inputs)))
            outputs = tuple(stored[f"output_{i}"] for i in range(len(net.outputs)))
    except (KeyError, ValueError) as error:
        raise CompileError(f"{path} does not hold this network's vectors: {error}") from error
    return inputs, outputs


def edge_vectors(infos: Sequence[TensorInfo], like: Arrays) -> Arrays:
    """All-lowest, all-highest, all zero point, and three patterns of alternating extremes."""
    return tuple(_edges(info, x) for info, x in zip(infos, like, strict=True))


def _edges(info: TensorInfo, like: Array) -> Array:
    limits = np.iinfo(like.dtype)
    shape = like.shape[1:]
    index = np.arange(int(np.prod(shape))).reshape(shape)
    rows = sum(np.indices(shape)) if shape else index
    patterns = [
        np.full(shape, limits.min),
        np.full(shape, limits.max),
        np.full(shape, info.zero_point),
        np.where(index % 2 == 0, limits.min, limits.max),
        np.where(index % 2 == 0, limits.max, limits.min),
        np.where(np.asarray(rows) % 2 == 0, limits.min, limits.max),
    ]
    return np.stack(patterns).astype(like.dtype)


def random_batches(like: Arrays, samples: int) -> Iterator[Batch]:
    """Uniform values and, each second batch, extremes only; the same on each run."""
    rng = np.random.default_rng(_SEED)
    for number, start in enumerate(range(0, samples, _BATCH)):
        count = min(_BATCH, samples - start)
        draw = _uniform if number % 2 == 0 else _extremes
        yield Batch("random vector", tuple(draw(rng, x, count) for x in like))


def _uniform(rng: np.random.Generator, like: Array, count: int) -> Array:
    limits = np.iinfo(like.dtype)
    values = rng.integers(limits.min, limits.max, (count, *like.shape[1:]), endpoint=True)
    return values.astype(like.dtype)


def _extremes(rng: np.random.Generator, like: Array, count: int) -> Array:
    limits = np.iinfo(like.dtype)
    high = rng.random((count, *like.shape[1:])) < 0.5
    return np.where(high, limits.max, limits.min).astype(like.dtype)


def _split(batch: Batch) -> Iterator[Batch]:
    for start in range(0, len(batch.inputs[0]), _BATCH):
        part = slice(start, start + _BATCH)
        stored = None if batch.stored is None else tuple(y[part] for y in batch.stored)
        yield Batch(batch.kind, tuple(x[part] for x in batch.inputs), stored)


def as_argument(arrays: Arrays) -> Any:
    """What a network takes: the array where there is one, else a tuple in the model's order."""
    return arrays[0] if len(arrays) == 1 else arrays


def as_tuple(answer: Any) -> Arrays:
    """What a network gives, as a tuple in the model's order."""
    if isinstance(answer, dict):
        return tuple(answer.values())
    return answer if isinstance(answer, tuple) else (answer,)
