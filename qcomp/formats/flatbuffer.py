"""FlatBuffers by a table of their schema: every offset is checked, and all reading is counted.

The format (flatbuffers.dev, "FlatBuffer Internals") lets a file of a kilobyte name one table a
million times, in tables that are named as often. No file needs that; a reader that follows has to
end, so what is read may be a few times the file's size and no more.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Record = Mapping[str, Any]
"""The fields of a table by name: numbers, strings, arrays, records and tuples of records."""

SCALARS = {
    "bool": "<?",
    "i8": "<b",
    "u8": "<B",
    "u16": "<H",
    "i32": "<i",
    "i64": "<q",
    "u32": "<I",
    "u64": "<Q",
    "f32": "<f",
}
_OFFSET = struct.Struct("<I")
_SIGNED = struct.Struct("<i")
_SHORT = struct.Struct("<H")
_TIMES_THE_FILE = 4
_FREE_BYTES = 1 << 16


class BrokenBuffer(ValueError):
    """An offset or a size that leaves the file, or more to read than a file can hold."""


@dataclass(frozen=True)
class Field:
    """One field of a table: its slot and type, and what stands for it where it is left out.

    type: a scalar; "string"; the name of a table; one of these in brackets for a vector.
    union: the tables by number, where the slot before has the number; `type` is "union".
    """

    slot: int
    type: str
    default: float = 0
    union: Mapping[int, str] = field(default_factory=dict)


Schema = Mapping[str, Mapping[str, Field]]


@dataclass
class Reader:
    """Tables of `data` as `schema` has them."""

    data: bytes
    schema: Schema
    _left: int = field(init=False)

    def __post_init__(self) -> None:
        self._left = _FREE_BYTES + _TIMES_THE_FILE * len(self.data)

    def root(self, table: str) -> Record:
        """The table that the file begins with."""
        return self._table(self._follow(0), table)

    def _table(self, place: int, kind: str) -> Record:
        fields = self.schema[kind]
        self._spend(4 + 2 * len(fields))
        vtable = place - self._number(_SIGNED, place)
        size = self._number(_SHORT, vtable)
        self._within(vtable, size)
        slots = (size - 4) // 2
        record: dict[str, Any] = {}
        for name, wanted in fields.items():
            known = wanted.slot < slots
            offset = self._number(_SHORT, vtable + 4 + 2 * wanted.slot) if known else 0
            if wanted.union:
                number = record[f"{name}_type"]
                record[name] = self._union(place + offset, wanted, number) if offset else None
            else:
                record[name] = self._field(place + offset, wanted) if offset else _absent(wanted)
        return record

    def _union(self, place: int, wanted: Field, number: int) -> Record | None:
        """A table that the schema here does not describe is passed over."""
        kind = wanted.union.get(number)
        return None if kind is None else self._table(self._follow(place), kind)

    def _field(self, place: int, wanted: Field) -> Any:
        type = wanted.type
        if type in SCALARS:
            return self._number(struct.Struct(SCALARS[type]), place)
        if type == "string":
            return self._vector(self._follow(place), "u8").tobytes().decode("utf-8", "replace")
        if not type.startswith("["):
            return self._table(self._follow(place), type)
        inner, start = type[1:-1], self._follow(place)
        if inner in SCALARS:
            return self._vector(start, inner)
        places = range(start + 4, start + 4 + 4 * len(self._vector(start, "u32")), 4)
        return tuple(self._table(self._follow(p), inner) for p in places)

    def _vector(self, place: int, scalar: str) -> NDArray[Any]:
        count, dtype = self._number(_OFFSET, place), np.dtype(SCALARS[scalar])
        self._within(place + 4, count * dtype.itemsize)
        self._spend(4 + count * dtype.itemsize)
        return np.frombuffer(self.data, dtype, count, place + 4)

    def _follow(self, place: int) -> int:
        return place + int(self._number(_OFFSET, place))

    def _number(self, form: struct.Struct, place: int) -> Any:
        self._within(place, form.size)
        return form.unpack_from(self.data, place)[0]

    def _within(self, place: int, size: int) -> None:
        if not 0 <= place <= len(self.data) - size:
            raise BrokenBuffer(f"{size} bytes at {place} of a file of {len(self.data)}")

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise BrokenBuffer(
                f"its tables name each other so often that reading them would take more than "
                f"{_TIMES_THE_FILE} times its {len(self.data)} bytes"
            )


def _absent(wanted: Field) -> Any:
    """What a field is that the file leaves out."""
    if wanted.type in SCALARS:
        return _EXACT[wanted.type](wanted.default)
    if wanted.type.startswith("["):
        inner = wanted.type[1:-1]
        return np.empty(0, SCALARS[inner]) if inner in SCALARS else ()
    return "" if wanted.type == "string" else None


_EXACT = {name: bool if name == "bool" else float if name == "f32" else int for name in SCALARS}
