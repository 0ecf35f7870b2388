"""What a program tells of its layout: how each op is computed, and who holds the arena when."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from qcomp.ir.tensor import TensorId
from qcomp.targets.cpu.program import Program
from qcomp.targets.layout import Held, Layout, Step
from qcomp.targets.memory import Lifetime


def layout_of(program: Program) -> Layout:
    """Of one instruction set."""
    plan = program.memory
    held = [
        Held(life.name, plan.offsets[life.name], life.bytes, life.first, life.last)
        for life in plan.lifetimes
    ]
    return Layout(
        program.isa.name,
        tuple(_steps(program)),
        tuple(sorted(held, key=lambda h: (h.first, h.offset))),
        plan.arena_bytes,
    )


def _steps(program: Program) -> list[Step]:
    graph, kernels = program.graph, _kernels_by_op(program)
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


def _kernels_by_op(program: Program) -> dict[TensorId, tuple[str, ...]]:
    """Kernels go by their kind: one kind has a function for each shape class."""
    kernels: dict[TensorId, dict[str, None]] = {}
    for call in program.calls:
        kernels.setdefault(call.op, {})[_kind(program, call.kernel)] = None
    return {op: tuple(names) for op, names in kernels.items()}


def _kind(program: Program, kernel: str) -> str:
    """`gemm` of `net_gemm_3`."""
    return re.sub(r"_\d+$", "", kernel.removeprefix(f"{program.prefix}_"))
