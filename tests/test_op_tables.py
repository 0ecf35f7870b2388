"""Every op stands in every table that is keyed by op type, or in that table's exemptions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from op_examples import EXAMPLES

from qcomp.calibration import propagate
from qcomp.errors import PassError, TargetError
from qcomp.exporters.onnx import elementwise as export_elementwise
from qcomp.exporters.onnx import model as export
from qcomp.exporters.tflite import model as export_tflite
from qcomp.ir import DType, Form, Graph, TensorType, evaluate, saturation
from qcomp.ir.exemptions import Exemptions, exemption
from qcomp.ir.ops import (
    OPS,
    Add,
    Binary,
    Domain,
    Formed,
    IntegerOp,
    Op,
    Operand,
    QBinary,
    QReduceSum,
)
from qcomp.ir.tensor import Tensor
from qcomp.passes import certify_accumulators
from qcomp.passes.base import PassManager
from qcomp.passes.events import PassLog
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.passes.lib import channel_classes, integer_rules, scalar_region
from qcomp.passes.lib.layout import rules as layout
from qcomp.passes.lib.simplify import affine, no_effect
from qcomp.quant.fixed_point import Form as RequantizeForm
from qcomp.quant.fixed_point import Requantize
from qcomp.quant.qparams import QParams, integer_range
from qcomp.targets.cpu.lower import elementwise as lower_elementwise
from qcomp.targets.cpu.lower import table as lowerings
from qcomp.targets.cpu.lower.i16 import elementwise as lower_i16_elementwise
from qcomp.targets.tvm import table as functions


@dataclass(frozen=True)
class Table:
    """Op types with a row, those exempt, and the base of the types that it is about."""

    rows: Iterable[type[Op]]
    exempt: Exemptions = field(default_factory=dict)
    of: type[Op] = Op


TABLES = {
    "meanings": Table(evaluate.MEANINGS, evaluate.EXEMPT),
    "text examples": Table([OPS[mnemonic] for mnemonic in EXAMPLES]),
    "layout": Table(layout.RULES, layout.EXEMPT),
    "channel classes": Table(channel_classes.RULES, channel_classes.EXEMPT),
    "propagation": Table(propagate.RULES, propagate.EXEMPT),
    "saturation": Table(saturation.SEEN, saturation.EXEMPT),
    "integer rules": Table(integer_rules.RULES, integer_rules.EXEMPT),
    "certificate": Table(integer_rules.SUMS, integer_rules.NO_SUMS),
    "export": Table(export.RULES, export.EXEMPT),
    "export to TFLite": Table(export_tflite.RULES, export_tflite.EXEMPT),
    "lowerings of 8 bits": Table(lowerings.LOWERINGS, lowerings.EXEMPT),
    "lowerings of 16 bits": Table(lowerings.I16_LOWERINGS, lowerings.I16_EXEMPT),
    "functions of TVM": Table(functions.FUNCTIONS, functions.EXEMPT),
    "exported binary": Table(export_elementwise.BINARY, of=Binary),
    "scalar binary": Table(scalar_region.BINARY, of=Binary),
    "neutral numbers": Table(no_effect.NEUTRAL, no_effect.EXEMPT, Binary),
    "number behind": Table(affine.NUMBER_BEHIND, affine.EXEMPT, Binary),
    "number before": Table(affine.NUMBER_BEFORE, affine.EXEMPT, Binary),
    "binary of 8 bits": Table(lower_elementwise.BINARY, of=QBinary),
    "binary of 16 bits": Table(
        lower_i16_elementwise.BINARY, lower_i16_elementwise.EXEMPT, of=QBinary
    ),
}


@pytest.mark.parametrize("mnemonic", OPS)
@pytest.mark.parametrize("name", TABLES)
def test_every_op_has_a_row_or_a_reason(name: str, mnemonic: str) -> None:
    table, cls = TABLES[name], OPS[mnemonic]
    if issubclass(cls, table.of):
        lines = [*table.rows].count(cls) + (cls in table.exempt or cls.domain in table.exempt)
        assert lines == 1, f"{mnemonic} needs a row, or a line in the exemptions, of {name}"


@pytest.mark.parametrize("name", TABLES)
def test_no_table_has_a_line_that_no_op_needs(name: str) -> None:
    table = TABLES[name]
    known = {cls for cls in OPS.values() if issubclass(cls, table.of)}
    exempt = {key for key in table.exempt if isinstance(key, type)}
    assert set(table.rows) | exempt <= known


@pytest.mark.parametrize("table", [lowerings.NARROW, lowerings.WIDE], ids=lambda t: str(t.bits))
def test_kernels_of_ops_with_several_arithmetics_say_which_they_have(
    table: lowerings.Table,
) -> None:
    assert {cls for cls in table.rows if issubclass(cls, Formed)} == set(table.forms)
    assert all(table.forms.values())


@dataclass(frozen=True, kw_only=True)
class Forgotten(IntegerOp):
    """An integer op that no table knows."""

    mnemonic: ClassVar[str] = "forgotten"
    x = Operand(0)

    def result_type(self, *inputs: TensorType) -> TensorType:
        return inputs[0]


def integer_graph(make: Callable[..., Op], bits: int = 8, **attributes: Any) -> Graph:
    low, high = integer_range(bits)
    type, qparams = TensorType(DType.activation(bits), (1, 4)), QParams(1.0, 0, low, high)
    graph = Graph("g")
    graph.inputs["x"] = graph.add_tensor(Tensor("x", type, qparams=qparams))
    graph.outputs["y"] = graph.add_op(make(inputs=("x",), output="y", **attributes))
    graph.update_tensor(replace(graph.tensor("y"), qparams=qparams))
    return graph


def sum_of_16_bits() -> Graph:
    return integer_graph(
        QReduceSum,
        16,
        axes=(1,),
        keepdims=True,
        x_zero_point=0,
        multiplier=1,
        shift=1,
        requantize=Requantize(RequantizeForm.WIDE, 0, -32768, 32767, 16),
    )


def test_a_missing_16_bit_row_is_an_error() -> None:
    graph = sum_of_16_bits()
    op = graph.op("y")
    table = lowerings.table_of(graph, op)
    assert table.bits == 16
    assert table.row(graph, op) is lowerings.I16_LOWERINGS[QReduceSum]
    rows = {cls: row for cls, row in table.rows.items() if cls is not QReduceSum}
    with pytest.raises(TargetError, match=r"%y = q_reduce_sum\((.|\n)*with 16 bits it lowers: "):
        replace(table, rows=rows).row(graph, op)


def test_a_missing_8_bit_row_is_an_error() -> None:
    graph = integer_graph(Forgotten)
    with pytest.raises(TargetError, match=r"%y = forgotten\((.|\n)*with 8 bits it lowers: "):
        lowerings.lowering_of(graph, graph.op("y"))


def test_a_missing_certificate_row_is_an_error() -> None:
    graph = integer_graph(Forgotten)
    with pytest.raises(PassError, match=r"%y = forgotten\((.|\n)*nothing bounds its sums"):
        certify_accumulators.CertifyAccumulators().run(graph, PassLog())


def test_a_pass_in_the_wrong_place_is_blamed_on_the_order() -> None:
    graph = Graph("g")
    graph.outputs["y"] = graph.add_input("x", TensorType(DType.F32, (1,)))
    graph.add_constant("unread", np.zeros(1, np.int8))
    manager = PassManager()
    working = manager.begin(graph, Form.FLOAT)
    expected = r"pass certify-accumulators can't run here, as it needs form integer: (.|\n)*"
    with pytest.raises(PassError, match=expected + r"\(passes already run: none\)"):
        manager.run(working, [certify_accumulators.CertifyAccumulators(), FuseRequantize()])
    assert str(working) == str(graph)


def test_an_op_type_is_exempt_by_its_own_line_else_by_that_of_its_domain() -> None:
    exempt = {Domain.INTEGER: "integer", QReduceSum: "sum"}
    assert exemption(exempt, QReduceSum) == "sum"
    assert exemption(exempt, Forgotten) == "integer"
    assert exemption(exempt, Add) is None
