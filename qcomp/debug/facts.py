"""What there is to know of a saved directory without running it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcomp.accuracy.record import plain
from qcomp.errors import ModelError
from qcomp.findings import record
from qcomp.ir.ops import Op
from qcomp.ir.tensor import TensorId
from qcomp.recipes.file import fields_of
from qcomp.runtime.load import load
from qcomp.runtime.network import CompiledNetwork
from qcomp.targets.layout import Step


@dataclass(frozen=True)
class OpFacts:
    """An op of the integer graph.

    scale, zero_point: of its result; None where that is no quantized number.
    weights_bytes: of its constants, as the graph has them.
    kernels: their kinds, in order, on the most able instruction set; none of a view.
    within: the op whose kernel computes it, where that is another one.
    """

    id: TensorId
    op: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None
    zero_point: int | None
    weights_bytes: int
    kernels: tuple[str, ...]
    within: TensorId | None


@dataclass(frozen=True, eq=False)
class Facts:
    """A network, its ops in order, and its files with their bytes."""

    net: CompiledNetwork
    ops: tuple[OpFacts, ...]
    files: Mapping[str, int]

    @staticmethod
    def of(directory: Path) -> Facts:
        """Of a directory that `save` wrote; ModelError for another."""
        net = load(directory)
        if net.directory is None:
            raise ModelError(f"{directory} holds no network")
        files = sorted(f for f in net.directory.iterdir() if f.is_file())
        return Facts(net, tuple(_ops(net)), {f.name: f.stat().st_size for f in files})

    def json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        net = self.net
        memory, requires = net.artifact.memory, net.artifact.requires
        return {
            "name": net.name,
            "target": net.target,
            "isa": list(net.isa),
            "triple": requires.triple,
            "recipe": net.config.recipe,
            "settings": fields_of(net.config),
            "arena_bytes": memory.arena,
            "live_bytes": memory.live,
            "weights_bytes": memory.weights,
            "files": dict(self.files),
            "inputs": [dataclasses.asdict(info) for info in net.inputs],
            "outputs": [dataclasses.asdict(info) for info in net.outputs],
            "sqnr_db_output": net.sqnr_db_output,
            "accuracy": plain(net.accuracy),
            "findings": record.plain(net.findings),
            "notes": list(net.notes),
            "ops": [dataclasses.asdict(op) for op in self.ops],
        }


def steps_by_op(net: CompiledNetwork) -> Mapping[TensorId, Step]:
    """Of the most able instruction set of a network's library; none where nothing is known."""
    layouts = net.runtime.layouts(net.artifact, net.graph)
    return {step.op: step for step in layouts[-1].steps} if layouts else {}


def _ops(net: CompiledNetwork) -> list[OpFacts]:
    steps = steps_by_op(net)
    computed = {step.result: op for op, step in steps.items() if step.result != op}
    return [
        _facts(net, op, steps.get(op.output), computed.get(op.output)) for op in net.graph.ops()
    ]


def _facts(net: CompiledNetwork, op: Op, step: Step | None, within: TensorId | None) -> OpFacts:
    graph = net.graph
    type, q = graph.type(op.output), graph.tensor(op.output).qparams
    constants = [t for t in dict.fromkeys(op.inputs) if graph.is_constant(t)]
    return OpFacts(
        id=op.output,
        op=op.mnemonic,
        dtype=type.dtype.value,
        shape=type.shape,
        scale=None if q is None else q.scale,
        zero_point=None if q is None else q.zero_point,
        weights_bytes=sum(graph.type(t).bytes for t in constants),
        kernels=() if step is None else step.kernels,
        within=within,
    )
