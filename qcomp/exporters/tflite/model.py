"""A QDQ graph as a TensorFlow Lite model of integers.

Inputs and outputs are those of the integer code: integers in the same steps, in the model's own
layout. What a library's header computes outside, in floats, stays outside of the file too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from qcomp.errors import UnsupportedOp
from qcomp.exporters.tflite import elementwise, linear, movement, reduction
from qcomp.exporters.tflite.writer import Writer
from qcomp.formats.flatbuffer_writer import write_flatbuffer
from qcomp.formats.tflite import IDENTIFIER, SCHEMA, VERSION
from qcomp.ir.exemptions import Exemptions, exemption
from qcomp.ir.graph import Graph
from qcomp.ir.merged import merged
from qcomp.ir.ops import (
    AbsMax,
    Attention,
    BatchNorm,
    Domain,
    Gru,
    LogPower,
    Lstm,
    Normalize,
    Op,
    Quantize,
    Rnn,
    ScaleDown,
    ScaleUp,
)
from qcomp.ir.tensor import TensorId
from qcomp.ir.text import format_op
from qcomp.quant.qparams import SUM_BITS, QParams

RULES: Mapping[type[Op], Callable[..., None]] = merged(
    elementwise.RULES, linear.RULES, movement.RULES, reduction.RULES
)

EXEMPT: Exemptions = {
    Domain.INTEGER: "is written as the float op that it stands for; export the QDQ form",
    BatchNorm: "is folded into the layer before it, or was kept in floats",
    Normalize: "TFLite has no normalisation of groups in integers",
    Attention: "TFLite has no such operator in integers",
    LogPower: "TFLite has no logarithm of a sum of squares in integers",
    **dict.fromkeys(
        (AbsMax, ScaleDown, ScaleUp),
        "TFLite has no scales in integers that are found at run time; expected activations static",
    ),
    **dict.fromkeys((Gru, Lstm, Rnn), "TFLite has no recurrence on sums of gates"),
}


@dataclass(frozen=True)
class TFLiteExport:
    """The file, and what stands outside of it."""

    model: bytes
    notes: tuple[str, ...]


def export_tflite(graph: Graph) -> TFLiteExport:
    """UnsupportedOp lists the ops that can't be said in integers of TensorFlow Lite."""
    if missing := [op for op in graph.ops() if not _is_known(graph, op)]:
        raise UnsupportedOp([f"{format_op(graph, op)}\n  {_why(graph, op)}" for op in missing])
    writer = Writer(graph)
    public = Public(writer)
    inputs = [public.input(name, id) for name, id in graph.inputs.items()]
    _write(writer)
    outputs = [public.output(name, id) for name, id in graph.outputs.items()]
    record = {
        "version": VERSION,
        "description": "qcomp",
        "operator_codes": writer.codes,
        "subgraphs": [
            {
                "name": "main",
                "tensors": writer.tensors,
                "operators": writer.operators,
                "inputs": inputs,
                "outputs": outputs,
            }
        ],
        "buffers": writer.buffers,
    }
    return TFLiteExport(write_flatbuffer(record, "Model", SCHEMA, IDENTIFIER), _notes(graph))


def _is_known(graph: Graph, op: Op) -> bool:
    return type(op) in RULES and not graph.is_kept(op) and not _is_of_a_sum(op)


def _is_of_a_sum(op: Op) -> bool:
    return isinstance(op, Quantize) and op.bits == SUM_BITS


def _why(graph: Graph, op: Op) -> str:
    if graph.is_kept(op):
        return "it is kept in floats; expected integers"
    if _is_of_a_sum(op):
        return f"TFLite has no activations of {SUM_BITS} bits; expected activation_bits 8 or 16"
    return exemption(EXEMPT, type(op)) or "expected a row in RULES of the TFLite export"


def _write(w: Writer) -> None:
    """All operators; every op that can't be one is told of."""
    problems: list[str] = []
    lost: set[TensorId] = set()
    for op in w.graph.ops():
        if not lost.intersection(op.inputs):
            try:
                RULES[type(op)](w, op)
                continue
            except UnsupportedOp as error:
                problems += error.problems
        lost.add(op.output)
    if problems:
        raise UnsupportedOp(problems)


@dataclass
class Public:
    """Tensors by the names of inputs and outputs, of which each is another."""

    w: Writer
    taken: set[int] = field(default_factory=set)

    def input(self, name: str, id: TensorId) -> int:
        """The first integers that an input is quantized to."""
        index = self.w.activation(name, self.w.shape(id), self.w.parameters(id))
        self.w.define(id, index)
        self.taken.add(index)
        return index

    def output(self, name: str, id: TensorId) -> int:
        """An input or another output is copied; a constant is rounded to its own range."""
        w = self.w
        if w.graph.is_constant(id):
            data = w.graph.data(id)
            index = w.literal(data, QParams.from_range(float(data.min()), float(data.max())))
        else:
            index = w.value(id)
        if index in self.taken or w.graph.is_constant(id):
            shape, source = w.numbers(w.shape(id)), index
            index = len(w.tensors)
            w.tensors.append({**w.tensors[source], "buffer": 0})
            w.emit("RESHAPE", [source, shape], [index])
        self.taken.add(index)
        w.tensors[index]["name"] = name
        return index


def _notes(graph: Graph) -> tuple[str, ...]:
    told = [
        f"{name}: values are those inside of a conversion that the library's header computes"
        for name in graph.conversions
    ]
    told += [
        f"{name}: the {t.function.value} behind it is outside" for name, t in graph.tails.items()
    ]
    return tuple(told)
