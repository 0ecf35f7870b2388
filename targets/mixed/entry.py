"""The parts of a graph in this process, called one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId
from qcomp.targets.base import Arrays, Entry, Rounded, Sharing
from qcomp.targets.mixed.plan import Plan, Step

Array = NDArray[Any]


@dataclass(frozen=True)
class MixedSharing:
    """Every part shares its work in the same way."""

    parts: tuple[Sharing, ...]

    @contextmanager
    def among(self, threads: int) -> Iterator[None]:
        with ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.among(threads))
            yield

    def register(self, function: int | None, user: int | None) -> None:
        for part in self.parts:
            part.register(function, user)


@dataclass(frozen=True)
class MixedEntry:
    """`entries` are those of the plan's steps, in order."""

    graph: Graph
    plan: Plan
    entries: Sequence[Entry]

    @property
    def sharing(self) -> MixedSharing:
        return MixedSharing(tuple(entry.sharing for entry in self.entries))

    def __call__(self, inputs: Arrays, outputs: Arrays, arena: NDArray[np.uint8]) -> None:
        """A tensor that is an output is read there by later parts."""
        results = list(self.graph.outputs.values())
        values = dict(zip(self.graph.inputs.values(), inputs, strict=True))
        for id, array in zip(results, outputs, strict=True):
            values.setdefault(id, array)
        for id, offset in self.plan.buffers.items():
            values[id] = self._buffer(id, arena[offset:])
        for step, entry in zip(self.plan.steps, self.entries, strict=True):
            _run(step, entry, values, arena)
        for id, array in zip(results, outputs, strict=True):
            if values[id] is not array:  # a second name of an output
                array[...] = values[id]

    def bound(
        self, inputs: Arrays, outputs: Arrays, arena: NDArray[np.uint8]
    ) -> Callable[[], None]:
        return partial(self, inputs, outputs, arena)

    def _buffer(self, id: TensorId, bytes_: NDArray[np.uint8]) -> Array:
        """The tensor at the beginning of these bytes."""
        type = self.graph.type(id)
        return bytes_[: type.bytes].view(type.dtype.numpy).reshape(type.shape)

    def between_floats(
        self, inputs: Sequence[Rounded], outputs: Sequence[Rounded], arena: NDArray[np.uint8]
    ) -> None:
        """The caller has to round."""

    def repeated(self, arrays: Arrays) -> Callable[[int], None]:
        *others, arena = arrays
        count = len(self.graph.inputs)

        def run(times: int) -> None:
            for _ in range(times):
                self(others[:count], others[count:], arena)

        return run

    def set_isa(self, number: int) -> bool:
        """Of the parts that have code for instruction sets, which are the same in each."""
        steps = zip(self.plan.steps, self.entries, strict=True)
        return all([entry.set_isa(number) for step, entry in steps if step.requires.features])


def _run(step: Step, entry: Entry, values: dict[TensorId, Array], arena: NDArray[np.uint8]) -> None:
    own = arena[step.arena : step.arena + step.memory.arena]
    entry([values[id] for id in step.inputs], [values[id] for id in step.outputs], own)
