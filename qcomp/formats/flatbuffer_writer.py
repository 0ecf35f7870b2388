"""Writes FlatBuffers by the table of their schema that `qcomp.formats.flatbuffer` reads by.

A parent stands before its children, so offsets, which point forwards, are filled in as children are
written. Numbers are aligned to their size, and vectors of bytes to 16, as TensorFlow Lite asks of
its buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qcomp.formats.flatbuffer import SCALARS, Field, Record, Schema

_OFFSET = struct.Struct("<I")
_SIGNED = struct.Struct("<i")
_BYTES_ALIGNED = 16
_HEAD = 8  # bytes: where the root is, and the mark


def write_flatbuffer(record: Record, table: str, schema: Schema, mark: bytes = b"") -> bytes:
    """The file that begins with this table; `mark` are the four bytes by which files are known.

    Fields that the record lacks, that are None or have their default are left out.
    """
    writer = _Writer(schema)
    writer.point(0, writer.table(record, table))
    writer.data[4 : 4 + len(mark)] = mark
    return bytes(writer.data)


class _Writer:
    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.data = bytearray(_HEAD)
        self._layouts: dict[bytes, int] = {}  # where a vtable of these bytes is

    def point(self, place: int, target: int) -> None:
        """Fill in an offset."""
        _OFFSET.pack_into(self.data, place, target - place)

    def table(self, record: Record, kind: str) -> int:
        """Append a table and what it refers to; where it is."""
        fields = self.schema[kind]
        if unknown := record.keys() - fields.keys():
            raise ValueError(f"{kind} has no fields {sorted(unknown)}")
        given = {n: f for n, f in fields.items() if _is_said(f, record.get(n))}
        inline = sorted(given, key=lambda name: -_size(given[name]))
        widest = max([4, *map(_size, given.values())])
        at, end = {}, 4
        for name in inline:
            end += -end % _size(given[name])
            at[name] = end
            end += _size(given[name])
        layout = self._layout(given, at, end)
        start = self._room(end, widest)
        _SIGNED.pack_into(self.data, start, start - layout)
        for name in given:
            self._field(start + at[name], given[name], name, record)
        return start

    def _layout(self, given: Mapping[str, Field], at: Mapping[str, int], size: int) -> int:
        """Where the vtable of such a table is; equal ones share it."""
        slots = [0] * (1 + max((f.slot for f in given.values()), default=-1))
        for name, field in given.items():
            slots[field.slot] = at[name]
        packed = struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), size, *slots)
        if packed not in self._layouts:
            self._layouts[packed] = place = self._room(len(packed), 2)
            self.data[place : place + len(packed)] = packed
        return self._layouts[packed]

    def _field(self, place: int, field: Field, name: str, record: Record) -> None:
        value = record[name]
        if field.type in SCALARS:
            struct.pack_into(SCALARS[field.type], self.data, place, value)
        elif field.union:
            self.point(place, self.table(value, field.union[record[f"{name}_type"]]))
        elif field.type == "string":
            text = value.encode()
            self.point(place, self._vector(text + b"\0", "u8", len(text), aligned=1))
        elif not field.type.startswith("["):
            self.point(place, self.table(value, field.type))
        else:
            self.point(place, self._list(field.type[1:-1], value))

    def _list(self, inner: str, values: Sequence[Any]) -> int:
        if inner in SCALARS:
            array = np.asarray(values, SCALARS[inner])
            aligned = _BYTES_ALIGNED if inner == "u8" else array.itemsize
            return self._vector(array.tobytes(), inner, array.size, aligned=aligned)
        start = self._vector(bytes(4 * len(values)), "u32", len(values), aligned=4)
        for i, value in enumerate(values):
            self.point(start + 4 + 4 * i, self.table(value, inner))
        return start

    def _vector(self, data: bytes, inner: str, count: int, *, aligned: int) -> int:
        """A count, then the elements, of which the first is aligned; where the count is."""
        start = self._room(4 + len(data), max(4, aligned), behind=4)
        _OFFSET.pack_into(self.data, start, count)
        self.data[start + 4 : start + 4 + len(data)] = data
        return start

    def _room(self, size: int, aligned: int, behind: int = 0) -> int:
        """Append zeros so that the byte `behind` their begin is aligned; where they begin."""
        self.data += bytes(-(len(self.data) + behind) % aligned)
        start = len(self.data)
        self.data += bytes(size)
        return start


def _is_said(field: Field, value: Any) -> bool:
    return value is not None and (field.type not in SCALARS or value != field.default)


def _size(field: Field) -> int:
    return struct.calcsize(SCALARS[field.type]) if field.type in SCALARS else _OFFSET.size
