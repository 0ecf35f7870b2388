"""Gathering from, and scattering to, places that are computed, by rows of an identity matrix.

Such a row is 1 at the place that an index says and 0 elsewhere: a product with it picks, and a
choice by it puts. It is looked up as rows of any constant table are, so that indices count from the
end where they are negative, and those of inputs are checked before anything is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import make_node

from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.expansion import Expansion, Nodes, Source

_MOST_PLACES = 1024  # of an axis: the matrix has their square


def _is_computed(s: Source) -> bool:
    """Whether the places are, and what is there too."""
    known = s.context.constants
    return all(s.input(i) and s.input(i) not in known for i in (0, 1))


def gather(s: Source) -> Nodes:
    """Along one axis, indices of any rank."""
    if not _is_computed(s):
        return [s.proto]
    data, indices = s.shape(0), s.shape(1)
    axis = _axis(s, len(data))
    others = (*data[:axis], *data[axis + 1 :])
    first = [axis, *(a for a in range(len(data)) if a != axis)]
    flat = s.integers("flat", [math.prod(indices)])
    rows = s.integers("rows", [data[axis], math.prod(others)])
    whole = s.integers("whole", [*indices, *others])
    k = len(indices)
    back = [*range(k, k + axis), *range(k), *range(k + axis, k + len(others))]
    return [
        make_node("Reshape", [s.input(1), flat], [s.name("indices")]),
        _one_hot(s, s.name("indices"), data[axis]),
        make_node("Transpose", [s.input(0)], [s.name("first")], perm=first),
        make_node("Reshape", [s.name("first"), rows], [s.name("matrix")]),
        make_node("MatMul", [s.name("one hot"), s.name("matrix")], [s.name("picked")]),
        make_node("Reshape", [s.name("picked"), whole], [s.name("apart")]),
        make_node("Transpose", [s.name("apart")], [s.output], perm=back),
    ]


def gather_nd(s: Source) -> Nodes:
    """Along the axis behind those of the batch; rows of a constant table are a Gather."""
    if s.input(1) in s.context.constants:
        return [s.proto]
    data, indices, batch = s.shape(0), s.shape(1), s.integer("batch_dims", 0)
    if s.input(0) in s.context.constants and indices[-1:] == (1,) and batch == 0:
        ids = s.integers("ids", indices[:-1])
        return [
            make_node("Reshape", [s.input(1), ids], [s.name("indices")]),
            make_node("Gather", [s.input(0), s.name("indices")], [s.output], axis=0),
        ]
    if indices[-1:] != (1,) or not 0 <= batch < min(len(data), len(indices)):
        raise Refused(
            f"indices {list(indices)} are computed", "those of one axis, or constant ones"
        )
    left, places, right = data[:batch], indices[batch:-1], data[batch + 1 :]
    sizes = math.prod(left), math.prod(places), data[batch], math.prod(right)
    flat = s.integers("flat", sizes[:2])
    matrices = s.integers("matrices", [sizes[0], sizes[2], sizes[3]])
    whole = s.integers("whole", [*left, *places, *right])
    return [
        make_node("Reshape", [s.input(1), flat], [s.name("indices")]),
        _one_hot(s, s.name("indices"), data[batch]),
        make_node("Reshape", [s.input(0), matrices], [s.name("matrix")]),
        make_node("MatMul", [s.name("one hot"), s.name("matrix")], [s.name("picked")]),
        make_node("Reshape", [s.name("picked"), whole], [s.output]),
    ]


def scatter_elements(s: Source) -> Nodes:
    """One place along the axis for each of the others, as of a cache of keys that grows."""
    if s.input(1) in s.context.constants:
        return [s.proto]
    data, indices = s.shape(0), s.shape(1)
    axis = _axis(s, len(data))
    if s.text("reduction", "none") != "none":
        raise Refused("a reduction to places that are computed", "none")
    if indices != (*data[:axis], 1, *data[axis + 1 :]):
        raise Refused(
            f"indices {list(indices)} for {list(data)} are computed",
            "one along the axis and all of the others, or constant ones",
        )
    rank = len(data)
    others = s.integers("others", [*data[:axis], *data[axis + 1 :]])
    order = [*range(axis), rank - 1, *range(axis, rank - 1)]
    return [
        make_node("Reshape", [s.input(1), others], [s.name("indices")]),
        _one_hot(s, s.name("indices"), data[axis]),
        make_node("Transpose", [s.name("one hot")], [s.name("here")], perm=order),
        make_node("Cast", [s.name("here")], [s.name("condition")], to=TensorProto.BOOL),
        make_node("Where", [s.name("condition"), s.input(2), s.input(0)], [s.output]),
    ]


def scatter_nd(s: Source) -> Nodes:
    """One row of the first axis, as of a cache that is written at a position."""
    if s.input(1) in s.context.constants:
        return [s.proto]
    data, indices = s.shape(0), s.shape(1)
    if s.text("reduction", "none") != "none":
        raise Refused("a reduction to places that are computed", "none")
    if math.prod(indices) != 1 or s.shape(2) != (*indices[:-1], *data[1:]):
        raise Refused(
            f"indices {list(indices)} for {list(data)} are computed",
            "one row of the first axis, or constant ones",
        )
    column = s.integers("column", [data[0], *(1 for _ in data[1:])])
    row = s.integers("row", [1, *data[1:]])
    one = s.integers("one", [1])
    return [
        make_node("Reshape", [s.input(1), one], [s.name("indices")]),
        _one_hot(s, s.name("indices"), data[0]),
        make_node("Reshape", [s.name("one hot"), column], [s.name("here")]),
        make_node("Cast", [s.name("here")], [s.name("condition")], to=TensorProto.BOOL),
        make_node("Reshape", [s.input(2), row], [s.name("update")]),
        make_node("Where", [s.name("condition"), s.name("update"), s.input(0)], [s.output]),
    ]


def _axis(s: Source, rank: int) -> int:
    axis = s.integer("axis", 0)
    if not -rank <= axis < rank:
        raise Refused(f"axis {axis} of rank {rank}")
    return axis % rank


def _one_hot(s: Source, indices: str, places: int) -> onnx.NodeProto:
    """A row for each index."""
    if places > _MOST_PLACES:
        raise Refused(f"places of {places} are computed", f"up to {_MOST_PLACES}")
    identity = s.given("identity", np.eye(places, dtype=np.float32))
    return make_node("Gather", [identity, indices], [s.name("one hot")], axis=0)


PLACES: Mapping[tuple[str, str], Expansion] = {
    ("", "GatherND"): gather_nd,
    ("", "ScatterElements"): scatter_elements,
    ("", "ScatterND"): scatter_nd,
}
