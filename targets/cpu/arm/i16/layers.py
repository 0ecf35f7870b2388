"""Which kernel a layer with weights and 16 bits at either side gets on AArch64."""

from __future__ import annotations

from qcomp.targets.cpu.arm.i16.planes import MOST_PRODUCTS, Planes, most_pixels
from qcomp.targets.cpu.arm.i16.products import TiledProducts
from qcomp.targets.cpu.arm.i16.scale import in_words
from qcomp.targets.cpu.arm.i16.tiling import best_tiling, best_vectors, planes_of
from qcomp.targets.cpu.arm.i16.words import MOST_PIXELS, Words
from qcomp.targets.cpu.emit.builder import I32
from qcomp.targets.cpu.emit.i16.spec import LayerConstants, ProductSpec
from qcomp.targets.cpu.machine import Isa


def by_words(spec: ProductSpec, layer: LayerConstants, isa: Isa) -> TiledProducts:
    """Of every AArch64 processor."""
    tiling = best_tiling(spec, MOST_PIXELS, step=4.0, pixel=1.0)
    return TiledProducts(tiling, Words(tiling, _in_words(spec, layer)))


def by_planes(spec: ProductSpec, layer: LayerConstants, isa: Isa) -> TiledProducts:
    """With sdot, where its sums fit i32."""
    if spec.segment_count * spec.length > MOST_PRODUCTS:
        return by_words(spec, layer, isa)
    planes = planes_of(spec)
    pixels = most_pixels(spec, best_vectors(spec))
    tiling = best_tiling(spec, pixels, step=planes, pixel=0.75 * (planes - 1))
    return TiledProducts(tiling, Planes(tiling, _in_words(spec, layer)))


def _in_words(spec: ProductSpec, layer: LayerConstants) -> bool:
    return spec.sums == I32 and in_words(layer.multiplier, layer.shift)
