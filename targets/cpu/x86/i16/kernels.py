"""Which kernel a layer with 16 bits at either side gets on x86.

Where sums don't fit the arithmetic of 32 bits, or the source is stored as another machine would,
the portable one.
"""

from __future__ import annotations

from qcomp.targets.cpu.emit.i16.spec import LayerConstants, ProductSpec, TapSpec
from qcomp.targets.cpu.generic import machine as generic
from qcomp.targets.cpu.machine import Isa, Kernel16
from qcomp.targets.cpu.storage import BIAS
from qcomp.targets.cpu.x86.i16.products import TiledProducts
from qcomp.targets.cpu.x86.i16.scale import HighHalves
from qcomp.targets.cpu.x86.i16.taps import MOST_TAPS, PairedTaps


def products_16(spec: ProductSpec, layer: LayerConstants, isa: Isa) -> Kernel16:
    scale = HighHalves.of(layer, spec.source)
    if scale is None or (spec.source.width == 8 and layer.offset != BIAS):
        return generic.products_16(spec, layer, isa)
    return TiledProducts(spec, scale, isa, fused=_fused(isa))


def taps_16(spec: TapSpec, layer: LayerConstants, isa: Isa) -> Kernel16:
    scale = HighHalves.of(layer, spec.source)
    unsigned = spec.source.width == 16 or layer.offset == BIAS
    if scale is None or not unsigned or spec.kernel[0] * spec.kernel[1] > MOST_TAPS:
        return generic.taps_16(spec, layer, isa)
    return PairedTaps(spec, scale, isa, fused=_fused(isa))


def _fused(isa: Isa) -> bool:
    """Sets with vpdpbusd have vpdpwssd."""
    return not isa.machine.dot.widens
