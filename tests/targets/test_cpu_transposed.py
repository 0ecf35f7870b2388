"""Transposed convolutions: zeros between the pixels, which are never stored."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.ir.graph import Graph
from qcomp.ir.ops import QAdd, QConv2d, QMinimum, Table, ZeroStuff
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.quant.fixed_point import Form
from qcomp.quant.qparams import QParams
from qcomp.targets.cpu.isa import AVX2
from qcomp.targets.cpu.lower.ceiling import fused_ceilings
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.lower.residual import fused_residuals
from qcomp.targets.cpu.lower.windows import phases
from tests.targets.test_cpu_linear import FORMS, epilogue

ZERO = -9
PADDING = (2, 1, 0, 3)


class Transposed:
    """A graph that begins with a transposed convolution; all tensors have one zero point."""

    def __init__(
        self, kit: Any, shape: tuple[int, ...], outputs: int, *window: Any, **options: Any
    ) -> None:
        self.kit, self.graph = kit, Graph("transposed")
        self.inputs = {"x": kit.i8(*shape)}
        self.x = self.graph.add_input("x", TensorType(DType.I8, shape))
        self.y = self.transposed(self.x, outputs, *window, **options)

    def transposed(
        self,
        x: TensorId,
        outputs: int,
        kernel: tuple[int, int],
        between: tuple[int, int],
        *,
        groups: int = 1,
        form: Form = Form.NARROW,
        value: float = ZERO,
        seed: int = 1,
        **window: Any,
    ) -> TensorId:
        self.zeros = self.add(partial(ZeroStuff, stride=between, value=value), x)
        depth = self.graph.type(x).shape[3] // groups
        weight = np.maximum(self.kit.i8(outputs, *kernel, depth, seed=seed), -127)
        q, tables = epilogue(form, outputs, weight[0].size)
        q = replace(q, zero_point=ZERO)
        make = partial(QConv2d, x_zero_point=ZERO, requantize=q, groups=groups)
        return self.add(partial(make, **window), self.zeros, *map(self.constant, (weight, *tables)))

    def constant(self, array: Any) -> TensorId:
        return self.graph.add_constant("c", np.asarray(array))

    def add(self, make: Any, *inputs: TensorId) -> TensorId:
        return self.graph.add_op(make(inputs=inputs, output=self.graph.fresh_id("t")))

    def table(self, x: TensorId) -> TensorId:
        return self.add(Table, x, self.constant(self.kit.i8(256, seed=3)))

    def check(self, *outputs: TensorId, isas: Any = None) -> None:
        for n, id in enumerate(outputs or (self.y,)):
            self.graph.outputs[f"y{n}"] = id
        for tensor in self.graph.tensors():
            if not tensor.is_constant:
                self.graph.update_tensor(replace(tensor, qparams=QParams(0.5, ZERO)))
        self.kit.check_graph(self.graph, self.inputs, isas)

    @property
    def stores_zeros(self) -> bool:
        program = lower_graph(self.graph, self.kit.isas[-1], "net")
        return self.zeros in program.memory.offsets


@pytest.mark.parametrize("stride", list(itertools.product(range(1, 5), (1, 2, 3))), ids=str)
@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (4, 2), (5, 6)], ids=str)
def test_kernels_and_strides(kit: Any, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    """Kernels smaller than the stride leave results that are the bias alone."""
    net = Transposed(kit, (2, 4, 5, 6), 19, kernel, stride, padding=PADDING)
    net.check()
    assert not net.stores_zeros


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.value)
@pytest.mark.parametrize("groups", [1, 3, 12], ids=str)
def test_forms_and_groups(kit: Any, isa: Any, groups: int, form: Form) -> None:
    for kernel in kit.some(((4, 4), (2, 1)), groups + FORMS.index(form)):
        options: dict[str, Any] = {"groups": groups, "form": form, "padding": (2, 2, 3, 3)}
        net = Transposed(kit, (1, 5, 18, 12), 12, kernel, (2, 3), **options)
        net.check(isas=[isa])
        assert not net.stores_zeros


@pytest.mark.parametrize("dilation", [(2, 2), (1, 3), (4, 2)], ids=str)
@pytest.mark.parametrize("stride", [(1, 1), (2, 3), (3, 2)], ids=str)
def test_a_dilated_and_strided_reader(
    kit: Any, dilation: tuple[int, int], stride: tuple[int, int]
) -> None:
    options: dict[str, Any] = {"dilation": dilation, "stride": stride, "padding": (3, 5, 4, 6)}
    Transposed(kit, (1, 6, 7, 5), 9, (3, 3), (4, 2), **options).check()


def test_results_with_a_border_and_a_source_with_other_readers(kit: Any) -> None:
    net = Transposed(kit, (1, 6, 7, 5), 8, (4, 4), (2, 2), padding=(2, 2, 2, 2))
    weight = net.constant(kit.i8(3, 3, 3, 8, seed=2) | 1)
    q, tables = epilogue(Form.NARROW, 3, 72)
    make = partial(QConv2d, x_zero_point=ZERO, requantize=q, padding=(1, 2, 1, 0))
    net.check(net.add(make, net.y, weight, *map(net.constant, tables)), net.table(net.x), net.y)
    assert not net.stores_zeros


def test_the_source_stays_alive_until_the_convolution(kit: Any) -> None:
    """Tensors that are made between the zeros and their reader lie elsewhere."""
    net = Transposed(kit, (1, 6, 7, 5), 5, (3, 3), (2, 2), padding=(1, 1, 2, 2))
    net.check(net.table(net.table(net.y)), net.table(net.table(net.x)))


@pytest.mark.parametrize("kernel", [(3, 3), (1, 1)], ids=str)
def test_a_residual_addition(kit: Any, isa: Any, kernel: tuple[int, int]) -> None:
    net = Transposed(kit, (1, 6, 7, 5), 24, kernel, (2, 2), padding=(1, 1, 2, 2))
    again = net.transposed(net.x, 24, kernel, (2, 2), padding=(1, 1, 2, 2), seed=2)
    make = partial(
        QAdd,
        a_zero_point=ZERO, b_zero_point=ZERO, zero_point=ZERO,
        a_multiplier=9000, b_multiplier=12000, fraction_bits=6,
    )  # fmt: skip
    net.check(net.add(make, net.y, again), isas=[isa])
    assert list(fused_residuals(net.graph, AVX2)) == [again]


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.value)
@pytest.mark.parametrize("groups", [1, 12])
def test_a_ceiling(kit: Any, isa: Any, groups: int, form: Form) -> None:
    options: dict[str, Any] = {"groups": groups, "form": form, "padding": (1, 1, 2, 2)}
    for kernel in kit.some(((3, 3), (1, 1)), groups + FORMS.index(form)):
        net = Transposed(kit, (1, 6, 7, 12), 12, kernel, (2, 2), **options)
        bound = net.constant(np.arange(-24, 24, 4).astype(np.int8))
        net.check(net.add(QMinimum, net.y, bound), isas=[isa])
        assert list(fused_ceilings(net.graph, isa)) == [net.y]


@pytest.mark.parametrize("obstacle", ["value", "output", "reader"])
def test_zeros_that_are_stored(kit: Any, obstacle: str) -> None:
    """Where they are not the zero point, or not only the convolution reads them."""
    value = ZERO + 1 if obstacle == "value" else ZERO
    net = Transposed(kit, (1, 6, 7, 5), 8, (3, 3), (2, 2), padding=(1, 1, 2, 2), value=value)
    others = {"value": lambda: [], "output": lambda: [net.zeros]}
    others |= {"reader": lambda: [net.table(net.zeros)]}
    net.check(net.y, *others[obstacle]())
    assert net.stores_zeros


@pytest.mark.sweep(200)
@given(
    results=st.integers(1, 20),
    kernel=st.integers(1, 6),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 4),
    padding=st.integers(0, 6),
    between=st.integers(1, 5),
)
def test_phases_see_every_pixel_that_the_windows_see(
    results: int, kernel: int, stride: int, dilation: int, padding: int, between: int
) -> None:
    positions = {
        (i, k): i * stride + k * dilation - padding for i in range(results) for k in range(kernel)
    }
    expected = {key: p // between for key, p in positions.items() if p % between == 0}
    found, written = {}, []
    for phase in phases(results, kernel, stride, dilation, padding, between):
        for n in range(phase.count):
            result = phase.first + n * phase.period
            written.append(result)
            for i, k in enumerate(phase.taps):
                found[result, k] = phase.start + n * phase.advance + i * phase.apart
    assert found == expected
    assert sorted(written) == list(range(results))


@pytest.mark.sweep(60)
@given(data=st.data())
def test_random_transposed_convolutions(kit: Any, data: st.DataObject) -> None:
    draw = data.draw

    def pair(low: int, high: int) -> Any:
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    groups = draw(st.sampled_from([1, 1, 2, 5]))
    inputs, outputs = (groups * draw(st.integers(1, 9)) for _ in range(2))
    if draw(st.booleans()):
        outputs = groups = inputs
    net = Transposed(
        kit,
        (draw(st.integers(1, 2)), *pair(4, 12), inputs),
        outputs,
        pair(1, 5),
        pair(1, 4),
        groups=groups,
        form=draw(st.sampled_from(FORMS)),
        stride=draw(st.sampled_from([(1, 1), (1, 1), (2, 3)])),
        dilation=draw(st.sampled_from([(1, 1), (2, 1), (1, 3)])),
        padding=draw(st.tuples(*[st.integers(3, 6)] * 4)),
    )
    net.check(
        *([net.y, net.table(net.y)] if draw(st.booleans()) else []),
        isas=[draw(st.sampled_from(kit.isas))],
    )
    assert not net.stores_zeros
