"""Which kernel a layer with weights and 16 bits at either side gets on AArch64."""

from __future__ import annotations

from qcomp.targets.cpu.arm.i16.planes import MOST_PRODUCTS, Planes, most_pixels
from qcomp.targets.cpu.arm.i16.products import TiledProducts, TileSums
from qcomp.targets.cpu.arm.i16.results import Results
from qcomp.targets.cpu.arm.i16.scale import Scaling
from qcomp.targets.cpu.arm.i16.taps import CHANNELS, MOST_TAPS, Taps
from qcomp.targets.cpu.arm.i16.tiling import Tiling, best_tiling, best_vectors, planes_of
from qcomp.targets.cpu.arm.i16.words import MOST_PIXELS, Words
from qcomp.targets.cpu.emit.i16.depthwise import DepthwiseProducts
from qcomp.targets.cpu.emit.i16.spec import LayerConstants, ProductSpec, TapSpec
from qcomp.targets.cpu.machine import Isa


def by_words(spec: ProductSpec, layer: LayerConstants, isa: Isa) -> TiledProducts:
    """Of every AArch64 processor."""
    tiling = best_tiling(spec, MOST_PIXELS, step=4.0, pixel=1.0)
    return _kernel(tiling, Words(tiling, Scaling.of(spec.sums, layer)), layer)


def by_planes(spec: ProductSpec, layer: LayerConstants, isa: Isa) -> TiledProducts:
    """With sdot, where its sums fit i32."""
    if spec.segment_count * spec.length > MOST_PRODUCTS:
        return by_words(spec, layer, isa)
    planes = planes_of(spec)
    pixels = most_pixels(spec, best_vectors(spec))
    tiling = best_tiling(spec, pixels, step=planes, pixel=0.75 * (planes - 1))
    return _kernel(tiling, Planes(tiling, Scaling.of(spec.sums, layer)), layer)


def _kernel(tiling: Tiling, sums: TileSums, layer: LayerConstants) -> TiledProducts:
    return TiledProducts(tiling, sums, Results.of(layer.requantize, tiling.spec.result))


def taps(spec: TapSpec, layer: LayerConstants, isa: Isa) -> Taps | DepthwiseProducts:
    """By eight channels where there are so many, and taps that straight code does."""
    few = spec.kernel[0] * spec.kernel[1] <= MOST_TAPS
    if spec.channels < CHANNELS or not few:
        return DepthwiseProducts(spec, isa)
    return Taps(spec, Scaling.of(spec.sums, layer), Results.of(layer.requantize, spec.result))
