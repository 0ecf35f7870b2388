"""Where the time of a run goes, layer by layer, and which bound holds each layer back.

The program is generated again with a clock between its calls, and run as a whole, so that layers
find the caches as they do in use. The least time a layer could take is estimated in three ways:

    arithmetic  its multiply-accumulates at the peak of the dot product
    epilogue    its results at the rate at which sums in registers are requantized and stored
    memory      its bytes at the rate of a buffer that is as large: weights, as all that a run
                touches, since they come round once a run; activations, as those of the layer

all at rates measured on this machine (qcomp.targets.cpu.peaks). The largest is the bound.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qcomp.benchmark import BenchReport, bench_directory
from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import IntegerOp, QConv2d
from qcomp.ir.tensor import TensorId
from qcomp.network import CompiledNetwork
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.store import load
from qcomp.targets.catalog import target
from qcomp.targets.cpu.isa import host_supports
from qcomp.targets.cpu.jit import aligned_arena
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.lower.residual import fused_residuals
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.peaks import Peaks
from qcomp.targets.cpu.target import CpuTarget
from qcomp.targets.cpu.timing import TimedProgram
from qcomp.targets.cpu.work import work_of
from qcomp.targets.cpu.x86.permission import amx_permitted
from qcomp.vectors import random_inputs

_MIN_ROUNDS = 20


@dataclass(frozen=True)
class Layer:
    """Medians over rounds. `peak_share` and `gops` are None where nothing is multiplied.

    `bounds` are the estimated microseconds by bound, `bound_share` what the largest is of the time.
    """

    id: TensorId
    kind: str
    shape: str
    us: float
    gops: float | None
    peak_share: float | None
    bytes: int
    gb_per_s: float
    bounds: Mapping[str, float]
    bound: str
    bound_share: float


@dataclass(frozen=True)
class LayerReport:
    """All layers in their order, and the whole network as `qcomp bench` times it.

    `peak_gops` is of the vector dot product; layers on AMX tiles are compared with the tiles' own.
    """

    isa: str
    peak_gops: float
    layers: tuple[Layer, ...]
    sum_us: float
    network: BenchReport


def bench_layers(directory: Path, seconds: float = 2.0, threads: int = 1) -> LayerReport:
    """Half of the time for the layers, half for the network, on random inputs.

    Peaks and bounds are those of one thread, whatever number of threads runs the layers.
    """
    net = load(directory)
    net.entry()  # TargetError where it is for another machine
    isa = isa_in_use(net)
    timed = TimedProgram(lower_graph(net.graph, isa, net.name))
    with timed.sharing.among(threads):
        us = _medians_us(net, timed, seconds / 2)
    peaks = Peaks(isa)
    layers = tuple(_layer(timed, peaks, id, t) for id, t in us.items())
    network = bench_directory(directory, seconds / 2, threads=threads)
    return LayerReport(
        isa.name, 2 * peaks.macs_per_ns, layers, sum(layer.us for layer in layers), network
    )


def isa_in_use(net: CompiledNetwork) -> Isa:
    """Of the instruction sets in the library, the one that it chooses on this machine."""
    backend = target(net.target)
    isas = backend.isas if isinstance(backend, CpuTarget) else ()
    usable = [isa for isa in isas if isa.name in net.isa and host_supports(isa)]
    if usable and usable[-1].machine.needs_permission and not amx_permitted():
        usable.pop()
    if not usable:
        names = ", ".join(net.isa)
        raise TargetError(f"{net.name} was compiled for {names}, which this machine lacks")
    return usable[-1]


def _medians_us(
    net: CompiledNetwork, timed: TimedProgram, seconds: float
) -> Mapping[TensorId, float]:
    """Microseconds of each layer, in the order of the run."""
    random = np.random.default_rng(0)
    inputs = [random_inputs(info, random) for info in net.inputs]
    outputs = [np.empty(info.shape, info.dtype) for info in net.outputs]
    arrays = [*inputs, *outputs, aligned_arena(timed.program.memory.arena_bytes)]
    timed.run(arrays)
    began, rounds = time.perf_counter(), [timed.run(arrays)]
    while len(rounds) < _MIN_ROUNDS or time.perf_counter() < began + seconds:
        rounds.append(timed.run(arrays))
    us_per_tick = (time.perf_counter() - began) * 1e6 / (rounds[-1][-1] - rounds[0][0])
    medians = np.median(np.diff(np.array(rounds), axis=1), axis=0) * us_per_tick
    layers: dict[TensorId, float] = {}
    for call, us in zip(timed.program.calls, medians, strict=True):
        layers[call.op] = layers.get(call.op, 0.0) + float(us)
    return layers


def _layer(timed: TimedProgram, peaks: Peaks, id: TensorId, us: float) -> Layer:
    program, graph = timed.program, timed.program.graph
    work = work_of(graph, id)
    residual = fused_residuals(graph, program.isa).get(id)
    other_bytes = graph.type(residual.other).bytes if residual else 0
    activation_bytes = work.activation_bytes + other_bytes
    peak = peaks.tile_macs_per_ns if timed.uses_tiles(id) else peaks.macs_per_ns
    arithmetic_us = work.macs / peak / 1e3
    footprint = program.data.size + program.memory.arena_bytes
    memory_us = (
        work.weight_bytes / peaks.bytes_per_ns(footprint)
        + activation_bytes / peaks.bytes_per_ns(activation_bytes)
    ) / 1e3
    bounds = {
        "arithmetic": arithmetic_us,
        "epilogue": _epilogue_us(graph, peaks, id),
        "memory": memory_us,
    }
    bound = max(bounds, key=lambda name: bounds[name])
    return Layer(
        id=id,
        kind=_kind(graph, id) + (" + add" if residual else ""),
        shape=_shape(graph, id),
        us=us,
        gops=2e-3 * work.macs / us if work.macs else None,
        peak_share=arithmetic_us / us if work.macs else None,
        bytes=work.weight_bytes + activation_bytes,
        gb_per_s=1e-3 * (work.weight_bytes + activation_bytes) / us,
        bounds=bounds,
        bound=bound,
        bound_share=bounds[bound] / us,
    )


def _epilogue_us(graph: Graph, peaks: Peaks, id: TensorId) -> float:
    """Ops that compute integers have one for each result; those that copy have none."""
    op = graph.producer(id)
    if not isinstance(op, IntegerOp):
        return 0.0
    requantize = getattr(op, "requantize", None)
    form = requantize.form if isinstance(requantize, Requantize) else Form.NARROW
    return graph.type(id).size / peaks.results_per_ns(form) / 1e3


def _kind(graph: Graph, id: TensorId) -> str:
    op = graph.producer(id)
    return "input" if op is None else op.mnemonic


def _shape(graph: Graph, id: TensorId) -> str:
    """What goes in, what is done with it, what comes out."""
    op = graph.producer(id)
    result = "x".join(map(str, graph.type(id).shape[1:] or graph.type(id).shape))
    if op is None:
        return result
    x = graph.type(op.inputs[0]).shape
    source = "x".join(map(str, x[1:] or x))
    if not isinstance(op, QConv2d):
        return f"{source} > {result}"
    kh, kw = graph.type(op.weight).shape[1:3]
    stride = "" if op.stride == (1, 1) else f"/{op.stride[0]}"
    groups = "" if op.groups == 1 else f" in {op.groups} groups"
    return f"{kh}x{kw}{stride} {source} > {result}{groups}"
