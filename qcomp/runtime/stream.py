"""A network that is run step by step, its states kept in integers between the steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qcomp.errors import CompileError
from qcomp.ir.graph import Graph
from qcomp.runtime.calls import Calls
from qcomp.runtime.interface import Array, Interface


class Stream:
    """One sequence. A call takes the inputs that are no states, floats by name or, of one, as it
    is, and gives the outputs that are none in the same form.
    """

    def __init__(self, graph: Graph, interface: Interface, calls: Calls) -> None:
        if not graph.states:
            raise CompileError(
                f"{graph.name} has no states; compile it with states={{input: output}}"
            )
        self._interface, self._calls, self._from = interface, calls, dict(graph.states)
        self._outputs = [o for o in interface.outputs if o.name not in self._from.values()]
        self._inputs = [i for i in interface.inputs if i.name not in self._from]
        self.reset()

    def reset(self) -> None:
        """All states are 0, as at the beginning."""
        self._states = {
            info.name: np.full(info.shape, info.zero_point, info.dtype)
            for info in self._interface.inputs
            if info.name in self._from
        }

    @property
    def states(self) -> Mapping[str, Array]:
        """The integers that the next step begins with, by input."""
        return dict(self._states)

    def __call__(self, x: Mapping[str, Any] | Any) -> Any:
        given = x if isinstance(x, Mapping) else {self._only(): x}
        wanted = sorted(info.name for info in self._inputs)
        if sorted(given) != wanted:
            raise ValueError(f"expected the inputs {', '.join(wanted)}; got {', '.join(given)}")
        integers = dict(self._states)
        for info in self._inputs:
            array = np.asarray(given[info.name])
            if array.shape != info.shape:
                raise ValueError(f"input {info.name} has the shape {array.shape}, not {info.shape}")
            integers[info.name] = info.quantized(array.astype(np.float32))
        arrays = [integers[info.name] for info in self._interface.inputs]
        results = self._calls.integers(arrays, 1, 1)
        found = {o.name: r for o, r in zip(self._interface.outputs, results, strict=True)}
        self._states = {name: found[output] for name, output in self._from.items()}
        answers = {o.name: o.dequantized(found[o.name]) for o in self._outputs}
        if isinstance(x, Mapping):
            return answers
        values = tuple(answers.values())
        return values[0] if len(values) == 1 else values

    def _only(self) -> str:
        if len(self._inputs) != 1:
            names = ", ".join(info.name for info in self._inputs)
            raise ValueError(f"the inputs {names} must be given by name")
        return self._inputs[0].name
