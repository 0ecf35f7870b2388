"""The parser of the text form: lines by regular expressions, attributes by Python's own grammar.

Attributes are read from the syntax tree, never evaluated: literals, tuples, members of the field's
enum, and the records of qcomp.ir.text.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import math
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import OPS, Op
from qcomp.ir.tensor import (
    Array,
    DType,
    Mark,
    NormalStatistics,
    Origin,
    Tensor,
    TensorType,
    constant,
)
from qcomp.ir.text import RECORDS
from qcomp.quant.conversion import Conversion
from qcomp.quant.qparams import QParams
from qcomp.quant.tail import Tail, TailFunction

Arrays = Mapping[str, Array]


class ParseError(ValueError):
    """Text that is not a graph; names the line."""


_NAME = r'"(?:[^"\\]|\\.)*"|[^\s"%=,()]+'
_ARRAY = r"(?:\[[^\]]*\]|@\d+)"
_TYPE = re.compile(
    r"(?P<dtype>\w+)\[(?P<shape>[\d,]*)\]"
    r"(?: range=\((?P<range>[^)]*)\))?(?: qparams=\((?P<qparams>[^)]*)\))?"
    r"(?P<kept> kept)?"
    rf"(?: origin=(?P<origin>\(\)|{_NAME}))?"
    r"(?: permutation=\((?P<permutation>[^)]*)\))?(?: rewritten=\((?P<rewritten>[^)]*)\))?"
    rf"(?: scale=(?P<scale>{_ARRAY}))?(?: mean=(?P<mean>{_ARRAY}) std=(?P<std>{_ARRAY}))?"
)
_TENSOR = re.sub(r"\?P<\w+>", "?:", _TYPE.pattern)
_HEADER = re.compile(rf"graph @(?P<name>{_NAME})\((?P<inputs>.*)\) \{{$")
_INPUT = re.compile(rf"(?:(?P<name>{_NAME})=)?%(?P<id>[^\s:]+): (?P<type>{_TENSOR})")
_OUTPUT = re.compile(rf"(?P<name>{_NAME})=%(?P<id>[^\s,]+)")
_CONSTANT = re.compile(rf"%(?P<id>\S+) = constant : (?P<type>{_TENSOR})$")
_CONVERT = re.compile(
    rf"convert (?P<name>{_NAME}) axis=(?P<axis>\d+) "
    rf"scale=(?P<scale>{_ARRAY}) offset=(?P<offset>{_ARRAY})$"
)
_TAIL = re.compile(rf"tail (?P<name>{_NAME}) (?P<function>\w+) axis=(?P<axis>\d+)$")
_STATE = re.compile(rf"state (?P<name>{_NAME}) from (?P<output>{_NAME})$")
_OP = re.compile(
    r"%(?P<id>\S+) = (?P<mnemonic>\w+)\((?P<operands>[^()]*)\)"
    rf"(?: \{{(?P<fields>.*)\}})? : (?P<type>{_TENSOR})$"
)


def parse(text: str, arrays: Mapping[str, Array] | None = None) -> Graph:
    """The graph that `text` prints; ParseError names the line that can't be read.

    `arrays` holds what `arrays_of` says that the text leaves out; without it they are zeros.
    """
    lines = [line.strip() for line in text.strip().split("\n")]
    header = _HEADER.match(lines[0])
    if header is None or lines[-1] != "}":
        raise ParseError("expected `graph @name(...) {` ... `}`")
    graph = Graph(_parse_name(header["name"]))
    for number, line in enumerate(lines[:-1]):
        try:
            if number == 0:
                _parse_inputs(graph, header["inputs"], arrays)
            else:
                _parse_line(graph, line, arrays)
        except (ValueError, KeyError, IndexError, TypeError, SyntaxError) as error:
            reason = f"{error} does not exist" if isinstance(error, KeyError) else str(error)
            raise ParseError(f"line {number + 1}: {line}\n  {reason}") from error
    return graph


def _parse_inputs(graph: Graph, text: str, arrays: Arrays | None) -> None:
    for m in _items(_INPUT, text):
        name = _parse_name(m["name"]) if m["name"] else m["id"]
        if name in graph.inputs:
            raise ParseError(f"two inputs have the name {name}")
        graph.inputs[name] = graph.add_tensor(_parse_tensor(m["id"], m["type"], arrays))


def _parse_line(graph: Graph, line: str, arrays: Arrays | None) -> None:
    if line == "return" or line.startswith("return "):
        graph.outputs = {
            _parse_name(m["name"]): graph.tensor(m["id"]).id for m in _items(_OUTPUT, line[7:])
        }
    elif m := _CONSTANT.match(line):
        tensor = _parse_tensor(m["id"], m["type"], arrays)
        data = arrays[m["id"]] if arrays is not None else _zeros(tensor.type)
        loaded = constant(tensor.id, data)
        if loaded.type != tensor.type:
            raise ParseError(f"the array given for it is {loaded.type}")
        graph.add_tensor(dataclasses.replace(tensor, data=loaded.data))
    elif m := _CONVERT.match(line):
        graph.conversions[_parse_name(m["name"])] = _parse_conversion(m, arrays)
    elif m := _TAIL.match(line):
        graph.tails[_parse_name(m["name"])] = Tail(TailFunction(m["function"]), int(m["axis"]))
    elif m := _STATE.match(line):
        graph.states[_parse_name(m["name"])] = _parse_name(m["output"])
    elif m := _OP.match(line):
        _parse_op(graph, m, arrays)
    else:
        raise ParseError("expected an op, a constant or a return")


def _parse_conversion(m: re.Match[str], arrays: Arrays | None) -> Conversion:
    name = _parse_name(m["name"])
    scale, offset = (
        _parse_array(f"{name}@convert.{field}", m[field], arrays) for field in ("scale", "offset")
    )
    return Conversion.of(int(m["axis"]), scale, offset)


def _parse_op(graph: Graph, m: re.Match[str], arrays: Arrays | None) -> None:
    cls = OPS.get(m["mnemonic"])
    if cls is None:
        raise ParseError(f"unknown op {m['mnemonic']}")
    operands = tuple(t.strip().removeprefix("%") for t in m["operands"].split(",") if t.strip())
    fields = _parse_fields(cls, m["fields"] or "")
    graph.add_op(cls(inputs=operands, output=m["id"], **fields))
    written = _parse_tensor(m["id"], m["type"], arrays)
    if written.type != graph.type(m["id"]):
        raise ParseError(f"its type is {graph.type(m['id'])}")
    graph.update_tensor(written)


def _items(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """The matches that fill a comma-separated list without gaps."""
    position = 0
    while position < len(text):
        m = pattern.match(text, position)
        if m is None or text[m.end() : m.end() + 2] not in ("", ", "):
            raise ParseError(f"can't read `{text[position:]}`")
        yield m
        position = m.end() + 2


def _zeros(type: TensorType) -> Array:
    return np.broadcast_to(np.zeros((), type.dtype.numpy), type.shape)


def _parse_name(text: str) -> str:
    if not text.startswith('"'):
        return text
    return text[1:-1].encode("ascii").decode("unicode_escape")


def _parse_tensor(id: str, text: str, arrays: Arrays | None) -> Tensor:
    m = _TYPE.fullmatch(text)
    if m is None:
        raise ParseError(f"not a type: {text}")
    type = TensorType(DType(m["dtype"]), tuple(int(e) for e in m["shape"].split(",") if e))
    range = qparams = None
    if m["range"]:
        low, high = m["range"].split(",")
        range = (float(low), float(high))
    if m["qparams"]:
        scale, zero_point, qmin, qmax = m["qparams"].split(",")
        qparams = QParams(float(scale), int(zero_point), int(qmin), int(qmax))
    known = {
        name: _parse_array(f"{id}@{name}", m[name], arrays)
        for name in ("scale", "mean", "std")
        if m[name]
    }
    normal = NormalStatistics(known["mean"], known["std"]) if m["mean"] else None
    origin = None
    if m["origin"]:
        axes = tuple(int(axis) for axis in (m["permutation"] or "").split(",") if axis)
        marks = tuple(Mark(mark) for mark in (m["rewritten"] or "").split(", ") if mark)
        name = None if m["origin"] == "()" else _parse_name(m["origin"])
        origin = Origin(name, axes if m["permutation"] else None, known.get("scale"), marks)
    kept = m["kept"] is not None
    return Tensor(id, type, range=range, qparams=qparams, normal=normal, origin=origin, kept=kept)


def _parse_array(key: str, text: str, arrays: Arrays | None) -> NDArray[np.float64]:
    """As it stands in the text, or beside it."""
    if not text.startswith("@"):
        return np.array([float(v) for v in text[1:-1].split(",") if v], np.float64)
    size = int(text[1:])
    array = np.zeros(size) if arrays is None else np.asarray(arrays[key], np.float64)
    if array.shape != (size,):
        raise ParseError(f"the array given for {key} has the shape {array.shape}")
    return array


def _parse_fields(cls: type[Op], text: str) -> dict[str, Any]:
    call = ast.parse(f"f({text})", mode="eval").body
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        raise ParseError(f"can't read the attributes {{{text}}}")
    return _keywords(cls, call)


def _keywords(cls: type[Any], call: ast.Call) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls) if f.name not in ("inputs", "output")]
    values = {}
    for keyword in call.keywords:
        if keyword.arg not in names:
            raise ParseError(f"no attribute {keyword.arg}; expected {', '.join(names) or 'none'}")
        value = _value(keyword.value, hints[keyword.arg])
        if not _fits(value, hints[keyword.arg]):
            raise ParseError(f"{keyword.arg}={ast.unparse(keyword.value)} has the wrong type")
        values[keyword.arg] = value
    if call.args:
        raise ParseError(f"{ast.unparse(call.args[0])} has no name")
    return values


def _value(node: ast.expr, hint: Any) -> Any:
    """A literal, an enum member by its value, a tuple, or one of the known records; never eval."""
    match node:
        case ast.Name(id=name) if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return hint(name)
        case ast.Name(id="inf"):
            return math.inf
        case ast.Name(id="nan"):
            return math.nan
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() | ast.Name() as operand):
            return -_value(operand, None)
        case ast.Tuple(elts=elements):
            each = _element_hints(hint, len(elements))
            return tuple(_value(e, h) for e, h in zip(elements, each, strict=True))
        case ast.Call(func=ast.Name(id=name)) if name in RECORDS:
            return RECORDS[name](**_keywords(RECORDS[name], node))
        case ast.Constant(value=bool() | int() | float() as value):
            return value
    raise ParseError(f"can't read the value {ast.unparse(node)}")


def _element_hints(hint: Any, count: int) -> Sequence[Any]:
    """Of the elements of a tuple; None where its type does not tell."""
    hints = typing.get_args(hint)
    if len(hints) == 2 and hints[-1] is Ellipsis:
        return (hints[0],) * count
    return hints if len(hints) == count else (None,) * count


def _fits(value: object, hint: Any) -> bool:
    """Whether a value has the type of its field."""
    if typing.get_origin(hint) is tuple:
        hints = typing.get_args(hint)
        if not isinstance(value, tuple):
            return False
        if hints[-1] is Ellipsis:
            return all(_fits(v, hints[0]) for v in value)
        return len(value) == len(hints) and all(map(_fits, value, hints))
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
