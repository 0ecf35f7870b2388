"""The machines of x86-64 with SSE4.1 and more.

All store i8 activations as value + BIAS, since vpdpbusd wants one operand unsigned, and narrow sums
by saturating packs.
"""

from __future__ import annotations

from dataclasses import replace

from qcomp.targets.cpu.emit.dot import DotProduct
from qcomp.targets.cpu.emit.gemm_vectors import VectorGemms
from qcomp.targets.cpu.emit.i16.curves import PlainCurves
from qcomp.targets.cpu.emit.i16.entries import loaded_neighbours
from qcomp.targets.cpu.emit.matmul import emit_matmul
from qcomp.targets.cpu.emit.requantize import emit_requantize
from qcomp.targets.cpu.emit.shuffled import Shuffles
from qcomp.targets.cpu.emit.tile_products import EachStep
from qcomp.targets.cpu.generic.machine import (
    no_kernel,
    widening_depthwise_costs,
    widening_gemm_costs,
)
from qcomp.targets.cpu.kernels.codes import SCRATCH
from qcomp.targets.cpu.kernels.depthwise_layout import BY_64
from qcomp.targets.cpu.kernels.depthwise_tiling import DepthwiseCosts, DepthwisePlanning
from qcomp.targets.cpu.kernels.gemm import BY_FOURS
from qcomp.targets.cpu.kernels.tiling import GemmCosts, Pipes, TileRegisters
from qcomp.targets.cpu.machine import Fusion, Machine, Rates
from qcomp.targets.cpu.storage import Storage
from qcomp.targets.cpu.vectors import Vectors
from qcomp.targets.cpu.x86 import intrinsics as x86
from qcomp.targets.cpu.x86.amx import TileGemms
from qcomp.targets.cpu.x86.attention import PermutedWeights, ShuffledWeights
from qcomp.targets.cpu.x86.cpuid import emit_supports
from qcomp.targets.cpu.x86.dot import Madd, Vnni
from qcomp.targets.cpu.x86.epilogue import PackedEpilogue
from qcomp.targets.cpu.x86.i16.curves import PermutedCurves
from qcomp.targets.cpu.x86.i16.gather import gathered_neighbours
from qcomp.targets.cpu.x86.i16.kernels import products_16, taps_16
from qcomp.targets.cpu.x86.i16.softmax import PermutedWideRows
from qcomp.targets.cpu.x86.packed import packed_body
from qcomp.targets.cpu.x86.softmax import PermutedRows
from qcomp.targets.cpu.x86.table import PermutedTables, ShuffledTables
from qcomp.targets.cpu.x86.tiles import Tiles, tile_products

XMM, YMM, ZMM = Vectors(128, 16), Vectors(256, 16), Vectors(512, 32)
CLOCK = "llvm.readcyclecounter"  # the time stamp counter


def _vnni_gemm_costs(vectors: Vectors) -> GemmCosts:
    """Two vector pipes and two loads a cycle, as measured on an AMD EPYC with AVX-512."""
    return GemmCosts(
        vectors,
        most_vectors=vectors.count // 2 - 2,
        registers=TileRegisters(
            sums=1,
            pixels=1,
            pixel=0,
            narrower=0,
            weights=4,
            spare=1,
            shuffled=2,
        ),
        pipes=(Pipes(2, sums=1, shuffled=1), Pipes(2, pixels=1, vectors=1)),
        latency=4.5,
        epilogue=4.0,
        tile=24.0,
        pixel=0.0,
        unrolled=256,
        trip=32,
        far_weights=1 << 18,
        scratch=SCRATCH,
    )


def _vnni_depthwise_costs(vectors: Vectors) -> DepthwiseCosts:
    """Four vector pipes, of which two multiply and two shuffle, and two loads a cycle."""
    return DepthwiseCosts(
        vectors,
        dot=1,
        widen=0,
        epilogue=14,
        constants=9,
        tile=16,
        per_cycle=4,
        dots_per_cycle=3,
        loads_per_cycle=2,
        kept=0,
        carried=0,
        spill=0.2,
        instruction_bytes=6,
        bytes_per_cycle=8,
    )


LAYOUT = _vnni_depthwise_costs(ZMM)  # by which the weights of all variants of a library lie


def madd(vectors: Vectors) -> Machine:
    """Of SSE4.1 and AVX2."""
    return _machine(
        vectors,
        Madd(vectors),
        replace(widening_gemm_costs(vectors), scratch=SCRATCH),
        widening_depthwise_costs(vectors),
        Rates(macs=12.0, macs_16=12.0, results_16=3.5),
    )


def vnni(vectors: Vectors) -> Machine:
    """Of AVX-VNNI and AVX-512 VNNI."""
    return _machine(
        vectors,
        Vnni(vectors),
        _vnni_gemm_costs(vectors),
        _vnni_depthwise_costs(vectors),
        Rates(macs=24.0, macs_16=15.0, results_16=1.7),
    )


def with_permutes(machine: Machine) -> Machine:
    """And AVX-512 VBMI: bytes of two registers are permuted at once."""
    return replace(
        machine,
        fusions=machine.fusions | {Fusion.LOOKUP},
        tables=PermutedTables(),
        softmax=PermutedRows(),
        softmax_16=PermutedWideRows(),
        curves=PermutedCurves(),
        shuffles=Shuffles((64, 32, 16, 8, 4), two=True),
    )


def with_tiles(machine: Machine, tiles: Tiles) -> Machine:
    """And matrices of bytes in tile registers."""
    real = tiles is Tiles.AMX
    return replace(
        machine,
        gemms=(*machine.gemms, TileGemms(tiles)),
        needs_permission=real,
        rates=replace(machine.rates, macs_16=10.6, results_16=1.1),  # beside those of 8 in tiles
        tile_peak=tile_products if real else None,
    )


def _machine(
    vectors: Vectors,
    dot: DotProduct,
    gemm: GemmCosts,
    depthwise: DepthwiseCosts,
    rates: Rates,
) -> Machine:
    return Machine(
        vectors=vectors,
        storage=Storage.BIASED,
        dot=dot,
        products=EachStep(dot),
        pairs=x86.pmaddwd,
        requantize=emit_requantize,
        narrow=PackedEpilogue,
        fusions=frozenset({Fusion.RESIDUAL}),
        unclamped=True,
        elementwise=packed_body,
        tables=ShuffledTables(vectors),
        elementwise_16=no_kernel,
        curves=PlainCurves(gathered_neighbours if vectors.bits == 512 else loaded_neighbours),
        softmax=None,
        softmax_16=None,
        rows=PermutedWeights() if vectors.bits == 512 else ShuffledWeights(vectors),
        shuffles=Shuffles((16, 8, 4), two=False),
        matmul=emit_matmul,
        gemms=(VectorGemms(BY_FOURS, gemm),),
        blocks=BY_64,
        depthwise=DepthwisePlanning(LAYOUT, depthwise),
        taps=False,
        products_16=products_16,
        taps_16=taps_16,
        ceilings_16=True,
        rates=rates,
        clock=CLOCK,
        supports=emit_supports,
        needs_permission=False,
        tile_peak=None,
    )
