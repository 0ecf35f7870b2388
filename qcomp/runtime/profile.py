"""Where the time of a run goes, layer by layer, and which bound holds each layer back.

The code is generated again with a clock between its calls, and run as a whole, so that layers find
the caches as they do in use. The target estimates the least time that a layer could take, in
several ways (its `Profile`); the largest is the bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qcomp.ir.graph import Graph
from qcomp.ir.ops import QConv2d
from qcomp.ir.tensor import TensorId
from qcomp.runtime.benchmark import BenchReport, bench_directory
from qcomp.runtime.load import load
from qcomp.runtime.timing import layer_medians
from qcomp.targets.base import Profile


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
    profile = net.profile()
    with profile.sharing.among(threads):
        us = layer_medians(net, profile, seconds / 2)
    layers = tuple(_layer(net.graph, profile, id, t) for id, t in us.items())
    network = bench_directory(directory, seconds / 2, threads=threads)
    total = sum(layer.us for layer in layers)
    return LayerReport(profile.isa, 2 * profile.peak_macs_per_ns, layers, total, network)


def _layer(graph: Graph, profile: Profile, id: TensorId, us: float) -> Layer:
    work, bounds, fused = profile.work(id), profile.bounds(id), profile.fused(id)
    bytes_ = work.weight_bytes + work.activation_bytes
    bound = max(bounds, key=lambda name: bounds[name])
    return Layer(
        id=id,
        kind=_kind(graph, id) + (f" + {fused}" if fused else ""),
        shape=_shape(graph, id),
        us=us,
        gops=2e-3 * work.macs / us if work.macs else None,
        peak_share=bounds["arithmetic"] / us if work.macs else None,
        bytes=bytes_,
        gb_per_s=1e-3 * bytes_ / us,
        bounds=bounds,
        bound=bound,
        bound_share=bounds[bound] / us,
    )


def _kind(graph: Graph, id: TensorId) -> str:
    op = graph.producer(id)
    return "input" if op is None else op.mnemonic


def _shape(graph: Graph, id: TensorId) -> str:
    """Input shape, attributes and output shape of a layer, as text."""
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
