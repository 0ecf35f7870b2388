"""How kernels take the steps of a row of weights of few bits apart: kernels/codes.py has them."""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value, View, raw, splat
from qcomp.targets.cpu.kernels.codes import SIGN_STEP


@dataclass(frozen=True, eq=False)
class Codes(View):
    """A pointer into a row; vectors of bytes are loaded as those of one of its steps."""

    bits: int
    step: int

    def loaded(self, b: ir.IRBuilder, stored: Value) -> Value:
        """As `multiplied`."""
        element, lanes = stored.type.element, stored.type.count
        up = 8 - self.bits * (self.step + 1)
        shifted = b.shl(stored, splat(element, lanes, up)) if up else stored
        top = b.and_(shifted, splat(element, lanes, 256 - 2 ** (8 - self.bits)))
        return b.or_(top, splat(element, lanes, SIGN_STEP)) if self.bits == 1 else top


def coded(row: Value, bits: int, step: int) -> Value:
    """The pointer to one step's weights in a row; 8 bits are a step as they lie."""
    return row if bits == 8 else Codes(raw(row), bits, step)
