"""Runs of generated code from Python, in buffers whose addresses are bound once.

A set of buffers is used by one call at a time, so several threads may call at once; it is kept for
the next call. Besides them a call allocates its results only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qcomp.runtime.interface import Array, Interface, TensorInfo
from qcomp.targets.base import Entry, Memory

Fill = Callable[[Any], None]


class Calls:
    """Of one network. `arrays` fit the interface, for any number of runs."""

    def __init__(self, entry: Entry, memory: Memory, interface: Interface) -> None:
        self._entry, self._memory, self._interface = entry, memory, interface
        self._free: list[_Buffers] = []

    def floats(self, arrays: Sequence[Array], runs: int, threads: int) -> list[Array]:
        """Real numbers in, real numbers out."""
        if runs > 1:  # rounding all of them at once is quicker
            q = self.integers(self._interface.quantized(arrays), runs, threads)
            return self._interface.dequantized(q)
        results = [np.empty(shape, info.real) for shape, info in self._interface.results(1)]
        buffers = self._taken()
        try:
            with self._entry.sharing.among(threads):
                buffers.run_floats(arrays, results)
        finally:
            self._free.append(buffers)
        return results

    def integers(self, arrays: Sequence[Array], runs: int, threads: int) -> list[Array]:
        """Integers in, integers out, of the types of inputs and outputs."""
        results = [np.empty(shape, info.dtype) for shape, info in self._interface.results(runs)]
        each = zip(*(result.reshape(runs, -1) for result in results), strict=True)
        buffers = self._taken()
        try:
            with self._entry.sharing.among(threads):
                for given, answers in zip(self._interface.parts(arrays, runs), each, strict=True):
                    buffers.run_integers(given, answers)
        finally:
            self._free.append(buffers)
        return results

    def _taken(self) -> _Buffers:
        """Buffers that no other call uses, until they are given back."""
        try:
            return self._free.pop()
        except IndexError:
            return _Buffers(self._entry, self._memory, self._interface)


class _Buffers:
    """Integers of the inputs and outputs and the arena, with the code bound to them."""

    def __init__(self, entry: Entry, memory: Memory, interface: Interface) -> None:
        inputs = [np.empty(info.shape, info.dtype) for info in interface.inputs]
        outputs = [np.empty(info.shape, info.dtype) for info in interface.outputs]
        self._inputs, self._outputs = inputs, [output.reshape(-1) for output in outputs]
        self._fill = [_filling(*both) for both in zip(interface.inputs, inputs, strict=True)]
        self._read = [_reading(*both) for both in zip(interface.outputs, outputs, strict=True)]
        self._run = entry.bound(inputs, outputs, memory.allocated())

    def run_floats(self, arrays: Sequence[Array], results: Sequence[Array]) -> None:
        for fill, array in zip(self._fill, arrays, strict=True):
            fill(array)
        self._run()
        for read, result in zip(self._read, results, strict=True):
            read(result)

    def run_integers(self, arrays: Sequence[Array], results: Sequence[Array]) -> None:
        """The results are flat."""
        for buffer, array in zip(self._inputs, arrays, strict=True):
            buffer[...] = array
        self._run()
        for buffer, result in zip(self._outputs, results, strict=True):
            result[...] = buffer


def _filling(info: TensorInfo, integers: Array) -> Fill:
    """A function that rounds an array of numbers into the buffer, as `info.quantized` does.

    In float32: from 2^23 on, where the zero point may be rounded away, steps saturate anyway.
    """
    if info.conversion is not None or not info.is_quantized:

        def fill_by_definition(array: Array) -> None:
            with np.errstate(over="ignore"):
                integers[...] = info.quantized(array.astype(np.float32))

        return fill_by_definition
    scale, zero_point = np.float32(info.scale), np.float32(info.zero_point)
    least, most = map(np.float32, info.limits)
    steps = np.empty(info.shape, np.float32)
    flat = steps.reshape(-1)

    def fill(array: Array) -> None:
        with np.errstate(over="ignore"):  # to infinity, which saturates
            np.divide(array, scale, out=steps, dtype=np.float32, casting="unsafe")
        np.rint(steps, out=steps)
        np.add(steps, zero_point, out=steps)
        np.maximum(steps, least, out=steps)
        np.minimum(steps, most, out=steps)
        if math.isnan(flat.dot(flat)):
            np.copyto(steps, zero_point, where=np.isnan(steps))
        np.copyto(integers, steps, casting="unsafe")

    return fill


def _reading(info: TensorInfo, integers: Array) -> Fill:
    """A function that writes the buffer's numbers into an array, as `info.dequantized` has them."""
    if info.conversion is not None or info.tail is not None or not info.is_quantized:

        def read_by_definition(result: Array) -> None:
            result[...] = info.dequantized(integers)

        return read_by_definition
    scale, zero_point = np.float32(info.scale), np.float32(info.zero_point)

    def read(result: Array) -> None:
        np.subtract(integers, zero_point, out=result, dtype=np.float32)
        np.multiply(result, scale, out=result)

    return read
