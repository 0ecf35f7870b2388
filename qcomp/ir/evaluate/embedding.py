"""Meanings of the look-up of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.ops.base import Op
from qcomp.ir.ops.embedding import Embedding, QEmbedding
from qcomp.ir.tensor import Array


def embedding(op: Embedding, x: Array, table: Array) -> Array:
    """Half to even."""
    return np.asarray(table[places(np.rint(x).astype(np.intp) - op.first, len(table), op.wraps)])


def q_embedding(op: QEmbedding, x: Array, table: Array) -> Array:
    return np.asarray(table[places(x.astype(np.intp) - op.first, len(table), op.wraps)])


def places(index: NDArray[np.intp], rows: int, wraps: bool) -> NDArray[np.intp]:
    """Where the rows of indices lie in a table."""
    counted = np.where(index < 0, index + rows, index) if wraps else index
    return np.clip(counted, 0, rows - 1)


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    Embedding: embedding,
    QEmbedding: q_embedding,
}
