"""What a program tells of its layout: the kernels of each op, and who holds the arena when."""

from __future__ import annotations

import re

from qcomp.ir.tensor import TensorId
from qcomp.targets.base import Held, Layout
from qcomp.targets.cpu.program import Program


def layout_of(program: Program) -> Layout:
    """Of one instruction set."""
    plan = program.memory
    held = [
        Held(life.name, plan.offsets[life.name], life.bytes, life.first, life.last)
        for life in plan.lifetimes
    ]
    return Layout(
        program.isa.name,
        kernels_by_op(program),
        tuple(sorted(held, key=lambda h: (h.first, h.offset))),
        plan.arena_bytes,
    )


def kernels_by_op(program: Program) -> dict[TensorId, tuple[str, ...]]:
    """Kernels go by their kind: one kind has a function for each shape class."""
    kernels: dict[TensorId, dict[str, None]] = {}
    for call in program.calls:
        kernels.setdefault(call.op, {})[_kind(program, call.kernel)] = None
    return {op: tuple(names) for op, names in kernels.items()}


def _kind(program: Program, kernel: str) -> str:
    """`gemm` of `net_gemm_3`."""
    return re.sub(r"_\d+$", "", kernel.removeprefix(f"{program.prefix}_"))
