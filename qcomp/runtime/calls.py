"""Runs of generated code from Python, in buffers whose addresses are bound once.

A set of buffers is used by one call at a time, so several threads may call at once; it is kept for
the next call. Besides them a call allocates its results only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from qcomp.runtime.interface import Array, Interface
from qcomp.targets.base import Entry, Memory, Rounded


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
        buffers = self._taken()
        try:
            with self._entry.sharing.among(threads):
                return buffers.run_floats(arrays)
        finally:
            self._free.append(buffers)

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
        arena = memory.allocated()
        self._run = entry.bound(inputs, outputs, arena)
        self._between = _between(entry, interface, inputs, outputs, arena)

    def run_floats(self, arrays: Sequence[Array]) -> list[Array]:
        """Numbers to real numbers, which are new arrays."""
        return self._between(arrays)

    def run_integers(self, arrays: Sequence[Array], results: Sequence[Array]) -> None:
        """The results are flat."""
        for buffer, array in zip(self._inputs, arrays, strict=True):
            buffer[...] = array
        self._run()
        for buffer, result in zip(self._outputs, results, strict=True):
            result[...] = buffer


def _between(
    entry: Entry,
    interface: Interface,
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    arena: Array,
) -> Callable[[Sequence[Array]], list[Array]]:
    """A run on these buffers from numbers to real numbers, by the code where it can round.

    Else they are rounded here, and so is what is more than rounded on its way in or out.
    """
    every = (*interface.inputs, *interface.outputs)
    if all(t.is_quantized and t.conversion is None and t.tail is None for t in every):
        tensors = [
            Rounded(np.empty(t.shape, np.float32), array, t.scale, t.zero_point)
            for t, array in zip(every, (*inputs, *outputs), strict=True)
        ]
        given, answers = tensors[: len(inputs)], tensors[len(inputs) :]
        run = entry.between_floats(given, answers, arena)
        if run is not None:
            return _with_copies(run, [t.real for t in given], [t.real for t in answers])
    bound = entry.bound(inputs, outputs, arena)

    def by_definition(arrays: Sequence[Array]) -> list[Array]:
        for buffer, integers in zip(inputs, interface.quantized(arrays), strict=True):
            buffer[...] = integers
        bound()
        return interface.dequantized([output.copy() for output in outputs])

    return by_definition


def _with_copies(
    run: Callable[[], None], given: Sequence[Array], answers: Sequence[Array]
) -> Callable[[Sequence[Array]], list[Array]]:
    def call(arrays: Sequence[Array]) -> list[Array]:
        for buffer, array in zip(given, arrays, strict=True):
            if array.dtype is buffer.dtype:
                buffer[...] = array
            else:
                with np.errstate(over="ignore"):  # to infinity, which saturates
                    np.copyto(buffer, array, casting="unsafe")
        run()
        return [answer.copy() for answer in answers]

    return call
