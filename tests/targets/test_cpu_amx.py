"""GEMMs in tile registers equal the specification, in software tiles; their code is as expected.

No machine that these tests may count on has AMX: the same kernels run on emulated tiles, whose
instructions are compared with their meaning one by one.
"""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import binding as llvm
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qcomp.ir.ops import QConv2d, QDense
from qcomp.quant.fixed_point import Form, Requantize, requantize
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I64, PTR, Unsigned
from qcomp.targets.cpu.isa import AMX_INT8, AVX2, SSE41, target_machine
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.kernels.constants import header
from qcomp.targets.cpu.kernels.gemm import BY_FOURS, GemmSpec, pack_channels, pack_weights
from qcomp.targets.cpu.lower.graph import function_attributes, lower_graph
from qcomp.targets.cpu.lower.residual import fused_residuals
from qcomp.targets.cpu.machine import GemmKernel, Isa
from qcomp.targets.cpu.process.host import native
from qcomp.targets.cpu.storage import BIAS, Storage
from qcomp.targets.cpu.x86.amx import TileGemms
from qcomp.targets.cpu.x86.machine import with_tiles
from qcomp.targets.cpu.x86.tile_cost import tile_shapes
from qcomp.targets.cpu.x86.tiles import Tile, Tiles, configured, dot
from tests.targets.conftest import Kit
from tests.targets.test_cpu_residual import block

x86_only = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="runs x86 instructions"
)
Array = NDArray[Any]


def on_emulated_tiles(isa: Isa, name: str) -> Isa:
    """Its vectors, with no tiles but those in software."""
    vectors = replace(isa.machine, gemms=isa.machine.gemms[:1])
    return replace(isa, name=name, machine=with_tiles(vectors, Tiles.EMULATED))


def emulated() -> Isa:
    """This machine, with tiles in software: they multiply bytes that are stored with a bias."""
    isa = native() if native().machine.storage is Storage.BIASED else SSE41
    return on_emulated_tiles(isa, "emulated-tiles")


Emit = Callable[..., None]


def kernel_module(isa: Isa, pointers: int, emit: Emit, scalars: int = 0) -> ir.Module:
    """A module of one function `kernel`: integers first, then pointers."""
    module = ir.Module("amx", isa.platform)
    type = ir.FunctionType(ir.VoidType(), [I64] * scalars + [PTR] * pointers)
    function = ir.Function(module, type, "kernel")
    for text in function_attributes(isa):
        function.attributes.add(text)
    emit(ir.IRBuilder(function.append_basic_block("entry")), *function.args)
    return module


def compiled(module: ir.Module) -> Callable[..., None]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    lljit = llvm.create_lljit_compiler()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    code = target_machine(str(module.triple)).emit_object(parsed)
    library = llvm.JITLibraryBuilder().add_object_img(code).export_symbol("kernel").link(lljit, "k")

    def run(*arguments: Any, keep: Any = (lljit, library)) -> None:
        types = [ctypes.c_int64 if isinstance(a, int) else ctypes.c_void_p for a in arguments]
        values = [a if isinstance(a, int) else a.ctypes.data for a in arguments]
        ctypes.CFUNCTYPE(None, *types)(library["kernel"])(*values)

    return run


def i8(random: np.random.Generator, *shape: int) -> NDArray[np.int8]:
    """Every value is possible, extremes are frequent."""
    values = random.integers(-128, 128, shape, np.int8)
    extremes = random.choice(np.array([-128, 127], np.int8), shape)
    return np.where(random.random(shape) < 0.25, extremes, values).astype(np.int8)


@x86_only
@pytest.mark.sweep(30)
@given(rows=st.integers(1, 16), steps=st.integers(1, 16), columns=st.integers(1, 16))
def test_emulated_tiles_are_what_the_manual_says(rows: int, steps: int, columns: int) -> None:
    """Loads and stores move rows of the configured width, with any stride, 0 too."""
    random = np.random.default_rng([rows, steps, columns])
    a = i8(random, rows, 4 * steps + 9).view(np.uint8)
    w = i8(random, steps, 4 * columns)
    bias = random.integers(-(2**31), 2**31, columns).astype(np.int32)
    result = np.full((rows, columns + 3), 77, np.int32)

    def emit(b: ir.IRBuilder, a_at: Any, w_at: Any, bias_at: Any, result_at: Any) -> None:
        tc, ta = Tile(3, rows, 4 * columns), Tile(7, rows, 4 * steps)
        tw = Tile(0, steps, 4 * columns)
        unit = configured(b, Tiles.EMULATED, [tc, ta, tw])
        unit.load(b, tc, bias_at, 0)
        unit.load(b, ta, a_at, a.shape[1])
        unit.load(b, tw, w_at, 4 * columns)
        unit.dot(b, tc, ta, tw)
        unit.store(b, tc, result_at, 4 * (columns + 3))
        unit.release(b)
        b.ret_void()

    compiled(kernel_module(emulated(), 4, emit))(a, w, bias, result)
    start = np.broadcast_to(bias, (rows, columns))
    assert_array_equal(result[:, :columns], dot(start, a[:, : 4 * steps], w))
    assert (result[:, columns:] == 77).all()


def test_the_meaning_of_a_dot_is_a_product_of_matrices_that_wraps() -> None:
    a = np.array([[1, 2, 3, 255]], np.uint8)
    w = np.array([[1, 1, 1, 1, 0, 0, 0, -128]], np.int8)
    c = np.array([[5, -(2**31)]], np.int32)
    assert_array_equal(dot(c, a, w), np.array([[5 + 261, 2**31 - 255 * 128]], np.int32))


@dataclass(frozen=True)
class Conv:
    """A convolution on stored bytes; the source has its border already, the result gets one."""

    batch: int
    out: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    inputs: int
    outputs: int
    form: Form
    ceiling: bool

    @property
    def extents(self) -> tuple[int, int]:
        """Of the source."""
        parts = zip(self.out, self.kernel, self.stride, self.dilation, strict=True)
        height, width = ((o - 1) * s + (k - 1) * d + 1 for o, k, s, d in parts)
        return height, width

    @property
    def spec(self) -> GemmSpec:
        (oh, ow), (kh, kw), (height, width) = self.out, self.kernel, self.extents
        pixel, result = self.groups * self.inputs, self.groups * self.outputs
        row = width * pixel
        joined = self.groups == self.dilation[1] == 1
        segments = [(kh, self.dilation[0] * row)]
        if not joined:
            segments.append((kw, self.dilation[1] * pixel))
        return GemmSpec(
            groups=Axis(self.groups, self.inputs, self.outputs),
            batch=Axis(self.batch, height * row, (oh + 1) * (ow + 1) * result),
            rows=Axis(oh, row * self.stride[0], (ow + 1) * result),
            columns=Axis(ow, pixel * self.stride[1], result),
            segments=tuple(s for s in segments if s[0] > 1),
            length=kw * self.inputs if joined else self.inputs,
            channels=self.outputs,
            form=self.form,
            packing=BY_FOURS,
            ceiling=self.ceiling,
        )

    def sums(self, x: Array, w: Array) -> Array:
        """x [batch, height, width, groups, inputs], w [groups, outputs, kh, kw, inputs]."""
        (oh, ow), (sh, sw), (dh, dw) = self.out, self.stride, self.dilation
        total = np.zeros((self.batch, oh, ow, self.groups, self.outputs), np.int64)
        for i, j in np.ndindex(*self.kernel):
            window = x[:, i * dh :, j * dw :][:, : (oh - 1) * sh + 1 : sh, : (ow - 1) * sw + 1 : sw]
            total += np.einsum("nhwgc,goc->nhwgo", window.astype(np.int64), w[:, :, i, j])
        return total


def check(conv: Conv, isa: Isa, kernel: GemmKernel, cut: int) -> None:
    """Units before and after `cut`, one after the other, give what numpy gives."""
    random = np.random.default_rng([conv.inputs, conv.outputs, *conv.out])
    spec, groups, channels = conv.spec, conv.groups, conv.outputs
    x = i8(random, conv.batch, *conv.extents, groups, conv.inputs).view(np.uint8)
    w = np.maximum(i8(random, groups, channels, *conv.kernel, conv.inputs), -127)
    bits = int(np.log2(60 * np.sqrt(w[0, 0].size))) + 1
    bias = random.integers(-5000, 5000, (groups, channels)) - 128 * w.sum((2, 3, 4), np.int64)
    spread = random.integers(-1, 2, (groups, channels))
    if conv.form is Form.NARROW:
        multiplier, shift = random.integers(257, 2**15, spread.shape), bits + spread
        shift = np.maximum(shift, 0)
        rounding = (1 << shift) >> 1
    else:
        multiplier = random.integers(2**30, 2**31, spread.shape)
        shift = 31 + bits + spread if conv.form is Form.WIDE else -bits - spread
        rounding = np.zeros_like(shift)
    ceiling = random.integers(-20, 100, spread.shape)
    q = Requantize(conv.form, 7, -120, 126)

    expected = np.empty((conv.batch, *conv.out, groups, channels), np.int64)
    acc = conv.sums(x, w) + bias
    for g in range(groups):
        m, s = (t[g].astype(np.int32) for t in (multiplier, shift))
        expected[..., g, :] = requantize(acc[..., g, :], m, s, q)
    if conv.ceiling:
        expected = np.minimum(expected, ceiling)

    segments = w.reshape(groups, channels, spec.segment_count, spec.length)
    tables = [bias + rounding, multiplier, shift, ceiling][: spec.tables]
    packed = [pack_channels(t[g].astype(np.int32), spec) for g in range(groups) for t in tables]
    params = np.concatenate([header(q), *packed])
    weights = np.concatenate([pack_weights(s, spec) for s in segments])
    source = np.concatenate([x.reshape(-1), random.integers(0, 256, 3, np.uint8)])
    oh, ow = conv.out
    result = np.full((conv.batch, oh + 1, ow + 1, groups, channels), 77, np.uint8)

    def emit(b: ir.IRBuilder, begin: Any, end: Any, src: Any, dst: Any, *rest: Any) -> None:
        kernel.emit(b, (Unsigned(src), Unsigned(dst), *rest), begin, end)

    run = compiled(kernel_module(isa, 4, emit, scalars=2))
    for begin, end in ((0, cut), (cut, kernel.units)):
        run(begin, end, source, result, weights, params)
    assert_array_equal(result[:, :oh, :ow], expected + BIAS)
    assert (result[:, oh:] == 77).all()
    assert (result[:, :, ow:] == 77).all()


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convs(draw: st.DrawFn) -> Conv:
    groups = draw(st.sampled_from([1, 1, 1, 2]))
    return Conv(
        batch=draw(st.integers(1, 2)),
        out=draw(st.tuples(st.integers(1, 9), st.integers(1, 40))),
        kernel=draw(pairs),
        stride=draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        dilation=draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 2)])),
        groups=groups,
        inputs=draw(st.one_of(st.integers(1, 30), st.sampled_from([64, 68, 72, 100, 116, 160]))),
        outputs=draw(st.sampled_from([1, 8, 15, 16, 17, 24, 32, 33, 48, 50, 64])),
        form=draw(st.sampled_from([Form.NARROW, Form.NARROW, Form.WIDE, Form.TFLITE])),
        ceiling=draw(st.booleans()),
    )


def hosts() -> list[Isa]:
    wide = [emulated()]
    if native().name != AVX2.name:
        wide.append(on_emulated_tiles(AVX2, "emulated-avx2"))
    return wide


@x86_only
@pytest.mark.sweep(80)
@given(conv=convs(), data=st.data())
def test_random_convolutions_in_any_tiles_and_any_ranges(conv: Conv, data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(list(tile_shapes(conv.spec))))
    isa = data.draw(st.sampled_from(hosts()))
    kernel = TileGemms(Tiles.EMULATED).shaped(conv.spec, shape, isa)
    check(conv, isa, kernel, data.draw(st.integers(0, kernel.units)))


@x86_only
def test_layers_go_through_the_whole_lowering(kit: Kit) -> None:
    """Convolutions with a halo and strides, and dense layers; tiles in each."""
    for outputs, kernel, window in (
        (48, (3, 3), {"padding": (1, 1, 1, 1)}),
        (32, (3, 3), {"stride": (2, 2), "padding": (0, 0, 1, 1)}),
        (33, (1, 1), {}),
    ):
        weight = np.maximum(kit.i8(outputs, *kernel, 64, seed=1), -127)
        op = partial(QConv2d, x_zero_point=-5, requantize=REQUANTIZE, **window)
        constants = [kit.fixed(a) for a in (weight, *parameters(outputs))]
        x = kit.i8(2, 9, 8, 64)
        kit.check(op, x, *constants, zero_point=-5, borders=True, isas=[emulated()])
        assert "tdpbusd" in code_for_amx(kit.one_op(op, x, *constants, zero_point=-5)[0])
    weight = np.maximum(kit.i8(40, 128, seed=1), -127)
    dense = partial(QDense, x_zero_point=9, requantize=REQUANTIZE)
    constants = [kit.fixed(a) for a in (weight, *parameters(40))]
    kit.check(dense, kit.i8(50, 128), *constants, zero_point=9, isas=[emulated()])
    graph, _ = kit.one_op(dense, kit.i8(50, 128), *constants, zero_point=9)
    assert "tdpbusd" in code_for_amx(graph)


@x86_only
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("bordered", [False, True])
def test_residual_additions_are_fused(kit: Kit, kernel: int, bordered: bool) -> None:
    graph, inputs = block(kit, 9, 72, kernel, bordered=bordered, relu=True)
    assert fused_residuals(graph, AMX_INT8)
    assert "tdpbusd" in code_for_amx(graph)
    kit.check_graph(graph, inputs, [emulated()])


REQUANTIZE = Requantize(Form.NARROW, 7, -120, 126)


def parameters(channels: int) -> list[Array]:
    """Bias, multiplier, shift."""
    return [np.full(channels, v, np.int32) for v in (-300, 9000, 8)]


def code_for_amx(graph: Any) -> str:
    """The assembly of a graph's kernels, by name."""
    return assembly(lower_graph(graph, AMX_INT8, "net").module)


def assembly(module: ir.Module) -> str:
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    return str(target_machine(str(module.triple)).emit_assembly(parsed))


CONV = Conv(1, (7, 7), (3, 3), (1, 1), (1, 1), 1, 80, 48, Form.NARROW, False)


def amx_module(spec: GemmSpec) -> ir.Module:
    kernel = TileGemms(Tiles.AMX).kernel(spec, AMX_INT8)
    assert kernel is not None

    def emit(b: ir.IRBuilder, begin: Any, end: Any, src: Any, dst: Any, *rest: Any) -> None:
        kernel.emit(b, (Unsigned(src), Unsigned(dst), *rest), begin, end)

    return kernel_module(AMX_INT8, 4, emit, scalars=2)


def test_kernels_for_amx_configure_once_and_release_before_they_return() -> None:
    found = [line.split() for line in assembly(amx_module(CONV.spec)).splitlines()]
    mnemonics = [words[0] for words in found if words]
    known = {"ldtilecfg", "tileloadd", "tdpbusd", "tilestored", "tilerelease"}
    tiles = [m for m in mnemonics if m in known]
    assert set(tiles) == known
    assert tiles[0] == "ldtilecfg"
    assert tiles.count("ldtilecfg") == tiles.count("tilerelease") == mnemonics.count("retq") == 1
    assert tiles[-1] == "tilerelease"
    assert mnemonics.index("tilerelease") < mnemonics.index("retq")
    assert "call" not in {m[:4] for m in mnemonics}


def test_the_configuration_is_what_the_manual_asks_for() -> None:
    """Palette 1, bytes per row as 16 bits from byte 16, rows as bytes from byte 48."""

    def emit(b: ir.IRBuilder) -> None:
        configured(b, Tiles.AMX, [Tile(2, 5, 64), Tile(7, 16, 12)])
        b.ret_void()

    module = kernel_module(AMX_INT8, 0, emit)
    variables = [v for v in module.globals.values() if isinstance(v, ir.GlobalVariable)]
    (configuration,) = variables
    expected = bytearray(64)
    expected[0] = 1
    expected[16 + 4], expected[16 + 14] = 64, 12
    expected[48 + 2], expected[48 + 7] = 5, 16
    assert configuration.initializer.ref == ir.bytes_of(bytes(expected)).ref


def test_an_object_for_amx_needs_no_symbols(tmp_path: Path) -> None:
    """LLVM takes an intrinsic that it does not know for a function."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm")
    parsed = llvm.parse_assembly(str(amx_module(CONV.spec)))
    (tmp_path / "amx.o").write_bytes(target_machine(AMX_INT8.triple).emit_object(parsed))
    undefined = subprocess.run([nm, "-u", tmp_path / "amx.o"], check=True, stdout=subprocess.PIPE)
    assert undefined.stdout == b""
