"""Dumps of devices: what a tap wrote of each tensor, as records one behind the other.

    bytes 0 to 7    "qcomptap"
    bytes 8 to 11   the tensor's number, little-endian
    bytes 12 to 15  how many bytes follow
    then            its values, as the tap was given them

A run begins with tensor 0, the first input. A dump comes from anywhere: a record is read if its
tensor exists and has so many bytes, and whatever else is there is an error that names the place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from qcomp.errors import ModelError
from qcomp.files import open_regular
from qcomp.ir.graph import Graph
from qcomp.ir.numbering import activations

MARK = b"qcomptap"
_HEAD = struct.Struct("<8sII")


@dataclass(frozen=True)
class Record:
    """A tensor of a run, by their numbers from 0, with its bytes."""

    run: int
    number: int
    data: bytes


def record(number: int, data: bytes) -> bytes:
    """What a tap writes of a tensor."""
    return _HEAD.pack(MARK, number, len(data)) + data


def read_dump(path: Path, graph: Graph) -> Iterator[Record]:
    """The records of a file, one at a time; ModelError for what is no dump of the graph."""
    sizes = [graph.type(id).bytes for id in activations(graph)]
    with open_regular(path) as file:
        yield from _records(file, path.name, graph, sizes)


def _records(file: IO[bytes], name: str, graph: Graph, sizes: Sequence[int]) -> Iterator[Record]:
    at, run = 0, -1
    while head := file.read(_HEAD.size):
        where = f"{name}, byte {at}"
        if len(head) < _HEAD.size:
            raise ModelError(f"{where}: the dump is cut in the head of a record")
        mark, number, size = _HEAD.unpack(head)
        if mark != MARK:
            raise ModelError(f"{where}: expected a record, which begins with {MARK.decode()!r}")
        if number >= len(sizes):
            raise ModelError(f"{where}: tensor {number}; {graph.name} has {len(sizes)}")
        tensor = f"tensor {number}, %{activations(graph)[number]}"
        if size != sizes[number]:
            raise ModelError(f"{where}: {size} bytes of {tensor}, which has {sizes[number]}")
        data = file.read(size)
        if len(data) < size:
            raise ModelError(f"{where}: the dump is cut: {len(data)} of {size} bytes of {tensor}")
        run += number == 0
        if run < 0:
            raise ModelError(f"{where}: it begins with {tensor}; a run begins with tensor 0")
        yield Record(run, number, data)
        at += _HEAD.size + size
    if run < 0:
        raise ModelError(f"{name} is empty; expected the records of a tap")
