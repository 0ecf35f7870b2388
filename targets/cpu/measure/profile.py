"""A program by layers on this machine: its clock, its work, and what could hold each layer back.

    arithmetic  multiply-accumulates at the peak of the dot product, or of the tiles
    epilogue    results at the rate at which sums in registers are requantized and stored
    memory      bytes at the rate of a buffer that is as large: weights, as all that a run touches,
                since they come round once a run; activations, as those of the layer

all at rates measured on this machine (peaks.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import IntegerOp
from qcomp.ir.tensor import TensorId
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.targets.base import Arrays
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.lower.residual import fused_residuals
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.measure.peaks import Peaks
from qcomp.targets.cpu.measure.timing import TimedProgram
from qcomp.targets.cpu.process.jit import aligned_arena
from qcomp.targets.cpu.process.threads import Sharing
from qcomp.targets.cpu.work import Work, work_of


class CpuProfile:
    """Of a graph on one instruction set, which this machine must have."""

    def __init__(self, graph: Graph, isa: Isa, name: str) -> None:
        self._graph, self._isa = graph, isa
        self._timed = TimedProgram(lower_graph(graph, isa, name))
        self._arena = aligned_arena(self._timed.program.memory.arena_bytes)
        self._residuals = fused_residuals(graph, isa)
        self._peaks = Peaks(isa)

    @property
    def isa(self) -> str:
        return self._isa.name

    @property
    def peak_macs_per_ns(self) -> float:
        return self._peaks.macs_per_ns

    @property
    def sharing(self) -> Sharing:
        return self._timed.sharing

    @property
    def calls(self) -> list[TensorId]:
        return [call.op for call in self._timed.program.calls]

    def run(self, arrays: Arrays) -> NDArray[np.int64]:
        return self._timed.run([*arrays, self._arena])

    def work(self, op: TensorId) -> Work:
        """With the other operand of an addition that is computed here."""
        work, residual = work_of(self._graph, op), self._residuals.get(op)
        other = self._graph.type(residual.other).bytes if residual else 0
        return replace(work, activation_bytes=work.activation_bytes + other)

    def fused(self, op: TensorId) -> str:
        return "add" if op in self._residuals else ""

    def bounds(self, op: TensorId) -> Mapping[str, float]:
        peaks, program, work = self._peaks, self._timed.program, self.work(op)
        peak = peaks.tile_macs_per_ns if self._timed.uses_tiles(op) else peaks.macs_per_ns
        footprint = program.data.size + program.memory.arena_bytes
        memory_ns = work.weight_bytes / peaks.bytes_per_ns(footprint)
        memory_ns += work.activation_bytes / peaks.bytes_per_ns(work.activation_bytes)
        return {
            "arithmetic": work.macs / peak / 1e3,
            "epilogue": self._epilogue_ns(op) / 1e3,
            "memory": memory_ns / 1e3,
        }

    def _epilogue_ns(self, id: TensorId) -> float:
        """Ops that compute integers have one for each result; those that copy have none."""
        op = self._graph.producer(id)
        if not isinstance(op, IntegerOp):
            return 0.0
        requantize = getattr(op, "requantize", None)
        form = requantize.form if isinstance(requantize, Requantize) else Form.NARROW
        return self._graph.type(id).size / self._peaks.results_per_ns(form)
