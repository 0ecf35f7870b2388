"""The rates of 16 bits beside those of 8, measured: `Rates.macs_16` and `results_16` of a machine.

    QCOMP_ZOO=... python benchmarks/rates.py [NETWORK ...] [--isa amx-int8] [--seconds 8]

Each network is compiled twice with `recipe="fast"`, with activations of 8 and of 16 bits, and both
run in turn, call by call with the clock between. For each network: microseconds of both, as
measured and as estimated, and the ratios of 16 to 8 bits. Then, for each kind of op, the rates that
fit it best.

Estimates rank choices within one network, so measured times of 16 bits are divided by what 8 bits
take over their estimate before rates are fitted to them. The rates to write down are those of all
layers with weights; kinds that reach a fraction of them count as more results in
qcomp/recipes/estimated_time.py.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from zoo_report import load_zoo

import qcomp
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op, QConv2d
from qcomp.ir.tensor import DType
from qcomp.targets.cpu.lower.residual import is_depthwise
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.measure.profile import CpuProfile
from qcomp.targets.cpu.process.host import this_host
from qcomp.targets.cpu.work import Work, work_of

NETWORKS = ("mobilenetv1_025_bn", "fastestdet", "mobilenetv2_tf")
BITS = (8, 16)
SAMPLES = 6  # of calibration: times don't depend on ranges
_LEAST_NS = 200.0  # a shorter op is all call
_MACS, _RESULTS = np.geomspace(2, 60, 60), np.geomspace(0.05, 8, 80)  # rates that are tried


@dataclass(frozen=True)
class Row:
    """An op of the network of 16 bits: its kind, its work, and its nanoseconds."""

    kind: str
    work: Work
    ns: float


def kind_of(graph: Graph, op: Op) -> str:
    if isinstance(op, QConv2d):
        window = "x".join(map(str, graph.type(op.weight).shape[1:3]))
        return f"{'depthwise' if is_depthwise(graph, op) else 'conv'} {window}"
    return type(op).__name__


def networks(name: str, isa: Isa) -> Mapping[int, Graph]:
    """The integer graphs of both widths."""
    network = load_zoo().load(name)
    images, _ = network.data("calibration", SAMPLES)
    graphs = {}
    for bits in BITS:
        config = qcomp.QuantizationConfig(activation_bits=bits, recipe="fast")
        net = qcomp.compile(str(network.model), isa.name, calibration=images, config=config)
        graphs[bits] = net.graph
    return graphs


def times(graphs: Mapping[int, Graph], isa: Isa, seconds: float) -> Mapping[int, dict[str, float]]:
    """Nanoseconds of each op, the least of many runs of both graphs in turn."""
    profiles = {bits: CpuProfile(graph, isa, "net") for bits, graph in graphs.items()}
    arrays = {bits: _arrays(graph) for bits, graph in graphs.items()}
    least: dict[int, NDArray[np.float64]] = {}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for bits, profile in profiles.items():
            began = time.perf_counter_ns()
            clock = profile.run(arrays[bits])
            ns = (time.perf_counter_ns() - began) / max(clock[-1] - clock[0], 1)
            found = np.diff(clock) * ns
            least[bits] = np.minimum(least.get(bits, found), found)
    result: dict[int, dict[str, float]] = {}
    for bits, profile in profiles.items():
        by_op: dict[str, float] = defaultdict(float)
        for id, ns in zip(profile.calls, least[bits].tolist(), strict=True):
            by_op[id] += ns
        result[bits] = by_op
    return result


def _arrays(graph: Graph) -> list[NDArray[np.integer]]:
    """Inputs of random integers, and outputs."""
    types = {DType.I8: np.int8, DType.I16: np.int16, DType.I32: np.int32}
    random = np.random.default_rng(0)
    made = []
    for id in (*graph.inputs.values(), *graph.outputs.values()):
        info = np.iinfo(types[graph.type(id).dtype])
        values = random.integers(info.min, info.max + 1, graph.type(id).shape, info.dtype)
        made.append(values)
    return made


def measured(name: str, isa: Isa, seconds: float) -> list[Row]:
    """Prints a line for the network."""
    graphs = networks(name, isa)
    real = times(graphs, isa, seconds)
    whole = {bits: sum(ops.values()) for bits, ops in real.items()}
    rows, estimated = [], dict.fromkeys(BITS, 0.0)
    for bits, graph in graphs.items():
        for op in graph.ops():
            work = work_of(graph, op.output)
            size = 0 if op.copies_integers else graph.type(op.output).size
            work = replace(work, results=size)
            estimated[bits] += work.estimated_ns(isa, bits)
            ns = real[bits].get(op.output, 0.0)
            if bits == 16 and ns > _LEAST_NS:
                rows.append(Row(kind_of(graph, op), work, ns))
    ratios = (whole[16] / whole[8], estimated[16] / estimated[8])
    print(
        f"{name} on {isa.name}: {whole[8] / 1e3:.1f} and {whole[16] / 1e3:.1f} us, estimated "
        f"{estimated[8] / 1e3:.1f} and {estimated[16] / 1e3:.1f}; ratios {ratios[0]:.2f} and "
        f"{ratios[1]:.2f}"
    )
    share = estimated[8] / whole[8]
    return [replace(row, ns=row.ns * share) for row in rows]


def fitted(rows: Sequence[Row], isa: Isa) -> tuple[float, float, float]:
    """(macs, results, deviation): the rates of least squared error, relative to the square root of
    the time; the deviation is the median of |log2(estimated / measured)|.
    """
    ns = np.array([row.ns for row in rows])
    still = np.array([Work(0, 0, row.work.activation_bytes).estimated_ns(isa) for row in rows])
    macs, results = (
        np.array([getattr(row.work, name) for row in rows]) / isa.lanes
        for name in ("macs", "results")
    )

    def estimate(m: float, r: float) -> NDArray[np.float64]:
        return np.asarray(still + macs / m + results / r)

    tried = [(m, r) for m in _MACS.tolist() for r in _RESULTS.tolist()]
    m, r = min(tried, key=lambda rates: float((((estimate(*rates) - ns) ** 2) / ns).sum()))
    return m, r, float(np.median(np.abs(np.log2(estimate(m, r) / ns))))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--isa", help="one that this machine runs; the most able by default")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each network")
    options = parser.parse_args()
    runs = {isa.name: isa for isa in this_host().runs()}
    isa = runs[options.isa] if options.isa else list(runs.values())[-1]
    rows = [row for name in options.networks for row in measured(name, isa, options.seconds)]
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_kind[row.kind].append(row)
        if row.work.macs:
            by_kind["all with weights"].append(row)
    for kind, some in sorted(by_kind.items()):
        m, r, deviation = fitted(some, isa)
        print(
            f"{kind:20} {len(some):4} ops  macs_16 {m:5.1f}  results_16 {r:5.2f}  +-{deviation:.2f}"
        )


if __name__ == "__main__":
    main()
