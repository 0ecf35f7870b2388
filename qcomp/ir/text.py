"""Text form of a graph: debug format, golden-test format and, beside an .npz, the file format.

    graph @tiny(%x: f32[1,4,4,3]) {
      %w = constant : f32[8,1,1,3]
      %y = conv2d(%x, %w, %b) {stride=(1, 1), groups=1} : f32[1,4,4,8]
      return logits=%y
    }

A line `convert x axis=1 scale=[...] offset=[...]` under the first is what is done to an input or
output outside, in floats. A line `state h from y` says that input h has, in the next run, what
output y has in this one.

`parse(str(g))` (qcomp.ir.parse) prints `str(g)` again. Numbers of constants are not part of the
text, and neither are the long ones of what is known of a tensor: `scale=@64` stands for 64 of them,
and `arrays_of` has them beside the constants. A name that is not an id is quoted and escaped; an
input of another name than its tensor prints as `name=%id`.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Activation, ClampRange, Op
from qcomp.ir.tensor import Array, Origin, Tensor
from qcomp.quant.fixed_point import Requantize
from qcomp.quant.recurrence import Factor

RECORDS: dict[str, type[Any]] = {
    cls.__name__: cls for cls in (Activation, ClampRange, Factor, Requantize)
}
LONGEST_ARRAY = 8  # numbers that stand in a line
_INDENT = "  "

F64 = NDArray[np.float64]


def format_graph(graph: Graph) -> str:
    lines = [f"graph @{_format_name(graph.name)}({_format_inputs(graph)}) {{"]
    lines += [
        f"{_INDENT}convert {_format_name(name)} axis={c.axis} "
        f"scale={_format_array(np.array(c.scale))} offset={_format_array(np.array(c.offset))}"
        for name, c in graph.conversions.items()
    ]
    lines += [
        f"{_INDENT}tail {_format_name(name)} {t.function.value} axis={t.axis}"
        for name, t in graph.tails.items()
    ]
    lines += [
        f"{_INDENT}state {_format_name(name)} from {_format_name(output)}"
        for name, output in graph.states.items()
    ]
    printed = set(graph.inputs.values())
    for op in graph.ops():
        for t in dict.fromkeys(op.inputs):
            if graph.is_constant(t) and t not in printed:
                printed.add(t)
                lines.append(_INDENT + format_constant(graph.tensor(t)))
        lines.append(_INDENT + format_op(graph, op))
    unread = [t for t in graph.tensors() if t.is_constant and t.id not in printed]
    lines += [_INDENT + format_constant(t) for t in unread]
    outputs = ", ".join(f"{_format_name(name)}=%{t}" for name, t in graph.outputs.items())
    return "\n".join([*lines, f"{_INDENT}return {outputs}".rstrip(), "}"])


def _format_inputs(graph: Graph) -> str:
    return ", ".join(
        ("" if name == id else f"{_format_name(name)}=")
        + f"%{id}: {_format_tensor(graph.tensor(id))}"
        for name, id in graph.inputs.items()
    )


def _format_name(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_./\-]+", name) else _quoted(name)


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
        low, high = tensor.range
        text += f" range=({float(low)!r}, {float(high)!r})"
    if tensor.qparams is not None:
        q = tensor.qparams
        text += f" qparams=({float(q.scale)!r}, {q.zero_point}, {q.qmin}, {q.qmax})"
    if tensor.kept:
        text += " kept"
    if tensor.origin is not None:
        text += _format_origin(tensor.origin)
    return text + "".join(f" {name}={_format_array(a)}" for name, a in _arrays(tensor).items())


def _format_origin(origin: Origin) -> str:
    text = f" origin={'()' if origin.name is None else _format_name(origin.name)}"
    if origin.permutation is not None:
        text += f" permutation={format_value(origin.permutation)}"
    if origin.rewritten_by:
        text += f" rewritten=({', '.join(mark.value for mark in origin.rewritten_by)})"
    return text


def _format_array(array: F64) -> str:
    if array.size > LONGEST_ARRAY:
        return f"@{array.size}"
    return f"[{', '.join(repr(float(v)) for v in array)}]"


def _arrays(tensor: Tensor) -> dict[str, F64]:
    """What is known of a tensor in numbers per channel."""
    found = {}
    if tensor.origin is not None and tensor.origin.scale is not None:
        found["scale"] = tensor.origin.scale
    if tensor.normal is not None:
        found |= {"mean": tensor.normal.mean, "std": tensor.normal.std}
    return found


def arrays_of(graph: Graph) -> Iterator[tuple[str, Array]]:
    """All that the text leaves out: constants by id, and long arrays as `id@scale`."""
    for tensor in graph.tensors():
        if tensor.data is not None:
            yield tensor.id, tensor.data
        for name, array in _arrays(tensor).items():
            if array.size > LONGEST_ARRAY:
                yield f"{tensor.id}@{name}", array
    for public, c in graph.conversions.items():
        for name, values in (("scale", c.scale), ("offset", c.offset)):
            if len(values) > LONGEST_ARRAY:
                yield f"{public}@convert.{name}", np.array(values)


def attributes(cls: type[Op]) -> list[dataclasses.Field[Any]]:
    """The fields of an op that are neither its operands nor its result."""
    return [f for f in dataclasses.fields(cls) if f.name not in ("inputs", "output")]


def format_value(value: object) -> str:
    match value:
        case enum.Enum():
            return str(value.value)
        case np.generic():
            return repr(value.item())
        case tuple():
            comma = "," if len(value) == 1 else ""
            return f"({', '.join(map(format_value, value))}{comma})"
        case _ if type(value).__name__ in RECORDS:
            fields = dataclasses.fields(value)  # type: ignore[arg-type]
            inner = ", ".join(f"{f.name}={format_value(getattr(value, f.name))}" for f in fields)
            return f"{type(value).__name__}({inner})"
        case _:
            return repr(value)
