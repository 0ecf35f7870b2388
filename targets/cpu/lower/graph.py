"""From an integer graph to a program: layouts, aliases, lowering of each op, memory plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import replace

from qcomp.errors import TargetError
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op, ZeroStuff
from qcomp.ir.tensor import TensorId
from qcomp.ir.verify import verify
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.isa import identifier
from qcomp.targets.cpu.lower.ceiling import fused_ceilings
from qcomp.targets.cpu.lower.context import Lowering, Place
from qcomp.targets.cpu.lower.index_checks import index_checks
from qcomp.targets.cpu.lower.lookup import fused_lookups
from qcomp.targets.cpu.lower.movement import copy_tensor
from qcomp.targets.cpu.lower.places import Border, plan_places
from qcomp.targets.cpu.lower.residual import fused_residuals
from qcomp.targets.cpu.lower.schedule import (
    CHAINING,
    Chaining,
    Layer,
    Schedule,
    fill_border,
    schedule,
)
from qcomp.targets.cpu.lower.table import lowering_of, refusals
from qcomp.targets.cpu.lower.taps import begin_taps, tapped, with_counts
from qcomp.targets.cpu.lower.windows import is_stored
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.memory import SLACK, dense_layout
from qcomp.targets.cpu.program import Arena, Argument, Call, ConstantData, Kernels, Program
from qcomp.targets.memory import Lifetime, plan_memory

CHAINS, CEILINGS, RESIDUALS, LOOKUPS = "chains", "fused minima", "fused additions", "fused lookups"
CHOICES = (CHAINS, CEILINGS, RESIDUALS, LOOKUPS)  # of code, that a program can do without
LARGEST = 1 << 62  # bytes, more than any tensor has


def lower_variants(
    graph: Graph,
    isas: Sequence[Isa],
    name: str,
    *,
    taps: bool = False,
    without: Collection[str] = (),
) -> list[Program]:
    """Programs of one module and one data: weights that are packed alike are stored once."""
    (programs,) = lower_lengths([graph], isas, name, taps=taps, without=without)
    return programs


def lower_lengths(
    graphs: Sequence[Graph],
    isas: Sequence[Isa],
    name: str,
    *,
    taps: bool = False,
    without: Collection[str] = (),
) -> list[list[Program]]:
    """The programs of each graph, all of one module and one data; kernels that are equal are shared
    among graphs. Rows of positions of a shorter length are those that the longer one begins with.
    """
    module = ir.Module(name, isas[0].platform)
    data = ConstantData(beginnings=len(graphs) > 1)
    several = len(isas) > 1
    prefixes = [f"{name}_{identifier(isa.name)}" if several else name for isa in isas]
    kernels = [
        Kernels(module, prefix, function_attributes(isa))
        for isa, prefix in zip(isas, prefixes, strict=True)
    ]
    return [
        [
            lower_graph(
                graph, isa, own.prefix, module, data, kernels=own, taps=taps, without=without
            )
            for isa, own in zip(isas, kernels, strict=True)
        ]
        for graph in graphs
    ]


def lower_graph(
    graph: Graph,
    isa: Isa,
    prefix: str,
    module: ir.Module | None = None,
    data: ConstantData | None = None,
    chaining: Chaining = CHAINING,
    *,
    kernels: Kernels | None = None,
    taps: bool = False,
    without: Collection[str] = (),
) -> Program:
    """A program of its own, or one more of a module and its data; with taps if they are wanted.

    `without` some of CHOICES. `kernels` are those that the module has for the set already.

    Raises TargetError that lists every op the target lacks.
    """
    verify(graph, Form.INTEGER)
    if problems := refusals(graph):
        raise TargetError("\n".join([f"{isa.name} can't lower:", *problems]))
    if module is None:
        module = ir.Module(prefix, isa.platform)
    ops = graph.ops()
    ceilings = {} if CEILINGS in without else fused_ceilings(graph, isa)
    residuals = {} if RESIDUALS in without else fused_residuals(graph, isa)
    lookups = {} if LOOKUPS in without else fused_lookups(graph, isa)
    chaining = replace(chaining, far=LARGEST) if CHAINS in without else chaining
    stored = {id: c.result for id, c in ceilings.items()}
    stored |= {id: r.result for id, r in residuals.items()}
    stored |= {id: t.result for id, t in lookups.items()}
    places, borders = plan_places(graph, ops, isa)
    places.update({id: places[result] for id, result in stored.items()})
    unstored = {op.output for op in ops if isinstance(op, ZeroStuff) and not is_stored(graph, op)}
    absorbed = {*stored.values(), *unstored}
    if kernels is None:
        kernels = Kernels(module, prefix, function_attributes(isa))
    lowering = Lowering(
        graph, isa, kernels, places, ceilings, residuals, lookups, data or ConstantData()
    )
    lowering.calls += begin_taps(lowering) if taps else ()
    _copy_inputs(lowering, borders)
    layers = []
    for step, op in enumerate(ops, start=1):
        if op.id not in absorbed:
            result = stored.get(op.id, op.output)
            calls = _lowered(lowering, op, step)
            calls += tapped(lowering, result) if taps else ()
            layers.append(Layer(op, step, result, calls))
    plan = schedule(lowering, layers, borders, chaining)
    _copy_outputs(lowering, len(ops) + 1)
    lifetimes = _lifetimes(lowering, ops, plan)
    memory = plan_memory(lifetimes)
    return Program(
        graph, isa, prefix, module, tuple(lowering.calls), lowering.data,
        with_counts(memory, graph) if taps else memory,
        stored, _buffers(lowering, plan), 
        index_checks(graph, lowering.data),
        _live_bytes(graph, ops, stored, unstored, plan),
    )  # fmt: skip


def _lowered(lowering: Lowering, op: Op, step: int) -> list[Call]:
    """The calls of one op."""
    before, lowering.calls = lowering.calls, []
    lowering.current, lowering.step = op.id, step
    lowering_of(lowering.graph, op)(lowering, op)
    calls, lowering.calls = lowering.calls, before
    return calls


def function_attributes(isa: Isa) -> tuple[str, ...]:
    """What the functions of an instruction set carry; the module knows the baseline only."""
    attributes: tuple[str, ...] = (f'"prefer-vector-width"="{isa.vector_bits}"',)
    if isa.features:
        features = ",".join(f for f in (isa.features, isa.tuning) if f)
        attributes += (f'"target-features"="{features}"',)
    if isa.vector_bits > 256:
        attributes += (f'"min-legal-vector-width"="{isa.vector_bits}"',)
    return attributes


def _copy_inputs(lowering: Lowering, borders: dict[str, Border]) -> None:
    graph = lowering.graph
    for index, tensor in enumerate(graph.inputs.values()):
        place = lowering.place(tensor)
        lowering.current = tensor
        if isinstance(place.base, Arena):
            fill_border(lowering, place, borders)
            layout = dense_layout(place.layout.shape, place.layout.element)
            source = Place(Argument(index, is_output=False), layout)
            copy_tensor(lowering, source, place)


def _copy_outputs(lowering: Lowering, step: int) -> None:
    lowering.step = step
    for index, tensor in enumerate(lowering.graph.outputs.values()):
        place = lowering.place(tensor)
        if not (isinstance(place.base, Argument) and place.base.is_output):
            lowering.current = tensor
            layout = dense_layout(place.layout.shape, place.layout.element)
            copy_tensor(lowering, place, Place(Argument(index, is_output=True), layout))


def _buffers(lowering: Lowering, plan: Schedule) -> Mapping[TensorId, tuple[str, ...]]:
    """Those that hold each activation that lies in the arena."""
    found: dict[TensorId, tuple[str, ...]] = {}
    for tensor, place in lowering.places.items():
        if isinstance(place.base, Arena):
            found[tensor] = tuple(plan.windows.get(tensor, (place.base.buffer,)))
    return found


def _lifetimes(lowering: Lowering, ops: list[Op], plan: Schedule) -> list[Lifetime]:
    """Of every buffer in the arena: over all tensors that lie in it, and the temporaries."""
    graph = lowering.graph
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    size: dict[str, int] = {}

    def touch(tensor: TensorId, step: int) -> None:
        place = lowering.places[tensor]
        if not isinstance(place.base, Arena):
            return
        begin, end = plan.span(step)
        buffers = plan.windows.get(tensor, {place.base.buffer: place.layout.bytes})
        for name, bytes_ in buffers.items():
            first[name] = min(first.get(name, begin), begin)
            last[name] = max(last.get(name, end), end)
            size[name] = max(size.get(name, 0), bytes_ + SLACK)

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


def _live_bytes(
    graph: Graph,
    ops: list[Op],
    stored: Mapping[TensorId, TensorId],
    unstored: Set[TensorId],
    plan: Schedule,
) -> int:
    """Tensors that are written between ops: not the caller's, nor those that a kernel keeps.

    Of those between the layers of a chain, the windows.
    """
    step_of = {op.output: step for step, op in enumerate(ops, start=1)}
    written = step_of | {result: step_of[id] for id, result in stored.items()}
    largest = 0
    spans = []
    for tensor, step in written.items():
        readers = [step_of[c.output] for c in graph.consumers(tensor)]
        through = [t for c in graph.consumers(tensor) if (t := c.output) in unstored]
        readers += [step_of[c.output] for t in through for c in graph.consumers(t)]
        if readers and tensor not in stored and tensor not in unstored:
            windows = plan.windows.get(tensor)
            bytes_ = sum(windows.values()) if windows else graph.type(tensor).bytes
            spans.append((plan.span(step)[0], plan.span(max(readers))[1], bytes_))
    for step in range(1, len(ops) + 1):
        largest = max(largest, sum(b for start, end, b in spans if start <= step <= end))
    return largest
