"""How many bytes a layer's weights take in a library, told from their shape: for budgets.

Matrix products pad channels to panels and neighbouring k to steps, and steps of few bits share
rows. Depthwise layers have 8 bits, whatever their integers are.
"""

from __future__ import annotations

import math

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.emit.gemm import Axis, GemmSpec, Packing, with_joined_ends

_PARAMETERS = 12  # bytes of a channel: bias, multiplier, shift
_ONE = Axis(1, 0, 0)


def stored_bytes(shape: tuple[int, ...], groups: int, bits: int, packing: Packing) -> int:
    """Weights [O, ...] and their channels' parameters; dilated kernels may take a few more."""
    outputs, *kernel, depth = shape
    each = outputs // groups
    if groups > 1 and each == depth == 1:
        return outputs * math.prod(kernel) + _PARAMETERS * outputs
    together = groups if each < packing.panel else 1  # groups of few channels share panels
    height, width = kernel or (1, 1)
    spec = GemmSpec(
        groups=Axis(groups // together, 0, 0),
        batch=_ONE,
        rows=_ONE,
        columns=_ONE,
        segments=((height, 0),) if height > 1 else (),
        length=width * depth,
        channels=together * each,
        form=Form.NARROW,
        packing=packing,
        weight_bits=_width(bits, width * depth, packing.group),
    )
    panel = (with_joined_ends(spec) or spec).panel_bytes
    parameters = _PARAMETERS * spec.padded_channels
    return spec.groups.count * (spec.panels * panel + parameters)


def _width(bits: int, length: int, group: int) -> int:
    """Of a code; one bit has no zeros, to fill steps up with."""
    return next(n for n in (1, 2, 4, 8) if n >= bits and (n > 1 or length % group == 0))
