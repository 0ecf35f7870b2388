"""What a program does, op by op, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qcomp.ir.tensor import TensorId
from qcomp.targets.base import Step
from qcomp.targets.cpu.layout import kernels_by_op
from qcomp.targets.cpu.program import Program
from qcomp.targets.memory import Lifetime


def steps_of(program: Program) -> list[Step]:
    """The copied inputs and all ops that are not computed in another's code, in order."""
    graph, kernels = program.graph, kernels_by_op(program)
    lifetimes = {life.name: life for life in program.memory.lifetimes}
    absorbed = set(program.results.values())
    ops = [op.output for op in graph.ops() if op.output not in absorbed]
    every = (*graph.inputs.values(), *ops)
    return [_step(program, lifetimes, op, kernels.get(op, ())) for op in every]


def _step(
    program: Program, lifetimes: Mapping[str, Lifetime], op: TensorId, kernels: Sequence[str]
) -> Step:
    result = program.results.get(op, op)
    lives = [lifetimes[name] for name in program.buffers.get(result, ())]
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
