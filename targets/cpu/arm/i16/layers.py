"""Which kernel a layer with weights and 16 bits at either side gets on AArch64."""

from __future__ import annotations

from qcomp.targets.cpu.arm.dot import SdotRows, SmullPairs
from qcomp.targets.cpu.arm.i16.planes import MOST_PRODUCTS, Planes, most_pixels
from qcomp.targets.cpu.arm.i16.products import TiledProducts, TileSums
from qcomp.targets.cpu.arm.i16.results import Results
from qcomp.targets.cpu.arm.i16.scale import Scaling
from qcomp.targets.cpu.arm.i16.taps import CHANNELS, MOST_TAPS, Taps
from qcomp.targets.cpu.arm.i16.tiling import Tiling, best_tiling, best_vectors, planes_of
from qcomp.targets.cpu.arm.i16.words import MOST_PIXELS, Words
from qcomp.targets.cpu.arm.smmla import BY_EIGHTS, Smmla
from qcomp.targets.cpu.emit.i16.depthwise import DepthwiseProducts
from qcomp.targets.cpu.emit.i16.spec import LayerConstants, ProductSpec, TapSpec
from qcomp.targets.cpu.machine import Isa

_PAIR_REGISTERS = 30  # of sums and of activations that smull multiplies


def by_words(spec: ProductSpec, layer: LayerConstants, isa: Isa) -> TiledProducts:
    """Of every AArch64 processor: activations of 8 bits, where two products fit 16, as bytes."""
    if _few(spec) and planes_of(spec) == 1 and (layer.weight != -128).all():
        return _by_pairs(spec, layer)
    tiling = best_tiling(spec, MOST_PIXELS, step=4.0, pixel=1.0)
    return _kernel(tiling, Words(tiling, Scaling.of(spec.sums, layer)), layer)


def _by_pairs(spec: ProductSpec, layer: LayerConstants) -> TiledProducts:
    """By smull, smlal and sadalp."""
    products, vectors = SmullPairs(), best_vectors(spec)
    most = max(1, _PAIR_REGISTERS // (products.parts * vectors + 3))
    tiling = best_tiling(spec, most, step=3.0, pixel=1.25)
    return _kernel(tiling, Planes(tiling, Scaling.of(spec.sums, layer), products), layer)


def _few(spec: ProductSpec) -> bool:
    """Whether the sums of a plane fit i32."""
    return spec.segment_count * spec.length <= MOST_PRODUCTS


def by_planes(spec: ProductSpec, layer: LayerConstants, isa: Isa) -> TiledProducts:
    """With sdot, where its sums fit i32."""
    if not _few(spec):
        return by_words(spec, layer, isa)
    planes = planes_of(spec)
    pixels = most_pixels(spec, best_vectors(spec))
    tiling = best_tiling(spec, pixels, step=planes, pixel=0.75 * (planes - 1))
    return _kernel(tiling, Planes(tiling, Scaling.of(spec.sums, layer), SdotRows()), layer)


def by_matrices(spec: ProductSpec, layer: LayerConstants, isa: Isa) -> TiledProducts:
    """With smmla, where there are two pixels: of one it would do half of its work for nothing."""
    many = spec.shared or spec.columns.count > 1
    if not (many and _few(spec)):
        return by_planes(spec, layer, isa)
    planes, products = planes_of(spec), Smmla()
    pixels = most_pixels(spec, best_vectors(spec))
    tiling = best_tiling(
        spec,
        max(pixels - pixels % products.pixels, products.pixels),
        step=planes,
        pixel=0.75 * planes,
        group=BY_EIGHTS.group,
        together=products.pixels,
    )
    return _kernel(tiling, Planes(tiling, Scaling.of(spec.sums, layer), products), layer)


def _kernel(tiling: Tiling, sums: TileSums, layer: LayerConstants) -> TiledProducts:
    return TiledProducts(tiling, sums, Results.of(layer.requantize, tiling.spec.result))


def taps(spec: TapSpec, layer: LayerConstants, isa: Isa) -> Taps | DepthwiseProducts:
    """By eight channels where there are so many, and taps that straight code does."""
    few = spec.kernel[0] * spec.kernel[1] <= MOST_TAPS
    if spec.channels < CHANNELS or not few:
        return DepthwiseProducts(spec, isa)
    return Taps(spec, Scaling.of(spec.sums, layer), Results.of(layer.requantize, spec.result))
