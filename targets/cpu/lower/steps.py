"""What a program does, op by op, for people."""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.ir.tensor import TensorId
from qcomp.targets.base import Step
from qcomp.targets.cpu.program import Program


def steps_of(program: Program) -> list[Step]:
    """The copied inputs and all ops that are not computed in another's code, in order."""
    graph = program.graph
    kernels: dict[TensorId, dict[str, None]] = {}
    for call in program.calls:
        kernels.setdefault(call.op, {})[_kind(program.prefix, call.kernel)] = None
    absorbed = set(program.results.values())
    ops = [op.output for op in graph.ops() if op.output not in absorbed]
    return [_step(program, op, tuple(kernels.get(op, ()))) for op in (*graph.inputs.values(), *ops)]


def _kind(prefix: str, kernel: str) -> str:
    """Kernels are called PREFIX_KIND_NUMBER."""
    return kernel.removeprefix(f"{prefix}_").rpartition("_")[0]


def _step(program: Program, op: TensorId, kernels: Sequence[str]) -> Step:
    result = program.results.get(op, op)
    lives = [program.lifetimes[name] for name in program.buffers.get(result, ())]
    begins = [program.memory.offsets[life.name] for life in lives]
    return Step(
        op=op,
        kernels=tuple(kernels),
        result=result,
        arena=tuple((at, at + life.bytes) for at, life in zip(begins, lives, strict=True)),
        live=(
            min((life.first for life in lives), default=0),
            max((life.last for life in lives), default=0),
        ),
    )
