"""Graphs on the targets that TVM generates kernels for; skips where TVM or a driver is missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.targets.catalog import runtime, target

Array = NDArray[Any]

needs_tvm = pytest.mark.skipif(
    find_spec("tvm") is None, reason="TVM is not installed: pip install 'qcomp[tvm]'"
)


def expect_driver(name: str) -> None:
    """Skips where artifacts of the target can't run here, with the reason."""
    from qcomp.targets.base import Requirements
    from qcomp.targets.tvm.target import host_platform

    requires = Requirements(host_platform().triple, {}, ())
    if (lacking := runtime(name).lacking(requires)) is not None:
        pytest.skip(lacking)


def outputs_on(name: str, graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What the target's code makes of the inputs."""
    artifact = target(name).emit(graph, "net")
    entry = runtime(name).load(artifact, graph, None)
    types = {public: graph.type(id) for public, id in graph.outputs.items()}
    results = {n: np.full(t.shape, 0x5A5A5A5A).astype(t.dtype.numpy) for n, t in types.items()}
    feeds = [np.require(inputs[n], requirements="C") for n in graph.inputs]
    entry(feeds, list(results.values()), artifact.memory.allocated())
    return results


def check_on(name: str, graph: Graph, inputs: Mapping[str, Array]) -> None:
    """The target's code equals the specification in every bit."""
    expected = evaluate(graph, inputs)
    for public, found in outputs_on(name, graph, inputs).items():
        assert_array_equal(found, expected[public], err_msg=f"{public} on {name}\n{graph}")
