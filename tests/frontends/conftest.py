"""A builder of small ONNX models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest


class OnnxModel(Protocol):
    """The signature of the fixture `onnx_model`."""

    def __call__(
        self,
        nodes: Sequence[onnx.NodeProto],
        inputs: Mapping[str, Sequence[int | str | None]],
        outputs: Sequence[str],
        constants: Mapping[str, Any] = ...,
        opset: int = ...,
    ) -> onnx.ModelProto: ...


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    constants: Mapping[str, Any] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    graph = onnx.helper.make_graph(
        list(nodes),
        "small",
        [onnx.helper.make_tensor_value_info(n, 1, list(s)) for n, s in inputs.items()],
        [onnx.helper.make_tensor_value_info(n, 1, None) for n in outputs],
        [onnx.numpy_helper.from_array(np.asarray(c), n) for n, c in (constants or {}).items()],
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.fixture
def onnx_model() -> OnnxModel:
    """`onnx_model(nodes, {"x": [1, 3]}, ["y"], {"w": array}, opset=17)`."""
    return build
