"""What a user measures a network by, and what is measured where the user says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qcomp.calibration.data import open_calibration
from qcomp.errors import CompileError
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array
from qcomp.precision.problem import Problem

Metric = Callable[[Callable[[Any], Any]], float]


class Predict:
    """A graph as a function of arrays, floats to floats; QDQ graphs simulate the integer code.

    It takes an array, or a dict by input name, whose first axis counts samples: any multiple of the
    model's batch. A dict gives a dict, otherwise one output is an array and several are a tuple.
    """

    def __init__(self, graph: Graph) -> None:
        from qcomp.execute.session import FloatSession

        self._session = FloatSession(graph)
        self._inputs = {name: graph.type(id) for name, id in graph.inputs.items()}
        self._outputs = list(graph.outputs)

    def __call__(self, x: Any) -> Any:
        answers = [self._session.run(run) for run in open_calibration(x, self._inputs)]
        joined = {name: _joined([a[name] for a in answers]) for name in self._outputs}
        if isinstance(x, Mapping):
            return joined
        return next(iter(joined.values())) if len(joined) == 1 else tuple(joined.values())


def _joined(parts: list[Array]) -> Array:
    return np.concatenate(parts) if parts[0].ndim else np.stack(parts)


def agreement(problem: Problem) -> Metric:
    """The share of samples whose largest output is the float network's, of a classifier's runs.

    CompileError where the outputs are no scores of classes.
    """
    outputs = {name: problem.graph.type(id).shape for name, id in problem.graph.outputs.items()}
    (name, shape), *others = outputs.items()
    if others or len(shape) != 2 or shape[1] < 2:
        listed = ", ".join(f"{name}: {list(shape)}" for name, shape in outputs.items())
        raise CompileError(
            f"max_drop needs a metric: the outputs ({listed}) are no scores [batch, classes], so "
            "there is no largest one to agree on"
        )

    def metric(predict: Callable[[Any], Any]) -> float:
        same = [
            np.mean(predict(run)[name].argmax(axis=1) == reference[0].argmax(axis=1))
            for run, reference in zip(problem.runs, problem.reference, strict=True)
        ]
        return float(np.mean(same))

    return metric
