"""From an integer graph to a program: layouts, aliases, lowering of each op, memory plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llvmlite import ir

from qcomp.errors import TargetError
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op, QConv2d, QDense, Reshape
from qcomp.ir.tensor import DType, TensorId
from qcomp.ir.text import format_op
from qcomp.ir.verify import verify
from qcomp.targets.cpu.isa import Isa
from qcomp.targets.cpu.lower.ceiling import fused_ceilings
from qcomp.targets.cpu.lower.context import Lowering, Place
from qcomp.targets.cpu.lower.movement import copy_tensor
from qcomp.targets.cpu.lower.residual import fused_residuals
from qcomp.targets.cpu.lower.table import LOWERINGS
from qcomp.targets.cpu.memory import (
    SLACK,
    Halo,
    Layout,
    Lifetime,
    MemoryPlan,
    bordered_layout,
    dense_layout,
    plan_memory,
)
from qcomp.targets.cpu.program import Arena, Argument, Call, ConstantData, Kernels

# These kernels may read a little past the end of their source, so it must lie in the arena.
_READS_SLACK = (QConv2d, QDense)


@dataclass(frozen=True)
class Program:
    """What is left to do is to emit the entry point."""

    graph: Graph
    isa: Isa
    module: ir.Module
    calls: tuple[Call, ...]
    data: ConstantData
    memory: MemoryPlan
    live_bytes: int  # largest sum of simultaneously live tensors, without borders and slack


def lower_graph(graph: Graph, isa: Isa, prefix: str) -> Program:
    """Raises TargetError that lists every op the target lacks."""
    verify(graph, Form.INTEGER)
    missing = [op for op in graph.ops() if type(op) not in LOWERINGS]
    if missing:
        names = ", ".join(sorted(cls.mnemonic for cls in LOWERINGS))
        lines = "\n".join(format_op(graph, op) for op in missing)
        raise TargetError(f"{isa.name} can't lower:\n{lines}\nit lowers: {names}")
    module = ir.Module(prefix)
    module.triple = isa.triple
    ops = graph.ops()
    ceilings, residuals = fused_ceilings(graph), fused_residuals(graph, isa)
    stored = {id: c.result for id, c in ceilings.items()}
    stored |= {id: r.result for id, r in residuals.items()}
    places = _places(graph, ops, isa)
    places.update({id: places[result] for id, result in stored.items()})
    absorbed = set(stored.values())
    kernels = Kernels(module, prefix, _attributes(isa))
    lowering = Lowering(graph, isa, kernels, places, ceilings, residuals)
    _copy_inputs(lowering)
    for step, op in enumerate(ops, start=1):
        if op.id in absorbed:
            continue
        lowering.current, lowering.step = op.id, step
        place = lowering.place(op.output)
        qparams = graph.tensor(stored.get(op.id, op.output)).qparams
        if qparams is not None and not place.layout.is_contiguous:
            lowering.fill_border(place, qparams.zero_point)
        LOWERINGS[type(op)](lowering, op)
    _copy_outputs(lowering, len(ops) + 1)
    lifetimes = _lifetimes(lowering, ops)
    return Program(
        graph, isa, module, tuple(lowering.calls), lowering.data,
        plan_memory(lifetimes), _live_bytes(graph, ops, stored),
    )  # fmt: skip


def _attributes(isa: Isa) -> tuple[str, ...]:
    """What the functions of an instruction set carry; the module knows the baseline only."""
    attributes: tuple[str, ...] = (f'"prefer-vector-width"="{isa.vector_bits}"',)
    if isa.features:
        attributes += (f'"target-features"="{isa.features}"',)
    if isa.vector_bits > 256:
        attributes += (f'"min-legal-vector-width"="{isa.vector_bits}"',)
    return attributes


def _halo(graph: Graph, tensor: TensorId) -> Halo:
    """The border that the convolutions reading the tensor want."""
    halo = Halo()
    for op in graph.consumers(tensor):
        if isinstance(op, QConv2d) and op.x == tensor:
            halo = halo.union(Halo(*op.padding))
    return halo


def _layout(graph: Graph, tensor: TensorId) -> Layout:
    type = graph.type(tensor)
    halo = _halo(graph, tensor)
    if halo.is_none:
        return dense_layout(type.shape, type.dtype.bytes)
    return bordered_layout(type.shape, halo)


def _places(graph: Graph, ops: list[Op], isa: Isa) -> dict[TensorId, Place]:
    places: dict[TensorId, Place] = {}

    def arena(tensor: TensorId) -> Arena:
        return Arena(tensor, 0, isa.unsigned and graph.type(tensor).dtype is DType.I8)

    for index, tensor in enumerate(graph.inputs.values()):
        layout = _layout(graph, tensor)
        reads_slack = any(isinstance(op, _READS_SLACK) for op in graph.consumers(tensor))
        base = arena(tensor) if reads_slack else Argument(index, is_output=False)
        places[tensor] = Place(base, layout)
    results = list(graph.outputs.values())
    for op in ops:
        tensor = op.output
        layout = _layout(graph, tensor)
        direct = results.count(tensor) == 1 and not graph.consumers(tensor)
        source = places.get(op.x) if isinstance(op, Reshape) else None
        if (
            source is not None
            and source.layout.is_contiguous
            and layout.is_contiguous
            and isinstance(source.base, Arena)
        ):
            places[tensor] = Place(source.base, layout)
        elif direct:
            places[tensor] = Place(Argument(results.index(tensor), is_output=True), layout)
        else:
            places[tensor] = Place(arena(tensor), layout)
    return places


def _copy_inputs(lowering: Lowering) -> None:
    graph = lowering.graph
    for index, tensor in enumerate(graph.inputs.values()):
        place = lowering.place(tensor)
        lowering.current = tensor
        if isinstance(place.base, Arena):
            qparams = graph.tensor(tensor).qparams
            if qparams is not None and not place.layout.is_contiguous:
                lowering.fill_border(place, qparams.zero_point)
            source = Place(Argument(index, is_output=False), dense_layout(place.layout.shape))
            copy_tensor(lowering, source, place)


def _copy_outputs(lowering: Lowering, step: int) -> None:
    lowering.step = step
    for index, tensor in enumerate(lowering.graph.outputs.values()):
        place = lowering.place(tensor)
        if not (isinstance(place.base, Argument) and place.base.is_output):
            lowering.current = tensor
            layout = dense_layout(place.layout.shape, place.layout.element)
            copy_tensor(lowering, place, Place(Argument(index, is_output=True), layout))


def _lifetimes(lowering: Lowering, ops: list[Op]) -> list[Lifetime]:
    """Of every buffer in the arena: over all tensors that lie in it, and the temporaries."""
    graph = lowering.graph
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    size: dict[str, int] = {}

    def touch(tensor: TensorId, step: int) -> None:
        place = lowering.places[tensor]
        if isinstance(place.base, Arena):
            name = place.base.buffer
            first.setdefault(name, step)
            last[name] = max(last.get(name, step), step)
            size[name] = max(size.get(name, 0), place.layout.bytes + SLACK)

    for tensor in graph.inputs.values():
        touch(tensor, 0)
    for step, op in enumerate(ops, start=1):
        for tensor in (*graph.activations(op), op.output):
            touch(tensor, step)
    for tensor in graph.outputs.values():
        touch(tensor, len(ops) + 1)
    buffers = [Lifetime(name, size[name], first[name], last[name]) for name in first]
    return buffers + [
        Lifetime(name, bytes_ + SLACK, step, step)
        for name, (bytes_, step) in lowering.temporaries.items()
    ]


def _live_bytes(graph: Graph, ops: list[Op], stored: Mapping[TensorId, TensorId]) -> int:
    """Tensors that are written between ops: not the caller's, nor those that a kernel keeps."""
    position = {op.output: i for i, op in enumerate(ops)}
    written = position | {result: position[id] for id, result in stored.items()}
    largest = 0
    spans = []
    for tensor, start in written.items():
        readers = [position[c.output] for c in graph.consumers(tensor)]
        if readers and tensor not in stored:
            spans.append((start, max(readers), graph.type(tensor).bytes))
    for i in range(len(ops)):
        largest = max(largest, sum(b for start, end, b in spans if start <= i <= end))
    return largest
