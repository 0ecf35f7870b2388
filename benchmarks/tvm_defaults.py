"""A compiled network's kernels beside those of TVM's default schedules, on a device of OpenCL.

    python benchmarks/tvm_defaults.py DIRECTORY [--target opencl:cpu] [--rounds N]

DIRECTORY is a saved network of any target. Both have the same functions; TVM's are scheduled by the
rules that `relax.build` applies to OpenCL (dlight: Matmul, GEMV, Reduction, GeneralReduction,
Fallback) and compiled by `tvm.compile`. Runs are interleaved, and both are compared with the
specification. It needs qcomp[tvm] and pyopencl.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyopencl as cl
import tvm
import tvm_ffi
from tvm import ir, tirx
from tvm.s_tir import dlight

import qcomp
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.targets.catalog import target as find_target
from qcomp.targets.tvm import builder
from qcomp.targets.tvm.emit.device_source import DeviceSource
from qcomp.targets.tvm.languages import OPENCL, OPENCL_C
from qcomp.targets.tvm.lower import lower
from qcomp.targets.tvm.program import Data, Input, Kernel, Output, Place, Program
from qcomp.targets.tvm.target import DeviceTarget

Sizes = tuple[tuple[int, ...], tuple[int, ...]]  # threads in all, and of a group
TVM_TARGET = {"kind": "opencl", "host": {"kind": "llvm"}}
FIRST_KERNEL = re.compile(r"^__kernel ", re.MULTILINE)


@dataclass(frozen=True)
class Compiled:
    """A program's source, and by kernel the order of its parameters and its threads."""

    program: Program
    source: str
    parameters: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, Sizes]


@dataclass
class Buffers:
    """Memory of the device for a program; drivers do not keep what kernels were given."""

    context: Any
    graph: Graph
    program: Program
    inputs: list[Any]
    made: dict[Place, Any] = field(default_factory=dict)

    def of(self, place: Place) -> Any:
        if place not in self.made:
            self.made[place] = self._new(place)
        return self.made[place]

    def _new(self, place: Place) -> Any:
        flags = cl.mem_flags
        copied = flags.READ_WRITE | flags.COPY_HOST_PTR
        match place:
            case Input(index):
                return cl.Buffer(self.context, copied, hostbuf=self.inputs[index])
            case Data(offset, size):
                raw = np.frombuffer(self.program.data.bytes(), np.uint8)[offset : offset + size]
                return cl.Buffer(self.context, copied, hostbuf=raw)
            case Output(index):
                id = list(self.graph.outputs.values())[index]
                return cl.Buffer(self.context, flags.READ_WRITE, self.graph.type(id).bytes)
        return cl.Buffer(self.context, flags.READ_WRITE, place.bytes)


def ours(graph: Graph, name: str) -> Compiled:
    """The kernels of a target of qcomp's."""
    target = find_target(name)
    assert isinstance(target, DeviceTarget)
    program = lower(graph, target.machine, "ours")
    source = DeviceSource.of(program, target.language, "ours")
    sizes = {k.name: ((k.grid * k.block,), (k.block,)) for k in program.kernels}
    (text,) = source.files.values()
    return Compiled(program, text, source.code.parameters, sizes)


def defaults(graph: Graph) -> Compiled:
    """The same functions with TVM's default schedules."""
    functions: dict[str, Any] = {}

    def kept(make: Callable[[], Any], key: str, name: str, machine: Any) -> Kernel:
        functions[name] = make().with_attr("global_symbol", name)
        return Kernel(key, name, None, 1, 1)

    usual, builder.scheduled = builder.scheduled, kept
    try:
        program = lower(graph, OPENCL, "tvm")
    finally:
        builder.scheduled = usual
    gpu = dlight.gpu
    rules = (gpu.Matmul(), gpu.GEMV(), gpu.Reduction(), gpu.GeneralReduction(), gpu.Fallback())
    with tvm.target.Target(TVM_TARGET):
        module = dlight.ApplyDefaultSchedule(*rules)(ir.IRModule(functions))
        built = tvm.compile(module, target=tvm.target.Target(TVM_TARGET))
    text = str(built.mod.imports[0].inspect_source())
    text = text[FIRST_KERNEL.search(text).start() :]  # type: ignore[union-attr]
    scheduled = {g.name_hint: f for g, f in module.functions.items()}
    parameters = {name: _order(text, name, f) for name, f in scheduled.items()}
    sizes = {name: _sizes(f) for name, f in scheduled.items()}
    return Compiled(program, f"{OPENCL_C.prelude}\n{text}", parameters, sizes)


def _order(source: str, name: str, function: Any) -> tuple[int, ...]:
    """Which of a function's buffers each parameter of its kernel is."""
    found = re.search(rf"__kernel void[^(]*\b{name}_kernel\(([^)]*)\)", source)
    assert found is not None, f"{name} is not one kernel"
    own = [str(p.name) for p in function.params]
    names = [part.split()[-1].lstrip("*").removesuffix("_ptr") for part in found[1].split(",")]
    return tuple(own.index(n) for n in names)


def _sizes(function: Any) -> Sizes:
    extents: dict[str, int] = {}

    def look(loop: Any) -> None:
        if loop.thread_binding is not None:
            extents[str(loop.thread_binding.thread_tag)] = int(loop.extent)

    tvm_ffi.structural_walk(function.body, [(tirx.For, look)])
    groups, threads = (
        [extents.get(f"{kind}Idx.{axis}", 1) for axis in "xyz"] for kind in ("block", "thread")
    )
    return tuple(g * t for g, t in zip(groups, threads, strict=True)), tuple(threads)


def runner(compiled: Compiled, buffers: Buffers, queue: Any) -> Callable[[], None]:
    """All launches, in order, and a wait for the last."""
    program = cl.Program(buffers.context, compiled.source).build()
    launches: list[tuple[Any, ...]] = []
    for launch in compiled.program.launches:
        name = launch.kernel.name
        kernel = cl.Kernel(program, f"{name}_kernel")
        for n, which in enumerate(compiled.parameters[name]):
            kernel.set_arg(n, buffers.of(launch.places[which]))
        launches.append((kernel, *compiled.sizes[name], buffers))

    def run() -> None:
        for kernel, everything, group, _ in launches:
            cl.enqueue_nd_range_kernel(queue, kernel, everything, group)
        queue.finish()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--target", default="opencl:cpu")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    graph = qcomp.load(chosen.directory).graph
    context = cl.create_some_context(interactive=False)
    queue, random = cl.CommandQueue(context), np.random.default_rng(0)
    inputs = [
        random.integers(-128, 128, graph.type(t).shape).astype(graph.type(t).dtype.numpy)
        for t in graph.inputs.values()
    ]
    expected = evaluate(graph, dict(zip(graph.inputs, inputs, strict=True)))
    runs: dict[str, Callable[[], None]] = {}
    for name, made in ((chosen.target, ours(graph, chosen.target)), ("TVM", defaults(graph))):
        buffers = Buffers(context, graph, made.program, inputs)
        runs[name] = runner(made, buffers, queue)
        runs[name]()
        for n, (output, value) in enumerate(expected.items()):
            found = np.empty_like(value)
            cl.enqueue_copy(queue, found, buffers.of(Output(n)))
            print(f"{name}, {output}: {int((found != value).sum())} differing values")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(chosen.rounds):
        for name, run in runs.items():
            wall, processor = time.perf_counter(), time.process_time()
            run()
            end = time.perf_counter(), time.process_time()
            times[name].append((1e3 * (end[0] - wall), 1e3 * (end[1] - processor)))
    for name, own in times.items():
        wall, processor = (statistics.median(column) for column in zip(*own, strict=True))
        print(f"{name}: {wall:.2f} ms, {processor:.2f} ms of processors, medians of {len(own)}")


if __name__ == "__main__":
    main()
