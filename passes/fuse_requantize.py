"""Lower the QDQ form to integer ops.

`quantize(op(dequantize(x), ...))` becomes one integer op with its requantize inside, in the place
of the quantize; a movement moves the integers; a quantize that reads a dequantize is a change of
scale, of an i8 a 256-entry table. Inputs and outputs of the graph become i8 or i16. Ops that are
kept in floats stay, with the quantize and dequantize around them.

The rules, one for each float op, are in integer_rules, those that have the bits of TensorFlow Lite
in tflite_rules, of TensorFlow Lite Micro in tflm_rules, and of ONNX Runtime in onnx_rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qcomp.errors import PassError
from qcomp.ir.exemptions import exemption
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import ArgMax, Dequantize, Op, Quantize
from qcomp.ir.tensor import DType, TensorId
from qcomp.ir.text import format_op
from qcomp.passes.events import PassLog
from qcomp.passes.lib import integer_rules, onnx_rules, tflite_rules, tflm_rules
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.qdq import quantized_operand
from qcomp.quant.qparams import QParams, integer_range, quantize


@dataclass(frozen=True)
class Arithmetic:
    """How float ops become integer ops: by their rules, and `rescale` where there is none between a
    dequantize and a quantize.
    """

    rules: Mapping[type[Op], IntegerRule]
    rescale: Callable[[Site, TensorId], Op]


ARITHMETICS: Mapping[str, Arithmetic] = {
    "native": Arithmetic(integer_rules.RULES, integer_rules.rescale),
    "tflite": Arithmetic(tflite_rules.RULES, tflite_rules.rescale),
    "tflm": Arithmetic(tflm_rules.RULES, tflite_rules.rescale),
    "onnx": Arithmetic(onnx_rules.RULES, onnx_rules.rescale),
}


@dataclass(frozen=True)
class FuseRequantize:
    """See the module; `arithmetic` is a name of ARITHMETICS."""

    arithmetic: str = "native"

    name: ClassVar[str] = "fuse-requantize"
    needs: ClassVar[Form] = Form.QDQ
    gives: ClassVar[Form] = Form.INTEGER

    def run(self, graph: Graph, log: PassLog) -> None:
        arithmetic = ARITHMETICS[self.arithmetic]
        for op in graph.ops():
            if isinstance(op, Quantize):
                _lower(graph, op, arithmetic, log)
            elif isinstance(op, ArgMax) and isinstance(graph.producer(op.x), Dequantize):
                graph.replace_op(op.with_input(0, quantized_operand(graph, op.x)))
                log.did(f"{op.id}: reads integers", op=op.id)
        _bind_inputs(graph)
        for name, t in graph.outputs.items():
            if graph.is_constant(t):
                graph.outputs[name] = _constant_output(graph, t)
            elif graph.type(t).dtype is DType.F32 and not graph.tensor(t).kept:
                graph.outputs[name] = quantized_operand(graph, t)


def _lower(graph: Graph, quantize: Quantize, arithmetic: Arithmetic, log: PassLog) -> None:
    """Replace a quantize, and the float op that it reads, by an integer op."""
    op = graph.producer(quantize.x)
    if op is None or graph.is_kept(op):
        return  # an input of the graph, or floats that stay
    site = Site(graph, quantize.output)
    if isinstance(op, Dequantize):
        new = arithmetic.rescale(site, op.x)
    elif type(op) in arithmetic.rules:
        try:
            new = arithmetic.rules[type(op)](site, op)
        except ValueError as error:
            raise PassError(f"{format_op(graph, op)}\n  has no integer form: {error}") from error
    else:
        reason = exemption(integer_rules.EXEMPT, type(op)) or _without_rule(arithmetic)
        raise PassError(f"{format_op(graph, op)}\n  has no integer form: {reason}")
    qparams = graph.tensor(quantize.output).qparams
    graph.replace_op(new, qparams=qparams)
    log.did(f"{op.id}: {op.mnemonic} to {new.mnemonic}{site.remark}", op=op.id)


def _without_rule(arithmetic: Arithmetic) -> str:
    known = ", ".join(sorted(cls.mnemonic for cls in arithmetic.rules))
    return f"this arithmetic has a rule for: {known}"


def _constant_output(graph: Graph, id: TensorId) -> TensorId:
    """In 8 or 16 bits as it is where its values are whole, else in 16 bits."""
    tensor = graph.tensor(id)
    data = graph.data(id)
    size = float(np.abs(data).max())
    whole = bool((data == np.rint(data)).all())
    bits = 8 if whole and size <= 127 else 16
    qmin, qmax = integer_range(bits)
    q = (
        QParams(1.0, 0, qmin, qmax)
        if whole and size <= qmax
        else QParams.from_range(-size, size, qmin=qmin, qmax=qmax, symmetric=True)
    )
    integers = graph.add_constant(f"{id}.q", quantize(data, q), tensor.origin)
    graph.update_tensor(replace(graph.tensor(integers), qparams=q))
    return integers


def _bind_inputs(graph: Graph) -> None:
    """Float inputs become integers: the tensor `%x` takes the place of its quantize `%x.q`.

    An input that nothing reads is an i8 of unit scale.
    """
    for id in graph.inputs.values():
        if graph.type(id).dtype is not DType.F32:
            continue
        readers = graph.consumers(id)
        quantized = [op.output for op in readers if isinstance(op, Quantize)]
        if len(quantized) < len(readers):
            continue  # an op that is kept in floats reads it
        found = list(dict.fromkeys(graph.tensor(t).qparams for t in quantized))
        if len(found) > 1:
            raise PassError(f"input %{id} is quantized in {len(found)} ways; expected one")
        qparams = (found[0] if found else None) or QParams(1.0)
        type = graph.type(id).with_dtype(DType.activation(qparams.bits))
        graph.update_tensor(replace(graph.tensor(id), type=type, range=None, qparams=qparams))
        for t in quantized:
            graph.replace_uses(t, id)
            graph.erase(t)
