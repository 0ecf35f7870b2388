"""Machines that get code in generic IR: any instruction set that LLVM knows.

Correct everywhere, fast nowhere in particular: products of 16 bits, the portable epilogue, a load
for each lookup. A family of its own starts as a copy of this record with other fields.
"""

from __future__ import annotations

from qcomp.ir.ops import Op
from qcomp.targets.cpu.emit.attention_rows import PortableRows
from qcomp.targets.cpu.emit.dot import WideningDot, sums_of_pairs
from qcomp.targets.cpu.emit.gemm_vectors import VectorGemms
from qcomp.targets.cpu.emit.i16.blocking import Blocking
from qcomp.targets.cpu.emit.i16.curves import PlainCurves
from qcomp.targets.cpu.emit.i16.depthwise import DepthwiseProducts
from qcomp.targets.cpu.emit.i16.entries import loaded_neighbours
from qcomp.targets.cpu.emit.i16.products import Products
from qcomp.targets.cpu.emit.i16.spec import LayerConstants, ProductSpec, TapSpec
from qcomp.targets.cpu.emit.matmul import emit_matmul
from qcomp.targets.cpu.emit.nest import Body
from qcomp.targets.cpu.emit.requantize import emit_requantize
from qcomp.targets.cpu.emit.shuffled import Shuffles
from qcomp.targets.cpu.emit.table import ScalarTables
from qcomp.targets.cpu.emit.tile_products import EachStep
from qcomp.targets.cpu.kernels.depthwise_layout import BY_64
from qcomp.targets.cpu.kernels.depthwise_tiling import DepthwiseCosts, DepthwisePlanning
from qcomp.targets.cpu.kernels.gemm import BY_FOURS
from qcomp.targets.cpu.kernels.tiling import GemmCosts, Pipes, TileRegisters
from qcomp.targets.cpu.machine import Isa, Machine, Rates
from qcomp.targets.cpu.storage import Storage
from qcomp.targets.cpu.vectors import Vectors


def widening_gemm_costs(vectors: Vectors) -> GemmCosts:
    """Two products and two sums for each group of k; operands are taken apart.

    As measured on an AMD EPYC with its code for SSE4.1 and AVX2.
    """
    return GemmCosts(
        vectors,
        most_vectors=vectors.count // 4,
        registers=TileRegisters(
            sums=1,
            pixels=1,
            pixel=0,
            narrower=2,
            weights=0,
            spare=3,
            shuffled=3,
        ),
        pipes=(Pipes(4, sums=4, pixels=2, vectors=3, shuffled=2),),
        latency=4.5,
        epilogue=4.0,
        tile=24.0,
        pixel=0.0,
        unrolled=256,
        trip=32,
        far_weights=1 << 18,
        scratch=0,  # stacks may be small
    )


def widening_depthwise_costs(vectors: Vectors) -> DepthwiseCosts:
    """As `widening_gemm_costs`."""
    return DepthwiseCosts(
        vectors,
        dot=4,
        widen=3,
        epilogue=14,
        constants=9,
        tile=16,
        per_cycle=4,
        dots_per_cycle=float("inf"),
        loads_per_cycle=float("inf"),
        kept=0,
        carried=0,
        spill=0.2,
        instruction_bytes=6,
        bytes_per_cycle=8,
    )


def portable(vectors: Vectors, layout: DepthwiseCosts, clock: str) -> Machine:
    """Depthwise weights lie as is best for the core of `layout`."""
    dot = WideningDot(vectors, signed=True, pairs=sums_of_pairs)
    return Machine(
        vectors=vectors,
        storage=Storage.VALUES,
        dot=dot,
        products=EachStep(dot),
        pairs=sums_of_pairs,
        requantize=emit_requantize,
        narrow=None,
        fusions=frozenset(),
        unclamped=False,
        elementwise=no_kernel,
        tables=ScalarTables(),
        elementwise_16=no_kernel,
        curves=PlainCurves(loaded_neighbours),
        softmax=None,
        softmax_16=None,
        rows=PortableRows(),
        shuffles=Shuffles((16, 8, 4), two=False),
        matmul=emit_matmul,
        gemms=(VectorGemms(BY_FOURS, widening_gemm_costs(vectors)),),
        blocks=BY_64,
        depthwise=DepthwisePlanning(layout, widening_depthwise_costs(vectors)),
        taps=False,
        products_16=products_16,
        taps_16=taps_16,
        ceilings_16=True,
        rates=Rates(macs=6.0, macs_16=6.0, results_16=0.2),
        clock=clock,
        supports=None,
        needs_permission=False,
        tile_peak=None,
    )


def products_16(spec: ProductSpec, layer: LayerConstants, isa: Isa) -> Products:
    return Products(Blocking(spec, isa))


def taps_16(spec: TapSpec, layer: LayerConstants, isa: Isa) -> DepthwiseProducts:
    return DepthwiseProducts(spec, isa)


def no_kernel(op: Op) -> Body | None:
    return None
