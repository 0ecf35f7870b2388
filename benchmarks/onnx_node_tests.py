"""Run the ONNX project's own node tests through the importer; write docs/onnx-operators.md.

    python benchmarks/onnx_node_tests.py

A test passes when the imported graph's meaning in numpy equals the expected output. Node tests give
every operand as a graph input; qcomp wants weights, axes and shapes as constants, so each test is
also run with all operands but the first bound to the test's data. Where a test compares a constant
(Shape, Range ...), an addition of an input is appended, because a graph of constants has nothing to
compile.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from qcomp.errors import CompileError
from qcomp.frontends.onnx import import_onnx
from qcomp.frontends.onnx.quantized import BORDERS
from qcomp.frontends.onnx.rules import FOLDED_ONLY, RULES
from qcomp.frontends.onnx.spelled import SPELLED
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph

PAGE = Path(__file__).parent.parent / "docs" / "onnx-operators.md"
FUNCTION_BODIES = "(function bodies)"
SIMPLER = {op for _, op in SPELLED} | {"Einsum"}
OPERATORS = {*RULES, *FOLDED_ONLY, *SIMPLER} - set(BORDERS)
"""Those with numbers to compare: what is quantized stays a float in the imported graph."""

Status = Literal["passes", "refused", "FAILED", "other types"]


@dataclass(frozen=True)
class Outcome:
    """What became of one node test."""

    test: str
    operator: str
    status: Status
    reason: str = ""
    bound: bool = False
    graph: Graph | None = None


@dataclass(frozen=True)
class NodeTest:
    """A model with one set of inputs and expected outputs."""

    name: str
    operator: str
    model: onnx.ModelProto
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    rtol: float
    atol: float

    @property
    def is_numeric(self) -> bool:
        """The first operand is an array of numbers; operators on constants take what they get."""
        return self.operator in FOLDED_ONLY or (
            bool(self.inputs)
            and isinstance(self.inputs[0], np.ndarray)
            and self.inputs[0].dtype.kind in "fiub"
        )


def node_tests() -> Iterator[NodeTest]:
    """The tests whose operators are all in the importer's table."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases()
    for case in sorted(cases, key=lambda c: c.name):
        nodes = case.model.graph.node
        if not all(n.op_type in OPERATORS and n.domain in ("", "ai.onnx") for n in nodes):
            continue
        operator = FUNCTION_BODIES if "_expanded" in case.name else nodes[0].op_type
        ((inputs, outputs),) = case.data_sets
        arrays = [np.asarray(x) if isinstance(x, np.generic) else x for x in inputs]
        yield NodeTest(case.name, operator, case.model, arrays, outputs, case.rtol, case.atol)


def run_test(test: NodeTest) -> Outcome:
    """As it is, and with operands bound; a wrong number in either is a failure."""
    if not test.is_numeric:
        return Outcome(test.name, test.operator, "other types")
    plain = _attempt(test, bound=0)
    arrays = all(isinstance(x, np.ndarray) for x in test.inputs)
    first = 0 if test.operator in FOLDED_ONLY else 1
    if not arrays or len(test.inputs) <= first:
        return plain
    bound = _attempt(test, bound=len(test.inputs) - first)
    for outcome in (plain, bound):
        if outcome.status == "FAILED":
            return outcome
    if plain.status == "passes" or bound.status == "refused":
        return plain if plain.status == "passes" else bound
    return bound


def _attempt(test: NodeTest, *, bound: int) -> Outcome:
    """One run with the last `bound` inputs as initializers."""
    kept = len(test.inputs) - bound
    model = _with_initializers(test, kept)
    inputs = dict(zip([i.name for i in model.graph.input[:kept]], test.inputs, strict=False))
    outputs = list(test.outputs)
    if test.operator in FOLDED_ONLY:
        _add_to_inputs(model, inputs, outputs)
    try:
        graph = import_onnx(model).graph
    except CompileError as error:
        return Outcome(test.name, test.operator, "refused", str(error))
    with np.errstate(all="ignore"):
        results = evaluate(graph, {n: np.asarray(x, np.float32) for n, x in inputs.items()})
    wrong = [
        name
        for (name, got), expected in zip(results.items(), outputs, strict=True)
        if not _agrees(test, got, np.asarray(expected))
    ]
    if wrong:
        return Outcome(test.name, test.operator, "FAILED", f"wrong: {', '.join(wrong)}", bound > 0)
    return Outcome(test.name, test.operator, "passes", "", bound > 0, graph)


def _agrees(test: NodeTest, got: np.ndarray, expected: np.ndarray) -> bool:
    return got.shape == expected.shape and bool(
        np.allclose(
            got, expected.astype(np.float32), rtol=test.rtol, atol=test.atol, equal_nan=True
        )
    )


def _with_initializers(test: NodeTest, kept: int) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    given = list(model.graph.input)[kept:]
    for value, data in zip(given, test.inputs[kept:], strict=True):
        model.graph.initializer.append(onnx.numpy_helper.from_array(data, value.name))
    del model.graph.input[kept:]
    return model


def _add_to_inputs(model: onnx.ModelProto, inputs: dict[str, Any], outputs: list[Any]) -> None:
    """Make each constant output `constant + input`, with an input of zeros."""
    graph = model.graph
    for i, expected in enumerate(outputs):
        given, zero, number = graph.output[i].name, f"zero{i}", f"number{i}"
        graph.node.append(onnx.helper.make_node("Cast", [given], [number], to=1))
        graph.node.append(onnx.helper.make_node("Add", [zero, number], [f"sum{i}"]))
        shape = np.shape(expected)
        graph.input.append(onnx.helper.make_tensor_value_info(zero, 1, shape))
        graph.output[i].CopyFrom(onnx.helper.make_tensor_value_info(f"sum{i}", 1, shape))
        inputs[zero] = np.zeros(shape, np.float32)


def page(outcomes: Sequence[Outcome]) -> str:
    """The Markdown table of all operators and the list of what is refused."""
    count = {s: sum(o.status == s for o in outcomes) for s in ("passes", "refused", "FAILED")}
    lines = [
        "# ONNX operators",
        "",
        f"Written by `python benchmarks/onnx_node_tests.py` with onnx {onnx.__version__} "
        f"(opset {onnx.defs.onnx_opset_version()}); do not edit.",
        "",
        "qcomp imports opset 7 to the newest that the installed `onnx` knows, on activations of",
        "static shape. Numbers of every type are float32 in its graphs, truth values are 0 and",
        "1, and quotients of integers and casts to integers are truncated. An `If` takes the",
        "branch of its condition where that is known; else both are computed and one is chosen.",
        "A `Loop` whose number of trips and condition are known, and a `Scan`, are read once for",
        "each trip, up to 4096 nodes in all.",
        "Functions of the model are inlined. Sequences of known elements (SplitToSequence,",
        "SequenceConstruct, SequenceInsert, SequenceErase, SequenceAt, SequenceLength,",
        "ConcatFromSequence) are read as the tensors that they hold.",
        "",
        "Models that are quantized already, with QuantizeLinear and DequantizeLinear or with",
        "operators of integers (ConvInteger, DynamicQuantizeLinear, MatMulInteger, QLinearConv,",
        "QLinearMatMul, and of com.microsoft DynamicQuantizeLSTM, DynamicQuantizeMatMul,",
        "MatMulIntegerToFloat, QGemm, QLinearAdd, QLinearAveragePool, QLinearConcat,",
        "QLinearGlobalAveragePool, QLinearLeakyRelu, QLinearMul, QLinearSigmoid, QLinearSoftmax),",
        "are taken as the floats that they stand for, with the scales that the file has:",
        "[calibration](calibration.md).",
        "Those are held to ONNX Runtime by tests of their own, as are SkipLayerNormalization,",
        "SkipSimplifiedLayerNormalization and SimplifiedLayerNormalization, which its optimizer",
        "writes, and LayerNormalization in opsets before 17.",
        "",
        "Each row counts the ONNX project's own node tests of an operator: how many pass (the",
        "imported graph gives the expected numbers, within the test's own tolerance), how many",
        "of these only with operands that qcomp needs at compile time (weights, axes, shapes)",
        "bound to the test's data, and how many are refused with an error that names the node.",
        "Tests on what is no array of numbers (text, sequences), or of numbers that numpy does",
        "not know, are counted apart.",
        "",
        f"In all: {count['passes']} pass, {count['refused']} are refused, {count['FAILED']} fail.",
        "",
        "| operator | passes | of these bound | refused | FAILED | other types |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for operator in (*sorted(OPERATORS), FUNCTION_BODIES):
        mine = [o for o in outcomes if o.operator == operator]
        of = {
            s: sum(o.status == s for o in mine)
            for s in ("passes", "refused", "FAILED", "other types")
        }
        bound = sum(o.bound and o.status == "passes" for o in mine)
        lines.append(
            f"| {operator} | {of['passes']} | {bound} | {of['refused']} | {of['FAILED']} "
            f"| {of['other types']} |"
        )
    lines += [
        "",
        f"`{FUNCTION_BODIES}`: tests of operators written out as ONNX's own function body in terms "
        "of the operators above.",
        "",
        "## What is refused, and why",
        "",
        "| test | reason |",
        "|---|---|",
    ]
    lines += [
        f"| {o.test} | {_cell(o.reason)} |" for o in outcomes if o.status in ("refused", "FAILED")
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("\n", "<br>").replace("|", "\\|")


def main() -> int:
    outcomes = [run_test(test) for test in node_tests()]
    PAGE.write_text(page(outcomes), encoding="utf-8")
    failed = [o for o in outcomes if o.status == "FAILED"]
    for outcome in failed:
        sys.stderr.write(f"{outcome.test}: {outcome.reason}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
