"""The four forms a graph goes through."""

from __future__ import annotations

import enum


class Form(enum.Enum):
    """A named set of invariants; `verify(graph, form)` checks them."""

    FLOAT = "float"  # float ops on f32
    ANNOTATED = "annotated"  # and every f32 activation has a range
    QDQ = "qdq"  # every float op reads dequantized tensors and feeds a quantize, or is kept
    INTEGER = "integer"  # integer ops and movements, and kept float ops; what targets accept
