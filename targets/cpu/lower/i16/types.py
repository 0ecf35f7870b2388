"""Which ops have kernels of their own for 16 bits, and the types that these work on."""

from __future__ import annotations

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.tensor import DType
from qcomp.targets.cpu import llvm_ir as ir


def is_i16(graph: Graph, op: Op) -> bool:
    """Whether an operand or the result has 16 bits."""
    return any(graph.type(t).dtype is DType.I16 for t in (*op.inputs, op.output))


def bytes_of(type: ir.IntType) -> int:
    width: int = type.width
    return width // 8
