"""Integer graphs that run fast: as code for this machine, or else by their specification.

Code equals the specification in every bit, so it does not matter which of them answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qcomp.errors import TargetError
from qcomp.files import user_cache
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array, TensorId
from qcomp.targets.base import Entry
from qcomp.targets.catalog import target


class IntegerSession:
    """An integer graph, ready to run; inputs and outputs go by their public names.

    `lacking` says why the specification answers, where it does.
    """

    def __init__(self, graph: Graph, name: str) -> None:
        self._graph = graph
        self._entry: Entry | None = None
        self.lacking: str | None = None
        backend = target("native")
        if (kept := user_cache("objects")) is not None:
            backend = backend.keeping(kept)
        try:
            artifact = backend.emit(graph, name)
            self._entry = backend.runtime.load(artifact, graph, None)
            self._arena = artifact.memory.allocated()
        except TargetError as error:
            self.lacking = str(error).splitlines()[0]

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The outputs, as arrays of their own."""
        if self._entry is None:
            return evaluate(self._graph, inputs)
        types = {name: self._graph.type(id) for name, id in self._graph.outputs.items()}
        outputs = {name: np.empty(t.shape, t.dtype.numpy) for name, t in types.items()}
        given = [np.ascontiguousarray(inputs[name]) for name in self._graph.inputs]
        self._entry(given, list(outputs.values()), self._arena)
        return outputs


def each_alone(graph: Graph, ids: list[TensorId]) -> Graph:
    """The ops with these ids, none of which reads what another gives.

    What they read are inputs, by the names of those tensors; their results are the outputs.
    """
    apart = Graph(graph.name)
    inputs: dict[TensorId, TensorId] = {}
    for id in ids:
        for t in graph.op(id).inputs:
            tensor = graph.tensor(t)
            if tensor.is_constant and t not in apart:
                apart.add_tensor(tensor)
            elif not tensor.is_constant and t not in inputs:
                inputs[t] = graph.fresh_id(f"{t}.given")
                apart.inputs[t] = apart.add_tensor(replace(tensor, id=inputs[t]))
    for id in ids:
        op = graph.op(id)
        apart.add_op(replace(op, inputs=tuple(inputs.get(t, t) for t in op.inputs)))
        apart.update_tensor(graph.tensor(id))
        apart.outputs[id] = id
    return apart
