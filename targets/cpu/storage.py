"""How activations are stored."""

from __future__ import annotations

import enum

BIAS = 128  # what is added to i8 activations where they are stored unsigned


class Storage(enum.Enum):
    """How i8 activations lie in the arena. The caller's tensors are values, always."""

    VALUES = 0
    BIASED = BIAS  # u8, value + BIAS: for dot products that want one operand unsigned
