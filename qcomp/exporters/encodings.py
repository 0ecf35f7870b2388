"""AIMET's encodings, version 1.0.0: scale and offset of each quantized tensor of a float model.

    real = scale * (q + offset),  q in [0, 2^bw - 1]

offset is an integer, so of our signed zero point z it is -(z + 2^(bw - 1)). The encodings are of
the float twin of the graph, which is written beside them: after batch normalisations are folded,
channels equalized and biases corrected, the tensors of the imported model are others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from qcomp.errors import UnsupportedOp
from qcomp.exporters.floats import float_twin
from qcomp.exporters.onnx.model import export_floats
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Dequantize, FakeQuantConstant, IntegerConstant, Quantize
from qcomp.quant.qparams import QParams

VERSION = "1.0.0"
MOST_BITS = 32
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Encodings:
    """`document` is of the JSON file; its names are of tensors of `model`."""

    document: Mapping[str, Any]
    model: onnx.ModelProto


def export_encodings(graph: Graph) -> Encodings:
    """Of a QDQ graph."""
    twin = float_twin(graph)
    model, names = export_floats(twin.graph)
    activations: dict[str, Entry] = {}
    parameters: dict[str, Entry] = {}
    for op in graph.ops():
        if isinstance(op, Quantize) and not isinstance(graph.producer(op.x), Dequantize):
            qparams = graph.tensor(op.output).qparams
            if qparams is None:
                raise UnsupportedOp([f"%{op.output} has no qparams; expected a graph in form qdq"])
            for name in names.get(op.x, ()):
                activations.setdefault(name, {"name": name, **_activation(qparams)})
        elif isinstance(op, FakeQuantConstant | IntegerConstant) and _bits(graph, op) <= MOST_BITS:
            for name in names.get(twin.constants[op.output], ()):
                parameters.setdefault(name, {"name": name, **_parameter(graph, op)})
    document = {
        "version": VERSION,
        "producer": "qcomp",
        "activation_encodings": list(activations.values()),
        "param_encodings": list(parameters.values()),
        "excluded_layers": [],
    }
    return Encodings(document, model)


def _activation(q: QParams) -> Entry:
    return _entry(q.bits, [q.scale], [q.zero_point], symmetric=q.bits == 16)


def _parameter(graph: Graph, op: FakeQuantConstant | IntegerConstant) -> Entry:
    scale = graph.data(op.scale)
    given = isinstance(op, IntegerConstant)
    zero = graph.data(op.inputs[2]) if given else np.zeros(scale.size, np.int64)
    symmetric = not zero.any()
    return _entry(_bits(graph, op), scale.tolist(), zero.tolist(), symmetric=symmetric)


def _bits(graph: Graph, op: FakeQuantConstant | IntegerConstant) -> int:
    """Of the integers that are stored; those of groups are in steps of their channel."""
    if isinstance(op, IntegerConstant):
        return 8 * graph.data(op.x).dtype.itemsize
    return 8 if len(op.inputs) > 2 else max(op.bits, 2)


def _entry(bits: int, scale: list[float], zero: list[int], *, symmetric: bool) -> Entry:
    return {
        "dtype": "INT",
        "enc_type": "PER_CHANNEL" if len(scale) > 1 else "PER_TENSOR",
        "bw": bits,
        "is_sym": symmetric,
        "scale": scale,
        "offset": [-(int(z) + (1 << (bits - 1))) for z in zero],
    }
