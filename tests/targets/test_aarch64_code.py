"""The code for AArch64: what inner loops consist of, and how tiles are cut."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from llvmlite import binding as llvm

from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    QConv2d,
    QDense,
)
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.gemm_vectors import VectorGemm
from qcomp.targets.cpu.isa import AARCH64, AARCH64_DOTPROD, AARCH64_I8MM, target_machine
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.kernels.depthwise_layout import DepthwiseSpec
from qcomp.targets.cpu.kernels.depthwise_tiling import plan_taps, runs_of, tile_of
from qcomp.targets.cpu.kernels.gemm import GemmSpec
from qcomp.targets.cpu.lower.graph import function_attributes, lower_graph
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.measure.peaks import emit_dots
from qcomp.targets.cpu.program import Kernels
from tests.targets.aarch64 import (
    each_set,
)
from tests.targets.every_kind import linear


def loops(isa: Isa, module: ir.Module) -> list[list[str]]:
    """The instructions of each loop without another in it, from its label to its branch."""
    parsed = llvm.parse_assembly(str(module))
    lines = target_machine(isa.triple).emit_assembly(parsed).splitlines()
    labels, found = {}, []
    for n, line in enumerate(lines):
        words = line.split()
        if line.startswith(".LBB"):
            labels[words[0].rstrip(":")] = n
        elif words and words[0].startswith("b.") and words[-1] in labels:
            body = lines[labels[words[-1]] + 1 : n + 1]
            if not any(inner.startswith(".LBB") for inner in body):
                found.append([inner.split("//")[0].strip() for inner in body])
    return found


# What multiplies and adds, and its share of the innermost loop; the rest are loads and copies.
PRODUCTS = {
    AARCH64: (("smull", "smlal", "sadalp"), 0.7),
    AARCH64_DOTPROD: (("sdot",), 0.8),
    # A register of weights has two channels: of four pixels by sixteen channels, 16 k, 32 products
    # come with 12 loads and 4 zips of pixels, so two of three instructions are the most.
    AARCH64_I8MM: (("smmla",), 0.53),
}


def of_products(kit: Any, inputs: int, outputs: int, isa: Isa) -> tuple[float, list[str]]:
    """The innermost loop of a pointwise layer, and which part of it are products."""
    op, constants = linear(kit, QConv2d, Form.NARROW, kit.i8(outputs, 1, 1, inputs) | 1)
    graph, _ = kit.one_op(op, kit.i8(1, 14, 14, inputs), *constants)
    return innermost(graph, isa, PRODUCTS[isa][0])


def innermost(graph: Graph, isa: Isa, names: tuple[str, ...]) -> tuple[float, list[str]]:
    """The loop with most of these instructions, and which part of it they are."""
    module = lower_graph(graph, isa, "net").module
    counted = [(sum(i.startswith(names) for i in loop), loop) for loop in loops(isa, module)]
    products, inner = max(counted, key=lambda found: found[0])
    return products / len(inner), inner


@each_set
@pytest.mark.parametrize(
    ("inputs", "outputs"), [(384, 96), (288, 24), (144, 8), (96, 576), (960, 320)]
)
def test_an_inner_loop_is_mostly_products(kit: Any, inputs: int, outputs: int, isa: Isa) -> None:
    share, _ = of_products(kit, inputs, outputs, isa)
    assert share >= PRODUCTS[isa][1]


@each_set
@pytest.mark.parametrize(("inputs", "outputs"), [(384, 96), (96, 24), (288, 24), (144, 8)])
def test_no_sums_are_spilled_in_an_inner_loop(
    kit: Any, inputs: int, outputs: int, isa: Isa
) -> None:
    _, inner = of_products(kit, inputs, outputs, isa)
    assert not [i for i in inner if "[sp" in i]


# With activations of 16 bits; the rest takes bytes apart, or widens weights and copies activations.
PRODUCTS_16 = {
    AARCH64: (("smlal",), 0.6),
    AARCH64_DOTPROD: (("sdot",), 0.65),
    AARCH64_I8MM: (("sdot",), 0.65),
}


@each_set
@pytest.mark.parametrize(("inputs", "outputs"), [(384, 96), (288, 24), (144, 8)])
def test_an_inner_loop_of_16_bits_is_mostly_products(
    kit: Any, inputs: int, outputs: int, isa: Isa
) -> None:
    q = Requantize(Form.WIDE, 0, -(2**15), 2**15 - 1, 16)
    tables = [np.full(outputs, n, np.int32) for n in (99, 2**30 + 7, 40)]
    constants = [kit.fixed(a) for a in (kit.i8(outputs, 1, 1, inputs) // 8 | 1, *tables)]
    op = partial(QConv2d, x_zero_point=0, requantize=q)
    graph, _ = kit.one_op(op, kit.i16(1, 14, 14, inputs), *constants)
    names, least = PRODUCTS_16[isa]
    share, inner = innermost(graph, isa, names)
    assert share >= least
    assert not [i for i in inner if "[sp" in i]


@each_set
def test_peaks_are_measured_by_what_kernels_multiply_with(isa: Isa) -> None:
    module = ir.Module("peak", isa.platform)

    def emit(b: ir.IRBuilder, pointers: Sequence[Any], begin: Any, end: Any) -> None:
        emit_dots(b, isa, pointers[0], begin, end)
        b.ret_void()

    kernels = Kernels(module, "peak", function_attributes(isa))
    name = kernels.get("dots", (), [False], emit, ranged=True)
    module.get_function(name).linkage = "external"
    names, _ = PRODUCTS[isa]
    (loop,) = loops(isa, module)
    assert sum(i.startswith(names) for i in loop) >= 0.8 * len(loop)


def test_short_rows_are_whole_tiles_of_half_a_panel() -> None:
    """A row of 7 pixels times 8 channels: 7 times 16 do not fit the registers."""
    (family,) = AARCH64_DOTPROD.machine.gemms
    spec = GemmSpec(
        groups=Axis(1, 0, 0), batch=Axis(1, 0, 0), rows=Axis(7, 512, 640), columns=Axis(7, 64, 80),
        segments=(), length=64, channels=40, form=Form.NARROW, packing=family.packing,
    )  # fmt: skip
    kernel = family.kernel(spec, AARCH64_DOTPROD)
    assert isinstance(kernel, VectorGemm)
    assert (kernel.tile.columns, kernel.tile.blocks) == (7, (2, 2, 2, 2, 2))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (14, 3, 1, (1, 2, 3)),
        (29, 3, 2, (2, 1, 1)),
        (14, 5, 1, (2, 0, 1)),  # more columns than registers hold
        (3, 3, 1, (1, 0, 1)),  # one result: nothing to share
    ],
)
def test_neighbouring_depthwise_tiles_share_columns_where_registers_hold_them(
    size: int, kernel: int, stride: int, expected: tuple[int, int, int]
) -> None:
    """Columns of a tile, those of the source that the one before had, tiles in a trip."""
    machine, results = AARCH64_DOTPROD.machine, (size - kernel) // stride + 1
    pixel, row = 32, 32 * size
    spec = DepthwiseSpec(
        batch=Axis(1, 0, 0), rows=Axis(results, stride * row, 32 * results),
        columns=Axis(results, stride * pixel, pixel), kernel=(kernel, kernel),
        steps=(row, pixel), channels=32, form=Form.NARROW, layout=machine.blocks,
    )  # fmt: skip
    costs = machine.depthwise.tiles
    (run,) = runs_of(spec, machine.vectors)
    tile = tile_of(spec, plan_taps(spec, machine.depthwise.layout), costs, run)
    assert (tile.columns, len(tile.carried), tile.turns) == expected


def test_limits_of_i8_take_no_instructions(kit: Any) -> None:
    """sqxtn has them already; others are a maximum and a minimum."""
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(16, 19) | 1)
    free, _ = kit.one_op(op, kit.i8(2, 19), *constants)
    q = Requantize(Form.NARROW, -3, -100, 100)
    limited, _ = kit.one_op(
        partial(QDense, x_zero_point=0, requantize=q), kit.i8(2, 19), *constants
    )
    texts = [str(lower_graph(g, AARCH64_DOTPROD, "net").module) for g in (free, limited)]
    assert ["icmp sgt <16 x i8>" in text for text in texts] == [False, True]
