"""Tables fused into the convolutions before them: the same bits, no kernel of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import QConv2d, Table
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.qparams import QParams
from qcomp.targets.cpu.isa import AMX_INT8, AVX2
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.lower.lookup import fused_lookups
from tests.targets.conftest import Kit

VBMI = replace(AMX_INT8, name="vbmi")


def activated(
    kit: Kit,
    size: int,
    channels: int,
    outputs: int,
    kernel: int = 1,
    *,
    depthwise: bool = False,
    form: Form = Form.NARROW,
    clamped: bool = False,
    read_again: bool = False,
) -> tuple[Graph, Mapping[str, NDArray[np.int8]]]:
    """x -> convolution -> table."""
    random = np.random.default_rng([size, channels, outputs, kernel])
    graph = Graph("activated")
    shape = (1, size, size + 1, channels)
    x = graph.add_input("x", TensorType(DType.I8, shape))
    outputs = channels if depthwise else outputs
    depth = 1 if depthwise else channels
    narrow = form is Form.NARROW
    constants = (
        random.integers(-127, 128, (outputs, kernel, kernel, depth)).astype(np.int8),
        random.integers(-9999, 9999, outputs).astype(np.int32),
        random.integers(*((300, 2**15) if narrow else (2**29, 2**30)), outputs).astype(np.int32),
        random.integers(*((2, 9) if narrow else (36, 40)), outputs).astype(np.int32),
    )
    ids = [graph.add_constant("k", c) for c in constants]
    pad = kernel // 2
    conv = graph.add_op(
        QConv2d(
            inputs=(x, *ids), output="conv", x_zero_point=-3, padding=(pad, pad, pad, pad),
            requantize=Requantize(form, 7, qmin=7 if clamped else -128),
            groups=channels if depthwise else 1,
        )
    )  # fmt: skip
    table = graph.add_constant("t", random.integers(-128, 128, 256).astype(np.int8))
    graph.outputs["y"] = graph.add_op(Table(inputs=(conv, table), output="looked"))
    if read_again:
        graph.outputs["c"] = conv
    for tensor in graph.tensors():
        if not tensor.is_constant and tensor.type.dtype is DType.I8:
            graph.update_tensor(replace(tensor, qparams=QParams(0.5, -3)))
    return graph, {"x": kit.i8(*shape, seed=size)}


@given(
    size=st.integers(1, 9),
    channels=st.sampled_from([2, 3, 8, 16, 17, 33, 64, 70]),
    outputs=st.sampled_from([1, 15, 16, 33, 64, 100]),
    kernel=st.sampled_from([1, 3]),
    depthwise=st.booleans(),
    clamped=st.booleans(),
)
def test_fused_lookups_equal_the_specification(
    kit: Kit, size: int, channels: int, outputs: int, kernel: int, depthwise: bool, clamped: bool
) -> None:
    graph, inputs = activated(
        kit, size, channels, outputs, kernel, depthwise=depthwise, clamped=clamped
    )
    kit.check_graph(graph, inputs, isas=[kit.isas[-1]])


@pytest.mark.parametrize("depthwise", [False, True])
def test_every_instruction_set(kit: Kit, depthwise: bool) -> None:
    kit.check_graph(*activated(kit, 6, 40, 24, 3, depthwise=depthwise), isas=kit.isas)


def test_the_lookup_is_no_kernel_of_its_own(kit: Kit) -> None:
    graph, _ = activated(kit, 5, 24, 40)
    program = lower_graph(graph, VBMI, "net")
    assert not [c for c in program.calls if "table" in c.kernel]
    assert "conv" not in program.memory.offsets
    assert [c for c in lower_graph(graph, AVX2, "net").calls if "table" in c.kernel]


@pytest.mark.parametrize("options", [{"form": Form.WIDE}, {"read_again": True}])
def test_what_can_not_be_fused_stays_right(kit: Kit, options: dict[str, object]) -> None:
    graph, inputs = activated(kit, 4, 20, 30, **options)  # type: ignore[arg-type]
    assert not fused_lookups(graph, VBMI)
    kit.check_graph(graph, inputs)
