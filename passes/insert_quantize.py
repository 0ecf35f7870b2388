"""Put quantize and dequantize around every float op.

Each f32 activation `%t` gets `%t.q = quantize(%t)` and `%t.dq = dequantize(%t.q)`, and its readers
read `%t.dq`. Weights, biases and constant operands go through `fake_quant_constant`: weights
symmetric, of 8 bits or fewer, per output channel or per tensor; biases at scale_x * scale_w, in 32
bits, or 41 where x has 16.

Weights of least squared error are stored as they are rounded, with the gain corrected
(qcomp.quant.weights.unit_gain); whoever wants the others takes them from the float graph.

Constants that activations are asked to equal are rounded to steps of their scale; other constants
of comparisons stay.

An op that is kept in floats (`Tensor.kept`) gets no such pair where it reads an input of the graph,
and between it and another one; its constants stay.

Scales come from the ranges; tensors that integers are copied between share one (same_scale.py). A
weight scale is raised where a channel's bias or accumulator would not fit its integers
(qcomp.quant.weights.certified).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qcomp.config import QuantizationConfig
from qcomp.errors import PassError
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    BatchNorm,
    Binary,
    Compare,
    FakeQuantConstant,
    MatMul,
    Maximum,
    Minimum,
    Op,
    Quantize,
    Recurrent,
    Relation,
    Weighted,
)
from qcomp.ir.tensor import DType, Mark, TensorId
from qcomp.ir.text import format_op
from qcomp.passes.events import PassLog
from qcomp.passes.lib.edge_layers import edge_layers
from qcomp.passes.lib.known_grids import GridChoices, known_grid
from qcomp.passes.lib.qdq import output_names, read_rounded, round_trip
from qcomp.passes.lib.same_scale import Assignment, assign_qparams
from qcomp.quant.grid import Grid
from qcomp.quant.qparams import QParams
from qcomp.quant.scales import minmax_scales
from qcomp.quant.weights import BIAS_BITS, certified, unit_gain


@dataclass(frozen=True)
class InsertQuantize:
    """The choices for a layer's weights are `config.at(its id, its mnemonic)`."""

    name: ClassVar[str] = "insert-quantize"
    needs: ClassVar[Form] = Form.ANNOTATED
    gives: ClassVar[Form] = Form.QDQ

    config: QuantizationConfig

    def run(self, graph: Graph, log: PassLog) -> None:
        ops = graph.ops()
        if any(isinstance(op, Quantize) for op in ops):
            log.declined(graph.name, "quantized already")
            return
        for op in ops:
            if isinstance(op, BatchNorm) and not graph.is_kept(op):
                raise PassError(f"{format_op(graph, op)}\n  was not folded and has no integer form")
        assignment = assign_qparams(graph, self.config)
        edges = edge_layers(graph)
        for op in ops:
            if graph.is_kept(op):
                log.skipped(op.id, "it is kept in floats")
            elif isinstance(op, Weighted):
                choices = self.config.at(op.id, op.mnemonic)
                least = choices.first_last_weight_bits if op.id in edges else 1
                bits = max(choices.weight_bits, least)
                _quantize_weight(graph, op, choices, bits, assignment, log)
            elif isinstance(op, Recurrent):
                _quantize_recurrent(graph, op, self.config.at(op.id, op.mnemonic), log)
            elif isinstance(op, Compare) and op.relation is Relation.EQUAL:
                _round_constants(graph, op, assignment)
            elif isinstance(op, Binary | MatMul) and not isinstance(op, Minimum | Maximum):
                _quantize_constants(graph, op, assignment)
        for tensor, qparams in assignment.own.items():
            _quantize_activation(graph, tensor, qparams, assignment.group[tensor], log)
            graph.update_tensor(replace(graph.tensor(tensor), qparams=None))  # are its quantize's


def _quantize_weight(
    graph: Graph,
    op: Weighted,
    choices: QuantizationConfig,
    bits: int,
    assignment: Assignment,
    log: PassLog,
) -> None:
    weight, bias = graph.data(op.weight), graph.data(op.bias)
    x, y_scale = assignment.own[op.x], assignment.own[op.output].scale
    least_squares = choices.weight_range == "mse"
    found = known_grid(
        weight,
        GridChoices(
            bits,
            choices.per_channel,
            least_squares,
            choices.group_size,
            choices.power_of_two_scales,
        ),
    )
    rounded = op.weight
    if least_squares and not choices.power_of_two_scales:
        found, weight = unit_gain(found, weight)
        origin = graph.tensor(op.weight).marked(Mark.ROUNDED)
        rounded = graph.add_constant(f"{op.weight}.rounded", weight, origin)
    grid = certified(
        found,
        weight,
        bias,
        x.scale,
        y_scale,
        x_bits=x.bits,
        power_of_two=choices.power_of_two_scales,
    )
    dead = int(np.count_nonzero(found.scale == 0.0))
    raised = int(np.count_nonzero(grid.scale > found.scale)) - dead
    if dead or raised:
        log.note(
            f"{op.id}: {dead} dead channels, {raised} scales raised to fit "
            f"{BIAS_BITS[x.bits]} bits",
            op=op.id,
            dead=dead,
            raised=raised,
        )
    if bits < 8:
        groups = "" if grid.multiplier is None else f", groups of {choices.group_size}"
        log.note(f"{op.id}: weights of {bits} bits{groups}", op=op.id, bits=bits)
    bias_grid = Grid(grid.scale * x.scale, BIAS_BITS[x.bits])
    inputs = (op.x, _fake_quant(graph, rounded, grid), _fake_quant(graph, op.bias, bias_grid))
    graph.set_inputs(op, inputs)


def _quantize_recurrent(
    graph: Graph, op: Recurrent, choices: QuantizationConfig, log: PassLog
) -> None:
    """The weights that the hidden state meets; that they are few bits is told as of a layer."""
    weight = graph.data(op.weight)
    grid = known_grid(
        weight,
        GridChoices(
            choices.weight_bits,
            choices.per_channel,
            choices.weight_range == "mse",
            choices.group_size,
            choices.power_of_two_scales,
        ),
    )
    if choices.weight_bits < 8:
        log.note(
            f"{op.id}: weights of {choices.weight_bits} bits", op=op.id, bits=choices.weight_bits
        )
    inputs = (op.x, _fake_quant(graph, op.weight, grid), *op.inputs[2:])
    graph.replace_op(replace(op, inputs=inputs, hidden_bits=choices.decided_activation_bits))


def _fake_quant(graph: Graph, constant: TensorId, grid: Grid) -> TensorId:
    inputs = [constant, graph.add_constant(f"{constant}.scale", grid.scale)]
    if grid.multiplier is not None:
        inputs.append(graph.add_constant(f"{constant}.multiplier", grid.multiplier))
    return graph.add_op(
        FakeQuantConstant(
            inputs=tuple(inputs),
            output=graph.fresh_id(f"{constant}.fq"),
            axis=grid.axis,
            bits=grid.bits,
        ),
        graph.tensor(constant).origin,
    )


def _quantize_constants(graph: Graph, op: Op, assignment: Assignment) -> None:
    """Constant operands of a product or a sum: symmetric, one scale, as wide as what they meet, and
    of 16 bits where that has 32.
    """
    met = (t for t in (*op.inputs, op.output) if t in assignment.own)
    bits = min(max(assignment.own[t].bits for t in met), 16)
    for index, t in enumerate(op.inputs):
        if graph.is_constant(t):
            data = graph.data(t)
            scale = minmax_scales(data.astype(np.float64).reshape(1, -1), bits)
            grid = Grid(np.where(scale > 0, scale, assignment.own[op.output].scale), bits)
            op = op.with_input(index, _fake_quant(graph, t, grid))
            graph.replace_op(op)


def _round_constants(graph: Graph, op: Compare, assignment: Assignment) -> None:
    """What rounded values are asked to equal is rounded to steps of the same scale."""
    (q,) = {assignment.group[t] for t in op.inputs if not graph.is_constant(t)}
    for index, t in enumerate(op.inputs):
        if graph.is_constant(t):
            steps = np.rint(graph.data(t).astype(np.float64) / q.scale)
            rounded = steps.astype(np.float32) * np.float32(q.scale)
            origin = graph.tensor(t).marked(Mark.ROUNDED)
            op = op.with_input(index, graph.add_constant(f"{t}.rounded", rounded, origin))
            graph.replace_op(op)


def _quantize_activation(
    graph: Graph, tensor: TensorId, own: QParams, group: QParams, log: PassLog
) -> None:
    readers = [op for op in graph.consumers(tensor) if not _reads_floats(graph, op, tensor)]
    outputs = [] if graph.tensor(tensor).kept else output_names(graph, tensor)
    if not readers and not outputs:
        return
    maker = graph.producer(tensor)
    is_copied = own != group and maker is not None and tensor in maker.one_scale
    made = round_trip(graph, tensor, f"{tensor}.copied", group) if is_copied else tensor
    plain = round_trip(graph, made, tensor, own)
    wants_group = [op for op in readers if tensor in op.one_scale] if own != group else []
    rescaled = round_trip(graph, plain, f"{tensor}.rescaled", group) if wants_group else plain
    others = [op for op in readers if op not in wants_group]
    read_rounded(graph, tensor, plain, others, outputs)
    read_rounded(graph, tensor, rescaled, wants_group, [])
    width = f", {own.bits} bits" if own.bits > 8 else ""
    log.did(
        f"{tensor}: scale {own.scale:.6g}, zero_point {own.zero_point}{width}",
        tensor=tensor,
        scale=own.scale,
        zero_point=own.zero_point,
    )
    if is_copied:
        log.note(
            f"{tensor}: rescaled from {group.scale:.6g}, which it is copied in",
            tensor=tensor,
            scale=group.scale,
        )
    if wants_group:
        log.note(
            f"{tensor}: rescaled to {group.scale:.6g} for {len(wants_group)} readers",
            tensor=tensor,
            scale=group.scale,
            readers=len(wants_group),
        )


def _reads_floats(graph: Graph, op: Op, tensor: TensorId) -> bool:
    """A kept op reads inputs of the graph, and what kept ops give, as they are; so does an op
    whose result is no float what kept ops give.
    """
    if graph.tensor(tensor).kept:
        return graph.is_kept(op) or graph.type(op.output).dtype is not DType.F32
    return graph.producer(tensor) is None and graph.is_kept(op)
