"""Types; equal types of values are one object, so `is` compares them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class _Kind(type):
    """A class of types that makes one object for the same arguments."""

    _known: dict[tuple[object, ...], Any] = {}  # noqa: RUF012

    def __call__(cls, *arguments: object) -> Any:
        key = (cls, *arguments)
        try:
            return _Kind._known[key]
        except KeyError:
            made = _Kind._known[key] = super().__call__(*arguments)
            return made


class Type(metaclass=_Kind):
    """`text` is what LLVM calls it, `zero` its constant of all zeros."""

    text: str
    zero: str = "zeroinitializer"

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<{self.text}>"


class VoidType(Type):
    text = "void"


class PointerType(Type):
    text, zero = "ptr", "null"


class IntType(Type):
    zero = "0"

    def __init__(self, width: int) -> None:
        self.width, self.text = width, f"i{width}"


class VectorType(Type):
    # Any: of the elements that have a width, emitters ask it.
    element: Any

    def __init__(self, element: Type, count: int) -> None:
        self.element, self.count = element, count
        self.text = f"<{count} x {element.text}>"


class ArrayType(Type):
    def __init__(self, element: Type, count: int) -> None:
        self.element, self.count = element, count
        self.text = f"[{count} x {element.text}]"


class StructType(Type):
    def __init__(self, *elements: Type) -> None:
        self.elements = elements
        self.text = f"{{{', '.join(e.text for e in elements)}}}"


class FunctionType:
    """What a function takes and returns; no value has such a type."""

    def __init__(self, return_type: Type, args: Sequence[Type]) -> None:
        self.return_type, self.args = return_type, tuple(args)
