"""The machines of AArch64: plain, with sdot (dotprod of ARMv8.2), with smmla (i8mm of ARMv8.6)."""

from __future__ import annotations

from dataclasses import replace

from qcomp.targets.cpu.arm import matmul, matmul_words
from qcomp.targets.cpu.arm.attention import LookedUpWeights
from qcomp.targets.cpu.arm.dot import NEON, Sdot, SmullPairs
from qcomp.targets.cpu.arm.elementwise import neon_body
from qcomp.targets.cpu.arm.epilogue import NeonEpilogue
from qcomp.targets.cpu.arm.i16.curves import PairedCurves
from qcomp.targets.cpu.arm.i16.elementwise import neon_body as neon_body_16
from qcomp.targets.cpu.arm.i16.layers import by_matrices, by_planes, by_words, taps
from qcomp.targets.cpu.arm.linux import emit_supports_on_linux
from qcomp.targets.cpu.arm.requantize import neon_requantize
from qcomp.targets.cpu.arm.smmla import BY_EIGHTS, Smmla
from qcomp.targets.cpu.arm.softmax import LookedUpRows
from qcomp.targets.cpu.arm.table import TblTables
from qcomp.targets.cpu.emit.gemm_vectors import VectorGemms
from qcomp.targets.cpu.emit.tile_products import EachStep
from qcomp.targets.cpu.generic.machine import portable
from qcomp.targets.cpu.kernels.depthwise_layout import Blocks
from qcomp.targets.cpu.kernels.depthwise_tiling import DepthwiseCosts, DepthwisePlanning
from qcomp.targets.cpu.kernels.gemm import BY_FOURS
from qcomp.targets.cpu.kernels.tiling import GemmCosts, Pipes, TileRegisters
from qcomp.targets.cpu.machine import Fusion, Machine, Rates

CLOCK = "llvm.readsteadycounter"  # the virtual counter

# Two vector pipes and two loads a cycle, four instructions, of which a load of 16 bytes counts as
# two: Cortex-A76, A78, A710, by their guides and LLVM's model of Neoverse N1. An activation of 16
# bytes serves four groups of k. LLVM needs a register more than the tile, else it spills sums.
_GEMM = GemmCosts(
    NEON,
    most_vectors=8,
    registers=TileRegisters(
        sums=1,
        pixels=1,
        pixel=1,
        narrower=0,
        weights=4,
        spare=4,
        shuffled=2,
    ),
    pipes=(
        Pipes(2, sums=1, shuffled=1),
        Pipes(8, pixels=1, vectors=4),
        Pipes(16, sums=4, pixels=2, vectors=8),
    ),
    latency=1.0,  # of the accumulator
    epilogue=7.5,
    tile=12.0,
    pixel=3.0,
    unrolled=256,
    trip=128,
    far_weights=1 << 18,
    scratch=0,  # not measured
    half_panels=True,
)
# One pipe that multiplies and another that adds and copies: Cortex-A72, by its guide and LLVM's
# model of Cortex-A57. Of a step, two products, one sum, and an activation in every lane.
_PAIRS_GEMM = replace(
    _GEMM,
    most_vectors=4,
    registers=replace(_GEMM.registers, sums=2, pixel=3, weights=2),
    pipes=(
        Pipes(1, sums=2),
        Pipes(2, sums=3, pixels=1, shuffled=1),
        Pipes(6, sums=6, pixels=3, vectors=3),
    ),
    epilogue=9.0,
    pixel=0.0,
    unrolled=100,
    trip=32,
)
# Four pipes that multiply matrices and rearrange, three loads a cycle: Cortex-X1, by its guide and
# LLVM's model of Neoverse V1; A710 has as many loads for two such pipes, and waits for none. A step
# is eight k; activations are zipped, two pixels of two steps.
_MATRIX_GEMM = replace(
    _GEMM,
    registers=replace(_GEMM.registers, pixels=2, weights=2, spare=2),
    pipes=(
        Pipes(4, sums=1, pixels=0.5),
        Pipes(2.4, pixels=0.5, vectors=2),
        Pipes(8, sums=1, pixels=1, vectors=2),
    ),
    epilogue=4.5,
    tile=6.0,
    pixel=1.5,
    unrolled=128,
    trip=32,
    overlapped=True,
)
_DEPTHWISE = DepthwiseCosts(
    NEON,
    dot=1,
    widen=0,
    epilogue=17,
    constants=14,
    tile=16,
    per_cycle=3,
    dots_per_cycle=2,
    loads_per_cycle=2,
    kept=5,
    carried=8,
    spill=0.25,
    instruction_bytes=4,
    bytes_per_cycle=8,
)


# Vectors lie side by side, so that ldp loads two of weights.
_BLOCKS = Blocks(16, ((16, 1.0), (8, 0.7)), 0.06)


def neon() -> Machine:
    """Of every AArch64 processor: products by pairs of steps, narrow epilogues with additions."""
    return replace(
        portable(NEON, _DEPTHWISE, CLOCK),
        products=SmullPairs(),
        requantize=neon_requantize,
        narrow=NeonEpilogue,
        fusions=frozenset({Fusion.RESIDUAL}),
        unclamped=True,
        elementwise=neon_body,
        tables=TblTables(),
        softmax=LookedUpRows(),
        rows=LookedUpWeights(),
        matmul=matmul_words.emit_matmul,
        elementwise_16=neon_body_16,
        curves=PairedCurves(),
        blocks=_BLOCKS,
        gemms=(VectorGemms(BY_FOURS, _PAIRS_GEMM),),
        taps=True,
        products_16=by_words,
        taps_16=taps,
        ceilings_16=False,
    )


def dotprod() -> Machine:
    """And sdot; lookups join epilogues, for which tiles of `SmullPairs` leave no registers."""
    return replace(
        neon(),
        dot=Sdot(NEON),
        products=EachStep(Sdot(NEON)),
        fusions=frozenset({Fusion.RESIDUAL, Fusion.LOOKUP}),
        gemms=(VectorGemms(BY_FOURS, _GEMM),),
        depthwise=DepthwisePlanning(_DEPTHWISE, _DEPTHWISE),
        taps=False,
        products_16=by_planes,
        matmul=matmul.emit_matmul,
        rates=Rates(macs=24.0, macs_16=6.0, results_16=0.2),
        supports=emit_supports_on_linux,
    )


def i8mm() -> Machine:
    """And smmla, for matrices; depthwise layers stay with sdot."""
    return replace(
        dotprod(),
        products=Smmla(),
        gemms=(VectorGemms(BY_EIGHTS, _MATRIX_GEMM),),
        products_16=by_matrices,
        rates=Rates(macs=48.0, macs_16=12.0, results_16=0.2),
    )
