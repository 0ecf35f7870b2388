"""Text form of a graph: debug format, golden-test format and, beside an .npz, the file format.

    graph @tiny(%x: f32[1,4,4,3]) {
      %w = constant : f32[8,1,1,3]
      %y = conv2d(%x, %w, %b) {stride=(1, 1), groups=1} : f32[1,4,4,8]
      return logits=%y
    }

`parse(str(g))` prints `str(g)` again. Numbers of constants are not part of the text; without
`constants` they parse as zeros. A public input name that is not an id prints as `"name"=%id`.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import math
import re
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import OPS, ClampRange, Op
from qcomp.ir.tensor import Array, DType, Tensor, TensorType
from qcomp.quant.fixed_point import Requantize
from qcomp.quant.qparams import QParams

_RECORDS: dict[str, type[Any]] = {"ClampRange": ClampRange, "Requantize": Requantize}
_INDENT = "  "


class ParseError(ValueError):
    """Text that is not a graph; names the line."""


# ---------------------------------------------------------------------- printing


def format_graph(graph: Graph) -> str:
    lines = [f"graph @{graph.name}({_format_inputs(graph)}) {{"]
    inputs = set(graph.inputs.values())
    printed: set[str] = set()
    for op in graph.ops():
        for t in op.inputs:
            if graph.is_constant(t) and t not in printed and t not in inputs:
                printed.add(t)
                lines.append(_INDENT + format_constant(graph.tensor(t)))
        lines.append(_INDENT + format_op(graph, op))
    for tensor in graph.tensors():
        if tensor.is_constant and tensor.id not in printed:
            lines.append(_INDENT + format_constant(tensor))
    outputs = ", ".join(f"{_format_name(name)}=%{t}" for name, t in graph.outputs.items())
    return "\n".join([*lines, f"{_INDENT}return {outputs}".rstrip(), "}"])


def _format_inputs(graph: Graph) -> str:
    parts = []
    for name, id in graph.inputs.items():
        prefix = "" if name == id else f"{_format_name(name)}="
        parts.append(f"{prefix}%{id}: {_format_tensor(graph.tensor(id))}")
    return ", ".join(parts)


def _format_name(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./\-]*", name) else _quoted(name)


def _quoted(name: str) -> str:
    escaped = name.encode("unicode_escape").decode().replace('"', "\\x22")
    return f'"{escaped}"'


def format_op(graph: Graph, op: Op) -> str:
    """One line: `%y = conv2d(%x, %w, %b) {stride=(1, 1)} : f32[1,4,4,8]`."""
    operands = ", ".join(f"%{t}" for t in op.inputs)
    fields = ", ".join(
        f"{f.name}={format_value(getattr(op, f.name))}" for f in attributes(type(op))
    )
    braces = f" {{{fields}}}" if fields else ""
    result = _format_tensor(graph.tensor(op.output)) if op.output in graph else "?"
    return f"%{op.output} = {op.mnemonic}({operands}){braces} : {result}"


def format_constant(tensor: Tensor) -> str:
    return f"%{tensor.id} = constant : {_format_tensor(tensor)}"


def _format_tensor(tensor: Tensor) -> str:
    text = str(tensor.type)
    if tensor.range is not None:
        text += f" range=({tensor.range[0]!r}, {tensor.range[1]!r})"
    if tensor.qparams is not None:
        q = tensor.qparams
        text += f" qparams=({q.scale!r}, {q.zero_point}, {q.qmin}, {q.qmax})"
    return text


def attributes(cls: type[Op]) -> list[dataclasses.Field[Any]]:
    """The fields of an op that are neither its operands nor its result."""
    return [f for f in dataclasses.fields(cls) if f.name not in ("inputs", "output")]


def format_value(value: object) -> str:
    match value:
        case enum.Enum():
            return str(value.value)
        case tuple():
            comma = "," if len(value) == 1 else ""
            return f"({', '.join(map(format_value, value))}{comma})"
        case _ if type(value).__name__ in _RECORDS:
            fields = dataclasses.fields(value)  # type: ignore[arg-type]
            inner = ", ".join(f"{f.name}={format_value(getattr(value, f.name))}" for f in fields)
            return f"{type(value).__name__}({inner})"
        case _:
            return repr(value)


# ----------------------------------------------------------------------- parsing

_HEADER = re.compile(r"graph @(?P<name>\S+?)\((?P<inputs>.*)\) \{$")
_INPUT = re.compile(
    r'(?:(?P<name>"(?:[^"\\]|\\.)*"|[^\s"%=,]+)=)?%(?P<id>[^\s:]+): (?P<type>[^%"]+?)(?:, (?=[%"A-Za-z_])|$)'
)
_CONSTANT = re.compile(r"%(?P<id>\S+) = constant : (?P<type>.+)$")
_OP = re.compile(
    r"%(?P<id>\S+) = (?P<mnemonic>\w+)\((?P<operands>[^()]*)\)(?: \{(?P<fields>.*)\})? : (?P<type>.+)$"
)
_OUTPUT = re.compile(r'(?P<name>"(?:[^"\\]|\\.)*"|[^\s"%=,]+)=%(?P<id>[^\s,]+)')
_TYPE = re.compile(
    r"(?P<dtype>\w+)\[(?P<shape>[\d,]*)\](?: range=(?P<range>\([^)]*\)))?(?: qparams=(?P<qparams>\([^)]*\)))?$"
)


def parse(text: str, constants: Mapping[str, Array] | None = None) -> Graph:
    """The graph that `text` prints; ParseError names the line that can't be read."""
    lines = [line.strip() for line in text.strip().splitlines()]
    header = _HEADER.match(lines[0]) if lines else None
    if header is None or lines[-1] != "}":
        raise ParseError("expected `graph @name(...) {` ... `}`")
    graph = Graph(header["name"])
    for m in _INPUT.finditer(header["inputs"]):
        graph.add_tensor(_parse_tensor(m["id"], m["type"]))
        graph.inputs[_parse_name(m["name"]) if m["name"] else m["id"]] = m["id"]
    for line in lines[1:-1]:
        try:
            _parse_line(graph, line, constants)
        except (ValueError, KeyError, TypeError, SyntaxError) as error:
            raise ParseError(f"{line}\n  {error}") from error
    return graph


def _parse_line(graph: Graph, line: str, constants: Mapping[str, Array] | None) -> None:
    if line.startswith("return"):
        graph.outputs = {_parse_name(m["name"]): m["id"] for m in _OUTPUT.finditer(line[6:])}
        for id in graph.outputs.values():
            graph.tensor(id)
    elif m := _CONSTANT.match(line):
        tensor = _parse_tensor(m["id"], m["type"])
        data = constants[m["id"]] if constants is not None else _zeros(tensor.type)
        if data.shape != tensor.type.shape or data.dtype != tensor.type.dtype.numpy:
            raise ParseError(f"constant %{m['id']} is {data.dtype}{list(data.shape)}")
        graph.add_tensor(dataclasses.replace(tensor, data=data))
    elif m := _OP.match(line):
        cls = OPS.get(m["mnemonic"])
        if cls is None:
            raise ParseError(f"unknown op {m['mnemonic']}")
        operands = tuple(t.strip().removeprefix("%") for t in m["operands"].split(",") if t.strip())
        op = cls(inputs=operands, output=m["id"], **_parse_fields(cls, m["fields"] or ""))
        graph.add_op(op)
        written = _parse_tensor(m["id"], m["type"])
        if written.type != graph.type(m["id"]):
            raise ParseError(f"type is {graph.type(m['id'])}")
        graph.update_tensor(written)
    else:
        raise ParseError("not an op, a constant or a return")


def _zeros(type: TensorType) -> Array:
    return np.broadcast_to(np.zeros((), type.dtype.numpy), type.shape)


def _parse_name(text: str) -> str:
    if not text.startswith('"'):
        return text
    return text[1:-1].encode("ascii").decode("unicode_escape")


def _parse_tensor(id: str, text: str) -> Tensor:
    m = _TYPE.match(text.strip())
    if m is None:
        raise ParseError(f"not a type: {text}")
    shape = tuple(int(e) for e in m["shape"].split(",") if e)
    range_ = tuple(_number(v) for v in m["range"][1:-1].split(",")) if m["range"] else None
    qparams = None
    if m["qparams"]:
        scale, *integers = m["qparams"][1:-1].split(",")
        qparams = QParams(float(scale), *(int(i) for i in integers))
    return Tensor(
        id,
        TensorType(DType(m["dtype"]), shape),
        range=(range_[0], range_[1]) if range_ else None,
        qparams=qparams,
    )


def _number(text: str) -> float:
    return float(text)


def _parse_fields(cls: type[Op], text: str) -> dict[str, Any]:
    call = ast.parse(f"f({text})", mode="eval").body
    assert isinstance(call, ast.Call)
    return _keywords(cls, call)


def _keywords(cls: type[Any], call: ast.Call) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {k.arg: _value(k.value, hints[k.arg]) for k in call.keywords if k.arg is not None}


def _value(node: ast.expr, hint: Any) -> Any:
    """A literal, an enum member by its value, a tuple, or one of the known records; never eval."""
    match node:
        case ast.Name(id="inf"):
            return math.inf
        case ast.Name(id="nan"):
            return math.nan
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, hint)
        case ast.Name(id=name) if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return hint(name)
        case ast.Tuple(elts=elements):
            return tuple(_value(e, None) for e in elements)
        case ast.Call(func=ast.Name(id=name)) if name in _RECORDS:
            return _RECORDS[name](**_keywords(_RECORDS[name], node))
        case ast.Constant(value=value):
            return value
    raise ParseError(f"can't read the value {ast.unparse(node)}")
