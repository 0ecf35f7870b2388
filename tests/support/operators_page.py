"""docs/operators.md: what tests ran of each op, from models in to code out.

    op x {ONNX, TFLite, PyTorch, quantized} x {import, integer code, exact against what}

Nothing is a row's because somebody says so: imports are those of the tests' own files, integer ops
those that graphs of one op become, and what TFLite's operators are held to is read of the page that
their tests hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from exported_ops import CASES, CONSTANTS, RECURRENT, SEQUENCE, SHAPE, X, graph_of
from operator_cases import BOTH, FLOATS, Net

from qcomp.config import QuantizationConfig
from qcomp.errors import CompileError
from qcomp.frontends import import_model
from qcomp.frontends.onnx.quantized import QUANTIZED
from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    OPS,
    AbsMax,
    AveragePool2d,
    Compare,
    Domain,
    Embedding,
    Function,
    IntegerOp,
    Op,
    QRecurrent,
    QScaleUp,
    Recurrent,
    Relation,
    Reshape,
    Resize2d,
    ScaleDown,
    ScaleUp,
    Select,
    SpaceToDepth,
    Transpose,
    Unary,
)
from qcomp.ir.tensor import DType
from qcomp.passes.annotate_ranges import AnnotateRanges
from qcomp.passes.base import PassManager
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.passes.insert_quantize import InsertQuantize
from qcomp.recipes.named import settled
from qcomp.targets.cpu.lower.table import I16_LOWERINGS, LOWERINGS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "operators.md"
KEPT = {8: LOWERINGS, 16: I16_LOWERINGS}
_BEFORE_OTHERS = ("CAST", "DEQUANTIZE", "QUANTIZE")
"""Operators whose files have another one behind them, or no floats."""
_HEAD = """\
# Operators

Written by `tests/frontends/test_onnx_operators.py` (QCOMP_WRITE_DOCS=1); do not edit.

What tests run of each op of qcomp, from the operators that are imported as it to the code that is
generated for it:

- **ONNX**, **TFLite**: operators that are this op, and maybe movements around it. ONNX's own node
  tests ([all of them](onnx-operators.md)) and LiteRT's reference kernels
  ([their table](tflite-operators.md)) say what they compute; float graphs give that within the
  tests' tolerances.
- **PyTorch**: modules come by torch's own exporter to ONNX, so that what is said of ONNX holds.
- **quantized**: QDQ is any operator of ONNX between DequantizeLinear and QuantizeLinear; operators
  of integers by their names; and the types of TFLite's activations.
- **integer code**: the op that kernels are written for, with activations of 8 bits, and of 16.
- **exact**: code equals the op's [specification](arithmetic.md) in every bit, always. Then what
  LiteRT's reference gives for TFLite files of integers, "a step" being the most that results differ
  by, and "bits" that with `arithmetic="tflite"` none does; and ONNX Runtime's results for operators
  of integers, in which operands are not rounded: within 2 % of the largest.

Batch normalisations are folded into layers before there are integers.

| op | ONNX | TFLite | PyTorch | quantized | integer code | exact against |
|---|---|---|---|---|---|---|
"""
_COMPOSED = """
## Operators of several ops

| operator | of | ops |
|---|---|---|
"""


def key(op: Op) -> str:
    """What a row is named by: the function of a unary op, else the op."""
    return op.function.value if isinstance(op, Unary) else op.mnemonic


def keys(graph: Graph) -> tuple[str, ...]:
    """Of the ops; those that only give values another shape or order count where they are alone."""
    ops = graph.ops()
    others = [op for op in ops if not isinstance(op, Reshape | Transpose)]
    return tuple(dict.fromkeys(key(op) for op in others or ops))


def text(onnx: Mapping[str, Iterable[str]]) -> str:
    """The page; `onnx` has the ops of each operator that passes a node test."""
    found = {name: tuple(ops) for name, ops in onnx.items()}
    tflite, held = _tflite(), _held()
    code = _integer_code()
    rows = []
    for name in sorted({*code, *(n for ops in found.values() if len(ops) == 1 for n in ops)}):
        theirs = sorted(n for n, ops in found.items() if ops == (name,))
        lite = sorted(n for n, ops in tflite.items() if ops == (name,))
        cells = [
            f"`{name}`",
            ", ".join(theirs) or "-",
            ", ".join(lite) or "-",
            "as ONNX" if theirs else "-",
            _quantized(theirs, lite, held),
            code.get(name, "-"),
            _exact(theirs, lite, held),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    both = [(n, "ONNX", ops) for n, ops in found.items() if len(ops) > 1]
    both += [(n, "TFLite", ops) for n, ops in tflite.items() if len(ops) > 1]
    composed = [
        f"| {name} | {of} | {', '.join(f'`{op}`' for op in ops)} |"
        for name, of, ops in sorted(both)
    ]
    return _HEAD + "\n".join(rows) + "\n" + _COMPOSED + "\n".join(composed) + "\n"


def _tflite() -> dict[str, tuple[str, ...]]:
    """The ops of each operator, over all of its files."""
    found: dict[str, dict[str, None]] = {}
    for name, case in {**BOTH, **FLOATS}.items():
        operator = re.split("[, ]", name)[0]
        if operator in _BEFORE_OTHERS:
            continue
        net = Net(np.float32)
        case(net)
        made = keys(import_model(net.model).graph)
        found.setdefault(operator, {}).update(dict.fromkeys(made))
    return {name: _less_fused(tuple(ops)) for name, ops in found.items()}


def _less_fused(ops: tuple[str, ...]) -> tuple[str, ...]:
    """A clamp that a file has fused is no op of its own."""
    return tuple(op for op in ops if op != "clamp") or ops


def _held() -> dict[str, dict[str, str]]:
    """By operator and type, what the page of TFLite says that its tests hold."""
    page = (DOCS / "tflite-operators.md").read_text("utf-8")
    head, *rows = re.findall(r"^\| ([A-Za-z0-9_]+ \|.*) \|$", page, re.MULTILINE)
    names = head.split(" | ")[2:]
    cells = [row.split(" | ") for row in rows]
    return {operator: dict(zip(names, rest, strict=False)) for operator, _, *rest in cells}


def _quantized(onnx: list[str], lite: list[str], held: Mapping[str, Mapping[str, str]]) -> str:
    told = ["QDQ"] if onnx else []
    told += sorted(op for _, op in QUANTIZED if _stands_for(op) in onnx)
    types = [t for t in ("int8", "uint8", "int16") if any(_runs(held, n, t) for n in lite)]
    return ", ".join(told + types) or "-"


def _stands_for(op: str) -> str:
    """QLinearConv for Conv, MatMulIntegerToFloat for MatMul."""
    return re.sub(r"^(QLinear|Q|DynamicQuantize)|Integer(ToFloat)?$", "", op)


def _runs(held: Mapping[str, Mapping[str, str]], operator: str, type: str) -> bool:
    return bool({"yes", "bits"} & set(held.get(operator, {}).get(type, "").split(", ")))


def _exact(onnx: list[str], lite: list[str], held: Mapping[str, Mapping[str, str]]) -> str:
    told = ["specification"]
    words = {w for n in lite for cell in held.get(n, {}).values() for w in cell.split(", ")}
    for word, means in (("yes", "LiteRT (a step)"), ("bits", "LiteRT (bits)")):
        told += [means] if word in words else []
    if any(_stands_for(op) in onnx for _, op in QUANTIZED):
        told.append("ONNX Runtime (2 %)")
    return ", ".join(told)


# ------------------------------------------------------------------ integer code


def _integer_code() -> dict[str, str]:
    """By name: the integer ops that graphs of the op become, and the widths that have kernels."""
    ops = [*CASES, *RECURRENT, *_more()]
    found: dict[str, dict[str, set[int]]] = {}
    for op in ops:
        if op.domain is Domain.INTEGER:
            continue
        for bits in (8, 16):
            shape = SEQUENCE if isinstance(op, Recurrent) else SHAPE
            for integer in _lowered(graph_of(op, shape, spatial_first=False), bits):
                if type(integer) in KEPT[bits] or isinstance(integer, QRecurrent):
                    widths = found.setdefault(key(op), {}).setdefault(integer.mnemonic, set())
                    widths.add(bits)
    found["scale_up"] = {o.mnemonic: {16} for o in _scaled_up() if isinstance(o, QScaleUp)}
    return {name: _told(widths) for name, widths in found.items()}


def _scaled_up() -> list[Op]:
    """A product's scale is found from its own maximum, so that a graph has both."""
    graph = graph_of(AbsMax(inputs=X, output="y", axes=(1, 2, 3)), SHAPE, spatial_first=False)
    graph.add_constant("c", CONSTANTS["c"])
    product = graph.add_op(Unary(inputs=X, output="product", function=Function.TANH))
    graph.outputs["y"] = graph.add_op(ScaleUp(inputs=(product, "y", "c"), output="up"))
    return _lowered(graph, 16)


def _more() -> list[Op]:
    """Ops that the list of those exported leaves to tests of their own."""
    functions = [Unary(inputs=X, output="y", function=f, alpha=1.5, beta=0.25) for f in Function]
    pool = AveragePool2d(inputs=X, output="y", kernel=(2, 2))
    return [
        *functions,
        pool,
        Resize2d(inputs=X, output="y", size=(12, 10), scale=(2.0, 2.0)),
        SpaceToDepth(inputs=X, output="y", block=1),
        Compare(inputs=("x", "positive"), output="y", relation=Relation.LESS),
        Select(inputs=("x", "c", "positive"), output="y"),
        Embedding(inputs=("x", "rows"), output="y"),
        ScaleDown(inputs=("x", "x"), output="y"),
    ]


def _told(widths: Mapping[str, set[int]]) -> str:
    return ", ".join(
        f"`{mnemonic}` ({' and '.join(map(str, sorted(bits)))})"
        for mnemonic, bits in sorted(widths.items())
    )


def _lowered(graph: Graph, bits: int) -> list[Op]:
    """The integer ops of a graph of one op: those that move nothing, or all there are."""
    shape = graph.type("x").shape
    x = np.abs(np.random.default_rng(0).normal(size=shape)).astype(np.float32) + np.float32(0.1)
    values = evaluate_all(graph, {"x": x})
    floats = [t.id for t in graph.tensors() if t.type.dtype is DType.F32 and not t.is_constant]
    with np.errstate(invalid="ignore"):
        spans = {id: (float(values[id].min()), float(values[id].max())) for id in floats}
    ranges = {id: (max(low, -1e6), min(high, 1e6)) for id, (low, high) in spans.items()}
    config = settled(QuantizationConfig(recipe="fast", activation_bits=bits), calibrated=True)
    passes = [AnnotateRanges(ranges), InsertQuantize(config), FuseRequantize()]
    try:
        lowered = PassManager().run(graph, passes)
    except CompileError:
        return []
    made = [o for o in lowered.ops() if isinstance(o, IntegerOp)]
    return made or lowered.ops()


def missing(page: str) -> list[str]:
    """Float ops and functions without a row."""
    named = set(re.findall(r"^\| `([a-z0-9_]+)` \|", page, re.MULTILINE))
    every = {f.value for f in Function}
    every |= {
        mnemonic
        for mnemonic, cls in OPS.items()
        if cls.domain in (Domain.FLOAT, Domain.ANY) and cls is not Unary
    }
    return sorted(every - named)
