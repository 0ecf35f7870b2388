"""Graphs as two files of a directory: their text, and the arrays that it leaves out.

A weight of up to 8 bits that is rounded to a grid is stored as its integers on that grid, a quarter
of its floats, and read as the values that these stand for: rounding gives the same integers again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import FakeQuantConstant
from qcomp.ir.parse import parse
from qcomp.ir.tensor import Array, TensorId
from qcomp.ir.text import arrays_of
from qcomp.ir.verify import verify
from qcomp.quant.grid import Grid
from qcomp.runtime.npz import read_arrays


def save_graph(graph: Graph, text: Path, arrays: Path, beside: Graph | None = None) -> None:
    """Write both files, without the arrays that another graph has under the same names."""
    text.write_text(str(graph) + "\n", encoding="utf-8")
    packed = _packed(graph)
    known = {} if beside is None else dict(arrays_of(beside))
    stored = {
        key: packed.get(key, array)
        for key, array in arrays_of(graph)
        if key not in known or not _same(array, known[key])
    }
    files: dict[str, Any] = {f"c{i}": a for i, a in enumerate(stored.values())}
    with arrays.open("wb") as file:
        np.savez(file, ids=_bytes(stored), packed=_bytes(packed), **files)


def load_graph(text: Path, arrays: Path, form: Form, beside: Graph | None = None) -> Graph:
    """The verified graph of both files, and of what another graph has that was saved before."""
    stored = read_arrays(arrays)
    packed = _names(stored["packed"])
    found = {} if beside is None else dict(arrays_of(beside))
    found |= {id: stored[f"c{i}"] for i, id in enumerate(_names(stored["ids"]))}
    found |= {id: _read_only(found[id].astype(np.float32)) for id in packed}
    graph = parse(text.read_text(encoding="utf-8"), found)
    for id in packed:
        (op,) = graph.consumers(id)
        if not isinstance(op, FakeQuantConstant):
            raise ValueError(f"{id} is stored as integers, and no grid is known for them")
        steps = _grid(graph, op).steps(found[id].ndim)
        values = _read_only((found[id] * steps).astype(np.float32))
        graph.update_tensor(replace(graph.tensor(id), data=values))
    verify(graph, form)
    return graph


def _same(a: Array, b: Array) -> bool:
    return a is b or (a.dtype == b.dtype and np.array_equal(a, b))


def _packed(graph: Graph) -> Mapping[TensorId, Array]:
    """The integers of weights that only one op rounds."""
    return {
        op.x: _grid(graph, op).nearest(graph.data(op.x)).astype(np.int8)
        for op in graph.ops()
        if isinstance(op, FakeQuantConstant)
        and op.bits <= 8
        and len(graph.consumers(op.x)) == 1
        and not graph.is_output(op.x)
    }


def _grid(graph: Graph, op: FakeQuantConstant) -> Grid:
    return op.grid(*(graph.data(t) for t in op.inputs[1:]))


def _bytes(names: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Names as bytes: an array of objects would be a pickle."""
    return np.frombuffer("\n".join(names).encode(), np.uint8)


def _names(data: NDArray[np.uint8]) -> list[str]:
    return [name for name in bytes(data).decode().split("\n") if name]


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
