"""Activations whose parameters a model brings along: f32 tensors with qparams."""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.ir.graph import Graph
from qcomp.ir.tensor import DType, TensorId
from qcomp.quant.qparams import QParams


def given_qparams(graph: Graph) -> Mapping[TensorId, QParams]:
    """Of the f32 inputs and results that have any."""
    return {
        t.id: t.qparams
        for t in graph.tensors()
        if not t.is_constant and t.type.dtype is DType.F32 and t.qparams is not None
    }


def is_quantized_already(graph: Graph) -> bool:
    """Whether some result has parameters; those of inputs alone say that they are integers."""
    return bool(given_qparams(graph).keys() - set(graph.inputs.values()))
