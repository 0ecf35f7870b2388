"""Residual additions fused into convolutions: the same bits, one tensor less in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import QAdd, QConv2d, QDense, QMaximum
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.qparams import QParams
from qcomp.targets.cpu.isa import AVX512_VNNI, X86_64
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.lower.residual import fused_residuals
from tests.targets.conftest import Kit

Inputs = Mapping[str, NDArray[np.int8]]


def block(
    kit: Kit,
    size: int = 5,
    channels: int = 24,
    kernel: int = 1,
    seed: int = 0,
    *,
    swapped: bool = False,
    form: Form = Form.NARROW,
    fraction_bits: int = 6,
    relu: bool = False,
    subtract: bool = False,
    read_again: bool = False,
    bordered: bool = False,
    zero_point: int = 5,
) -> tuple[Graph, Inputs]:
    """x -> max(x, c) -> conv -> + max(x, c): the other operand lies in the arena."""
    random = np.random.default_rng(seed)
    graph = Graph("block")
    shape = (1, size, size + 2, channels)
    x = graph.add_input("x", TensorType(DType.I8, shape))
    low = graph.add_constant("low", np.full((1, 1, 1, 1), -100, np.int8))
    skip = graph.add_op(QMaximum(inputs=(x, low), output="skip"))
    conv = add_conv(graph, skip, channels, kernel, random, form)
    operands = (skip, conv) if swapped else (conv, skip)
    multipliers = (9000, -12000 if subtract else 12000)
    add = QAdd(
        inputs=operands, output="sum",
        a_zero_point=-3, b_zero_point=-3, a_multiplier=multipliers[0], b_multiplier=multipliers[1],
        fraction_bits=fraction_bits, zero_point=zero_point, qmin=zero_point if relu else -128,
    )  # fmt: skip
    total = graph.add_op(add)
    graph.outputs["y"] = total
    if bordered:
        graph.outputs["z"] = add_conv(graph, total, 3, 3, random, Form.NARROW)
    if read_again:
        graph.outputs["c"] = conv
    quantize_all(graph, {total: zero_point})
    return graph, {"x": kit.i8(*shape, seed=seed)}


def quantize_all(graph: Graph, zero_points: Mapping[TensorId, int] | None = None) -> None:
    """Parameters for all activations; their zero point is -3 unless given."""
    for tensor in graph.tensors():
        if not tensor.is_constant and tensor.type.dtype is DType.I8:
            zero_point = (zero_points or {}).get(tensor.id, -3)
            graph.update_tensor(replace(tensor, qparams=QParams(0.5, zero_point)))


def add_conv(
    graph: Graph, x: TensorId, outputs: int, kernel: int, random: np.random.Generator, form: Form
) -> TensorId:
    depth = graph.type(x).shape[3]
    weight = random.integers(-127, 128, (outputs, kernel, kernel, depth), np.int8)
    narrow = form is Form.NARROW
    multiplier = random.integers(300, 2**15, outputs) if narrow else random.integers(2**29, 2**30)
    tables = (
        random.integers(-9999, 9999, outputs),
        np.broadcast_to(multiplier, outputs),
        random.integers(4, 12, outputs) if narrow else np.full(outputs, 40),
    )
    constants = [graph.add_constant("k", weight)]
    constants += [graph.add_constant("k", t.astype(np.int32)) for t in tables]
    pad = kernel // 2
    op = QConv2d(
        inputs=(x, *constants), output=graph.fresh_id("conv"), x_zero_point=5 if x == "sum" else -3,
        requantize=Requantize(form, -3), padding=(pad, pad, pad, pad),
    )  # fmt: skip
    return graph.add_op(op)


@given(
    size=st.integers(1, 9),
    channels=st.sampled_from([1, 3, 8, 15, 16, 17, 24, 32, 33, 48, 63, 64, 65, 100]),
    kernel=st.sampled_from([1, 3]),
    seed=st.integers(0, 9),
    swapped=st.booleans(),
    relu=st.booleans(),
    subtract=st.booleans(),
    bordered=st.booleans(),
)
def test_fused_additions_equal_the_specification(
    kit: Kit, size: int, channels: int, kernel: int, seed: int, **options: bool
) -> None:
    graph, inputs = block(kit, size, channels, kernel, seed, **options)
    assert fused_residuals(graph, AVX512_VNNI)
    kit.check_graph(graph, inputs)


@pytest.mark.parametrize("kernel", [1, 3])
def test_every_instruction_set(kit: Kit, kernel: int) -> None:
    kit.check_graph(*block(kit, 7, 70, kernel, bordered=True), isas=kit.isas)


@pytest.mark.parametrize("zero_point", [-128, 5])
def test_limits_of_a_sum_that_are_those_of_bytes(kit: Kit, zero_point: int) -> None:
    for fraction_bits in (0, 6):
        made = block(kit, zero_point=zero_point, fraction_bits=fraction_bits)
        kit.check_graph(*made, isas=kit.isas)


def test_the_addition_is_no_kernel_of_its_own(kit: Kit) -> None:
    graph, _ = block(kit)
    program = lower_graph(graph, AVX512_VNNI, "net")
    assert not [c for c in program.calls if "q_add" in c.kernel]
    assert fused_residuals(graph, AVX512_VNNI).keys().isdisjoint(program.memory.offsets)
    assert [c for c in lower_graph(graph, X86_64, "net").calls if "q_add" in c.kernel]


@pytest.mark.parametrize(
    "options",
    [
        {"form": Form.WIDE},
        {"fraction_bits": 0},
        {"read_again": True},
    ],
)
def test_what_can_not_be_fused_stays_right(kit: Kit, options: dict[str, object]) -> None:
    graph, inputs = block(kit, **options)  # type: ignore[arg-type]
    assert not fused_residuals(graph, AVX512_VNNI)
    kit.check_graph(graph, inputs)


def test_the_other_operand_must_have_been_computed(kit: Kit) -> None:
    """Of two convolutions that are added, the second absorbs the addition."""
    random = np.random.default_rng(0)
    graph = Graph("two")
    x = graph.add_input("x", TensorType(DType.I8, (1, 4, 5, 20)))
    first = add_conv(graph, x, 36, 1, random, Form.NARROW)
    second = add_conv(graph, x, 36, 3, random, Form.NARROW)
    add = QAdd(
        inputs=(first, second), output="sum", a_zero_point=-3, b_zero_point=-3,
        a_multiplier=7000, b_multiplier=20000, fraction_bits=5, zero_point=1,
    )  # fmt: skip
    graph.outputs["y"] = graph.add_op(add)
    quantize_all(graph)
    assert list(fused_residuals(graph, AVX512_VNNI)) == [second]
    kit.check_graph(graph, {"x": kit.i8(1, 4, 5, 20)})


def test_a_dense_layer_absorbs_too(kit: Kit) -> None:
    random = np.random.default_rng(3)
    graph = Graph("dense")
    x = graph.add_input("x", TensorType(DType.I8, (3, 40)))
    low = graph.add_constant("low", np.full((1, 1), -90, np.int8))
    skip = graph.add_op(QMaximum(inputs=(x, low), output="skip"))
    constants = [graph.add_constant("k", random.integers(-127, 128, (40, 40), np.int8))]
    for low_, high in ((-999, 999), (300, 2**15), (4, 10)):
        constants.append(graph.add_constant("k", random.integers(low_, high, 40).astype(np.int32)))
    dense = graph.add_op(
        QDense(
            inputs=(skip, *constants), output="dense", x_zero_point=-3,
            requantize=Requantize(Form.NARROW, -3),
        )
    )  # fmt: skip
    add = QAdd(
        inputs=(skip, dense), output="sum", a_zero_point=-3, b_zero_point=-3,
        a_multiplier=7000, b_multiplier=20000, fraction_bits=5, zero_point=1,
    )  # fmt: skip
    graph.outputs["y"] = graph.add_op(add)
    quantize_all(graph)
    assert fused_residuals(graph, AVX512_VNNI)
    kit.check_graph(graph, {"x": kit.i8(3, 40)})
