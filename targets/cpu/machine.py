"""What emitters and lowering ask a machine: one frozen record for each, whatever its family.

Emitters know no instruction set. Where machines differ, a field of `Machine` says how: instructions
(dot products, the narrow epilogue, tables, elementwise ops), what fuses, which families of matrix
kernels there are, by which costs plans are made. A family (`x86/`, `arm/`, `generic/`) makes such
records; `Isa` names one, with what LLVM has to know.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from qcomp.ir.ops import Op
from qcomp.ir.tensor import Array
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.attention_rows import RowInstructions
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.dot import DotProduct
from qcomp.targets.cpu.emit.i16.curves import Curves
from qcomp.targets.cpu.emit.i16.spec import LayerConstants, ProductSpec, TapSpec
from qcomp.targets.cpu.emit.narrow import MakeNarrow
from qcomp.targets.cpu.emit.nest import Body
from qcomp.targets.cpu.emit.requantize import EmitRequantize
from qcomp.targets.cpu.emit.shuffled import Shuffles
from qcomp.targets.cpu.emit.softmax import SoftmaxRows
from qcomp.targets.cpu.emit.table import ByteTables
from qcomp.targets.cpu.emit.tile_products import TileProducts
from qcomp.targets.cpu.kernels.depthwise_layout import Blocks
from qcomp.targets.cpu.kernels.depthwise_tiling import DepthwisePlanning
from qcomp.targets.cpu.kernels.gemm import GemmSpec, Packing, Touched
from qcomp.targets.cpu.kernels.matmul import MatMulSpec
from qcomp.targets.cpu.platform import Platform
from qcomp.targets.cpu.storage import Storage
from qcomp.targets.cpu.vectors import Vectors


class Fusion(enum.Enum):
    """What a narrow epilogue can do to a result besides requantizing it."""

    RESIDUAL = "residual addition"
    LOOKUP = "table of 256 entries"


class GemmKernel(Protocol):
    """One way to compute a layer, planned: what it costs, and its code."""

    @property
    def spec(self) -> GemmSpec: ...

    @property
    def cost(self) -> float:
        """Cycles, in the unit of all families of a machine."""

    @property
    def by_channels(self) -> bool:
        """Whether a unit is a block of channels, else pixels."""

    @property
    def units(self) -> int: ...

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Units [begin, end); pointers of `gemm_blocks.over_blocks`."""

    def touched(self) -> Touched:
        """What units of pixels read and write."""


class GemmFamily(Protocol):
    """Kernels that want weights packed in one way."""

    @property
    def packing(self) -> Packing: ...

    def kernel(self, spec: GemmSpec, isa: Isa) -> GemmKernel | None:
        """The cheapest for a layer, None where the family is not for it."""


class Kernel16(Protocol):
    """The code of a layer with weights and 16 bits at either side."""

    @property
    def key(self) -> Hashable:
        """All that the code depends on."""

    @property
    def units(self) -> int: ...

    def constants(self, layer: LayerConstants) -> Sequence[Array]:
        """Weights, bias, multiplier, shift and any ceiling as the code reads them."""

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Pointers: source, result, the constants, limits (as Saturation). Ends the function."""


class EmitMatMul(Protocol):
    """The code of a product of two activations of 8 bits."""

    def __call__(
        self,
        b: ir.IRBuilder,
        spec: MatMulSpec,
        isa: Isa,
        left: Value,
        right: Value,
        result: Value,
        /,
    ) -> None:
        """Ends the function."""


@dataclass(frozen=True)
class Rates:
    """What kernels reach on machines of today, per nanosecond and i32 lane.

    They decide what is worth being shared by threads, and rank choices of bits.

    macs: products; macs_16: with activations of 16 bits.
    results_16: results where source or result has 16; else they take the time of their bytes.
    """

    macs: float
    macs_16: float
    results_16: float


@dataclass(frozen=True)
class Machine:
    """How a machine does what machines do differently."""

    vectors: Vectors
    storage: Storage
    dot: DotProduct
    products: TileProducts  # of matrix kernels in vector registers
    pairs: Callable[[ir.IRBuilder, Value, Value], Value]  # sums_of_pairs, of whole vectors
    requantize: EmitRequantize  # of any form, a vector at a time
    narrow: MakeNarrow | None  # None: by `requantize`
    fusions: frozenset[Fusion]  # of the narrow epilogue
    unclamped: bool  # whether there are kernels for the limits of i8 and for its least zero point
    elementwise: Callable[[Op], Body | None]  # on bytes as they are stored, a vector at a time
    tables: ByteTables
    elementwise_16: Callable[[Op], Body | None]  # with 16 bits at either side
    curves: Curves
    softmax: SoftmaxRows | None
    softmax_16: SoftmaxRows | None  # of i8, with results of 16 bits
    rows: RowInstructions  # of the weights of an attention
    shuffles: Shuffles
    matmul: EmitMatMul
    gemms: tuple[GemmFamily, ...]
    blocks: Blocks  # of depthwise layers
    depthwise: DepthwisePlanning
    taps: bool  # whether they multiply tap by tap in 16 bits, and not by `dot`
    products_16: Callable[[ProductSpec, LayerConstants, Isa], Kernel16]
    taps_16: Callable[[TapSpec, LayerConstants, Isa], Kernel16]  # of depthwise layers
    ceilings_16: bool  # whether these two bound results by channel
    rates: Rates
    clock: str  # LLVM's intrinsic for a counter of (nearly) constant rate
    # i1: whether the processor that runs this code has the features; None: each of its kind has.
    supports: Callable[[ir.IRBuilder, Isa], Value] | None
    needs_permission: bool  # the kernel must be asked before registers of it are used
    # Products of tile registers, over and over: (memory, begin, end) -> products of a trip.
    tile_peak: Callable[[ir.IRBuilder, Value, Value, Value], float] | None


@dataclass(frozen=True)
class Isa:
    """An instruction set: LLVM's names for it, and its machine."""

    name: str
    platform: Platform
    features: str
    machine: Machine
    tuning: str = ""  # what LLVM is to prefer, written as features; no processor must have it

    @property
    def triple(self) -> str:
        return self.platform.triple

    @property
    def required(self) -> tuple[str, ...]:
        """The features that a processor must have, by LLVM's names."""
        return tuple(f[1:] for f in self.features.split(",") if f)

    @property
    def vector_bits(self) -> int:
        return self.machine.vectors.bits

    @property
    def lanes(self) -> int:
        """32-bit accumulators in one vector."""
        return self.machine.vectors.lanes

    @property
    def registers(self) -> int:
        return self.machine.vectors.count
