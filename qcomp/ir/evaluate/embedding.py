"""Meanings of the look-up of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qcomp.ir.ops.base import Op
from qcomp.ir.ops.embedding import Embedding, QEmbedding
from qcomp.ir.tensor import Array


def embedding(op: Embedding, x: Array, table: Array) -> Array:
    """Half to even."""
    return np.asarray(table[np.clip(np.rint(x) - op.first, 0, len(table) - 1).astype(np.intp)])


def q_embedding(op: QEmbedding, x: Array, table: Array) -> Array:
    return np.asarray(table[np.clip(x.astype(np.intp) - op.first, 0, len(table) - 1)])


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    Embedding: embedding,
    QEmbedding: q_embedding,
}
