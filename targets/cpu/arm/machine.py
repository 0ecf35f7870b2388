"""The machines of AArch64 with the dot products of ARMv8.2 (dotprod)."""

from __future__ import annotations

from dataclasses import replace

from qcomp.targets.cpu.arm.dot import Sdot
from qcomp.targets.cpu.arm.epilogue import NeonEpilogue
from qcomp.targets.cpu.arm.features import emit_supports
from qcomp.targets.cpu.emit.gemm_vectors import VectorGemms
from qcomp.targets.cpu.generic.machine import portable
from qcomp.targets.cpu.kernels.depthwise_tiling import DepthwiseCosts, DepthwisePlanning
from qcomp.targets.cpu.kernels.gemm import BY_FOURS
from qcomp.targets.cpu.kernels.tiling import GemmCosts, Pipes, TileRegisters
from qcomp.targets.cpu.machine import Fusion, Machine, Rates
from qcomp.targets.cpu.vectors import Vectors

NEON = Vectors(128, 32)
CLOCK = "llvm.readsteadycounter"  # the virtual counter

# Two vector pipes and two loads a cycle, four instructions: Cortex-A76, A78, A710, by their guides
# and LLVM's model of Neoverse N1. An activation of 16 bytes serves four groups of k.
_GEMM = GemmCosts(
    NEON,
    most_vectors=8,
    registers=TileRegisters(pixel=1, narrower=0, weights=0, spare=2, shuffled=2),
    pipes=(Pipes(2, sums=1, shuffled=1), Pipes(8, pixels=1, vectors=4)),
    latency=1.0,  # of the accumulator
    epilogue=7.5,
    tile=24.0,
    far_weights=1 << 18,
    scratch=0,  # not measured
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
    spill=0.5,
    instruction_bytes=4,
    bytes_per_cycle=8,
)


def dotprod() -> Machine:
    """sdot, and narrow epilogues with residual additions; the rest is generic."""
    return replace(
        portable(NEON, _DEPTHWISE, CLOCK),
        dot=Sdot(NEON),
        narrow=NeonEpilogue,
        fusions=frozenset({Fusion.RESIDUAL}),
        gemms=(VectorGemms(BY_FOURS, _GEMM),),
        depthwise=DepthwisePlanning(_DEPTHWISE, _DEPTHWISE),
        rates=Rates(macs=24.0, macs_16=6.0, results_16=0.2),
        supports=emit_supports,
    )
