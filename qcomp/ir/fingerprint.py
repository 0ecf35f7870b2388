"""A number by which a graph is known: equal for equal graphs, whoever reads them."""

from __future__ import annotations

import hashlib

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.text import arrays_of, format_graph

_BYTES = 8


def fingerprint(graph: Graph) -> int:
    """The first 64 bits of SHA-256 of the text and of all numbers that it leaves out."""
    digest = hashlib.sha256(format_graph(graph).encode())
    for id, array in sorted(arrays_of(graph), key=lambda each: each[0]):
        digest.update(f"\n{id} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return int.from_bytes(digest.digest()[:_BYTES], "little")
