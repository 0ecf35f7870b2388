"""A network that is run step by step, its states kept in integers between the steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qcomp.errors import CompileError
from qcomp.ir.graph import Graph
from qcomp.ir.states import states_of
from qcomp.runtime.interface import Array, Interface

Run = Callable[[Sequence[Array]], Sequence[Array]]


class Stream:
    """One sequence. A call takes the inputs that are no states, floats by name or, of one, as it
    is, and gives the outputs that are none in the same form.
    """

    def __init__(self, graph: Graph, interface: Interface, run: Run) -> None:
        """run: from the integers of all inputs to those of all outputs, in their order."""
        if not graph.states:
            raise CompileError(
                f"{graph.name} has no states; compile it with states={{input: output}}"
            )
        self._interface, self._run, self._kept = interface, run, states_of(graph)
        made = {state.output for state in self._kept}
        self._outputs = [o for o in interface.outputs if o.name not in made]
        self._inputs = [i for i in interface.inputs if i.name not in graph.states]
        self.reset()

    def reset(self) -> None:
        """All states are 0, as at the beginning."""
        self._steps = 0
        infos = {info.name: info for info in self._interface.inputs}
        self._states = {
            state.input: np.full(state.kept.shape, info.zero_point, info.dtype)
            for state in self._kept
            if (info := infos[state.input])
        }

    @property
    def states(self) -> Mapping[str, Array]:
        """The integers that the next step begins with, by input."""
        return {name: array.copy() for name, array in self._states.items()}

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
            info.expect_rows(integers[info.name])
        arrays = [integers[info.name] for info in self._interface.inputs]
        results = self._run(arrays)
        found = {o.name: r for o, r in zip(self._interface.outputs, results, strict=True)}
        self._states = {
            state.input: state.after(self._states[state.input], found[state.output], self._steps)
            for state in self._kept
        }
        self._steps += 1
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
