"""How the code of a graph is put together: what a target tells people of it."""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.ir.tensor import TensorId


@dataclass(frozen=True)
class Held:
    """Bytes [offset, offset + bytes) of the arena that hold something from step `first` to `last`.

    Step n is the n-th op of the graph, from 1; 0 is before all of them, the last behind.
    """

    name: str
    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Step:
    """How an op is computed, or an input copied: by kernels of these kinds, in order.

    There are none where the result is a view of its operand.

    op: its id, or that of the input.
    result: the tensor that is written, which is another one's where that is computed too.
    arena: the bytes [begin, end) that hold the result, with its border; several where a part of it
        after the other is computed, none where it lies in the caller's memory.
    live: the first and the last op, counted from 1, while these bytes hold it.
    """

    op: TensorId
    kernels: tuple[str, ...]
    result: TensorId
    arena: tuple[tuple[int, int], ...]
    live: tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """The code for one instruction set.

    steps: the copied inputs and the ops that are not computed in another's code, in order.
    held: who has which bytes of the arena, and when.
    """

    isa: str
    steps: tuple[Step, ...]
    held: tuple[Held, ...]
    arena: int
