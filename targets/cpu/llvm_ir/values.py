"""Values: what an operand is, by its type and by the text that names it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from qcomp.targets.cpu.llvm_ir.types import ArrayType, IntType, Type, VectorType

_PLAIN_NAME = re.compile(r"[-a-zA-Z$._][-a-zA-Z$._0-9]*\Z")


class Value:
    """A result, an argument, a constant or a global; `ref` is its text as an operand."""

    __slots__ = ("ref", "type")

    # Any: emitters ask vectors for lanes and integers for widths, and know which they have.
    type: Any
    ref: str

    def __init__(self, type: Type, ref: str) -> None:
        self.type, self.ref = type, ref

    def __str__(self) -> str:
        return f"{self.type.text} {self.ref}"


class Constant(Value):
    """An integer."""

    __slots__ = ()

    def __init__(self, type: Type, n: int) -> None:
        self.type, self.ref = type, str(n)


def zero(type: Type) -> Value:
    """All bits 0; of a pointer, null."""
    return Value(type, type.zero)


def undefined(type: Type) -> Value:
    """Of which nothing is read."""
    return Value(type, "undef")


def vector_of(element: Type, values: Sequence[int]) -> Value:
    """The vector of these integers."""
    lanes = ", ".join([f"{element.text} {n}" for n in values])
    return Value(VectorType(element, len(values)), f"<{lanes}>")


def bytes_of(content: bytes) -> Value:
    """An array of these bytes."""
    text = "\\" + content.hex("\\") if content else ""
    return Value(ArrayType(IntType(8), len(content)), f'c"{text}"')


def distance(type: Type, there: Value, here: Value) -> Value:
    """The address of one global minus that of another, in an integer type: a constant."""
    ends = ", ".join(f"{type.text} ptrtoint ({end} to {type.text})" for end in (there, here))
    return Value(type, f"sub ({ends})")


def named(sigil: str, name: str) -> str:
    """A name as an operand; quoted where LLVM wants that."""
    if _PLAIN_NAME.match(name):
        return sigil + name
    text = name.replace("\\", "\\5c").replace('"', "\\22")
    return f'{sigil}"{text}"'
