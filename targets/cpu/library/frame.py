"""Where the addresses of a program lie while its entry point runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value, at
from qcomp.targets.cpu.program import Address, Arena, Argument, Data


@dataclass(frozen=True, eq=False)
class Frame:
    """The pointers that an entry point has; `offsets` places the buffers in the arena.

    `tap` is the function that is told of tensors, null for none, and its user, of code with taps.
    """

    inputs: Sequence[Value]
    outputs: Sequence[Value]
    arena: Value
    data: Value
    offsets: Mapping[str, int]
    tap: tuple[Value, Value] | None = None

    @property
    def pointers(self) -> list[Value]:
        return [*self.inputs, *self.outputs, self.arena, self.data]

    def with_pointers(self, pointers: Sequence[Value]) -> Frame:
        """The same frame in another function, which has got its `pointers`."""
        *arrays, arena, data = pointers
        count = len(self.inputs)
        return Frame(arrays[:count], arrays[count:], arena, data, self.offsets)

    def pointer(self, b: ir.IRBuilder, where: Address) -> Value:
        match where:
            case Arena(buffer, offset, _):
                return at(b, self.arena, self.offsets[buffer] + offset)
            case Data(offset, _):
                return at(b, self.data, offset)
            case Argument(index, is_output, offset, _):
                return at(b, (self.outputs if is_output else self.inputs)[index], offset)
