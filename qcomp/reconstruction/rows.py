"""The data that a layer is fitted on: some rows of its matrix product, quantized and float.

A convolution is a matrix product of windows with kernels. A row is one window: what the layer reads
at one output position of one sample, as the quantized network gives it, and beside it the result of
the float network there, before its activation function. Positions are chosen at random, the same on
each run, as many from each sample, so memory does not depend on the size of the images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qcomp.calibration.sampled import Positions
from qcomp.execute.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.ops import NO_CLAMP, Clamp, Conv2d, Weighted
from qcomp.ir.region import with_outputs
from qcomp.ir.tensor import TensorId
from qcomp.quant.qparams import QParams
from qcomp.reconstruction.prefix import Samples

F32 = NDArray[np.float32]

_BLOCK = 1 << 24  # bytes of rows
_SUMMED = 1024  # rows that float32 sums well


@dataclass(frozen=True, eq=False)
class Read:
    """What a layer reads in one sample."""

    integers: NDArray[np.integer]
    qparams: QParams


@dataclass(frozen=True, eq=False)
class Rows:
    """`x` [G, R, K] is read by the kernels of G groups; `target` [G, R, O / G] should come out."""

    x: F32
    target: F32


def row_means(x: F32) -> NDArray[np.float64]:
    """The mean row [G, C] of rows [G, R, C]: products with ones, some rows at a time, sum them
    five times as fast as numpy does in float64.
    """
    total = np.zeros((x.shape[0], x.shape[2]))
    for first in range(0, x.shape[1], _SUMMED):
        block = x[:, first : first + _SUMMED]
        total += np.matmul(np.ones((1, block.shape[1]), np.float32), block)[:, 0]
    return np.asarray(total / max(x.shape[1], 1))


def window_pixels(
    layer: Weighted, kernel: tuple[int, ...], place: Positions, inputs: Iterable[Read]
) -> Iterator[tuple[NDArray[np.integer], QParams]]:
    """What a layer reads for its results at these positions, [R, KH * KW, C] each, of as many
    samples as make a product worth its call.

    `kernel` is the weight's shape. Padding is zeros.
    """
    size = 4 * layer.groups * math.prod(kernel[1:]) * max(len(place.of(0)), 1)
    samples, reads = itertools.count(), iter(inputs)
    while block := list(itertools.islice(reads, max(-(-_BLOCK // size), 1))):
        at = np.stack([place.of(i) for i in itertools.islice(samples, len(block))])
        yield _pixels(layer, kernel, block, at), block[0].qparams


def floats_by_group(
    pixels: NDArray[np.integer], qparams: QParams, groups: int, out: F32 | None = None
) -> F32:
    """Rows [G, R, K] of what was read, [R, KH * KW, C], as `dequantize` has it."""
    count, taps, channels = pixels.shape
    depth = channels // groups
    x = np.empty((groups, count, taps * depth), np.float32) if out is None else out
    apart = x.reshape(groups, count, taps, depth)  # a view: only the last axis is split
    apart[...] = pixels.reshape(count, taps, groups, depth).transpose(2, 0, 1, 3)
    x -= np.float32(qparams.zero_point)
    x *= np.float32(qparams.scale)
    return x


def _pixels(
    layer: Weighted, kernel: tuple[int, ...], reads: Sequence[Read], at: NDArray[np.int64]
) -> NDArray[np.integer]:
    """Of some samples at flat result positions [S, P]: [S * P, KH * KW, C]."""
    values = [read.integers for read in reads]
    if not isinstance(layer, Conv2d):
        rows = [x.reshape(-1, x.shape[-1])[i] for x, i in zip(values, at, strict=True)]
        return np.concatenate(rows)[:, None]
    _, kh, kw, _ = kernel
    (sh, sw), (dh, dw), (top, left, bottom, right) = layer.stride, layer.dilation, layer.padding
    images, height, width, channels = values[0].shape
    results = (top + height + bottom - (kh - 1) * dh - 1) // sh + 1
    columns = (left + width + right - (kw - 1) * dw - 1) // sw + 1
    n, oy, ox = np.unravel_index(at[..., None, None], (images, results, columns))
    y = oy * sh + np.arange(kh)[:, None] * dh - top  # [S, P, KH, 1]
    x = ox * sw + np.arange(kw) * dw - left  # [S, P, 1, KW]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    place = zip(values, n, y * inside, x * inside, strict=True)
    taken = np.concatenate([value[tuple(i)] for value, *i in place])  # [S * P, KH, KW, C]
    if not inside.all():
        taken[~inside.reshape(taken.shape[:3])] = reads[0].qparams.zero_point
    return taken.reshape(len(taken), kh * kw, channels)


def float_results(
    graph: Graph, layers: Sequence[Weighted], places: Mapping[TensorId, Positions], samples: Samples
) -> dict[TensorId, F32]:
    """The layers' results before their activation functions in a float graph, [R, O] by layer."""
    bare, results = _without_clamps(graph, layers)
    session = FloatSession(bare)
    rows: dict[TensorId, list[F32]] = {layer.id: [] for layer in layers}
    for i, sample in enumerate(samples):
        values = session.run({id: sample[name] for name, id in graph.inputs.items()})
        for layer in layers:
            value = values[results[layer.id]]
            rows[layer.id].append(value.reshape(-1, value.shape[-1])[places[layer.id].of(i)])
    return {id: np.concatenate(parts) for id, parts in rows.items()}


def _without_clamps(
    graph: Graph, layers: Sequence[Weighted]
) -> tuple[Graph, dict[TensorId, TensorId]]:
    """A graph whose outputs are the layers' unclamped results, and their ids by layer."""
    bare = graph.clone()
    results: dict[TensorId, TensorId] = {}
    for layer in layers:
        op = bare.op(layer.id)
        assert isinstance(op, Weighted)
        results[layer.id] = bare.add_op(
            replace(op, output=bare.fresh_id(f"{op.id}.raw"), clamp=NO_CLAMP)
        )
        bare.replace_op(Clamp(inputs=(results[layer.id],), output=op.id, clamp=op.clamp))
    return with_outputs(bare, results.values()), results


def layer_rows(
    layer: Weighted,
    kernel: tuple[int, ...],
    place: Positions,
    inputs: Iterable[Read],
    results: F32,
) -> Rows:
    """The rows of a layer from its operand in each sample and its float results [R, O]."""
    groups = layer.groups
    x = np.empty((groups, len(results), math.prod(kernel[1:])), np.float32)
    first = 0
    for pixels, qparams in window_pixels(layer, kernel, place, inputs):
        floats_by_group(pixels, qparams, groups, x[:, first : first + len(pixels)])
        first += len(pixels)
    targets = results.reshape(len(results), groups, -1).transpose(1, 0, 2)
    return Rows(x, np.ascontiguousarray(targets))
