"""What a library says of itself: its sizes, and of which graph it was made.

A record in its constants, behind a mark by which it is found in files of any format. NAME_sizes
returns its address, the header's NAME_check compares it with what the header says, and a directory
is loaded by it: sizes that stand beside a library are not believed.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import astuple, dataclass, fields

from qcomp.errors import TargetError
from qcomp.ir.fingerprint import fingerprint
from qcomp.ir.graph import Graph
from qcomp.targets.base import ABI, Artifact

MARK = b"qcompABI"
_FIELDS = "<QQQQii"
MARK_BYTES, RECORD_BYTES = len(MARK), len(MARK) + struct.calcsize(_FIELDS)

DECLARATION = f"""\
#ifndef QCOMP_SIZES_DEFINED
#define QCOMP_SIZES_DEFINED
#define QCOMP_ABI {ABI}
/* What a library was built with; `model` is a digest of its integer network. */
typedef struct {{
  uint64_t arena_bytes, arena_align, weights_bytes, model;
  int32_t inputs, outputs;
}} qcomp_sizes;
#endif
"""


@dataclass(frozen=True)
class Identity:
    """The fields of qcomp_sizes, in order."""

    arena_bytes: int
    arena_align: int
    weights_bytes: int
    model: int
    inputs: int
    outputs: int

    @staticmethod
    def of(graph: Graph, arena: int, align: int, weights: int) -> Identity:
        counts = len(graph.inputs), len(graph.outputs)
        return Identity(arena, align, weights, fingerprint(graph), *counts)

    def record(self) -> bytes:
        """The mark, and qcomp_sizes as it lies in memory, little-endian."""
        return MARK + struct.pack(_FIELDS, *astuple(self))


def check_artifact(artifact: Artifact, graph: Graph) -> None:
    """ValueError where the files are of another graph, or need other memory, than is said."""
    memory = artifact.memory
    said = Identity.of(graph, memory.arena, memory.align, memory.weights)
    found = _identity_in(artifact, artifact.plan)
    if found != said:
        raise ValueError(f"the library is of another build: {_differences(found, said)}")


def check_loaded(sizes: int, artifact: Artifact) -> None:
    """TargetError where a loaded library, whose NAME_sizes returns `sizes`, is not the artifact."""
    raw = ctypes.string_at(sizes, RECORD_BYTES - MARK_BYTES)
    loaded, expected = Identity(*struct.unpack(_FIELDS, raw)), _identity_in(artifact)
    if loaded != expected:
        raise TargetError(
            f"the shared library of {artifact.name} is not of the same build as the static one: "
            f"{_differences(loaded, expected)}"
        )


def _identity_in(artifact: Artifact, plan: int = 0) -> Identity:
    """The record of a plan among the files; ValueError where none of them, or several, have any.

    Those of a library of several lengths lie one behind the other.
    """
    records = [
        content[at + plan * RECORD_BYTES :][:RECORD_BYTES]
        for content in artifact.files.values()
        if (at := content.find(MARK)) >= 0
    ]
    if len(records) != 1 or len(records[0]) != RECORD_BYTES or not records[0].startswith(MARK):
        raise ValueError("the library does not say what it is; compile the network again")
    return Identity(*struct.unpack(_FIELDS, records[0][MARK_BYTES:]))


def _differences(found: Identity, said: Identity) -> str:
    both = zip(fields(Identity), astuple(found), astuple(said), strict=True)
    return ", ".join(f"{field.name} {a} for {b}" for field, a, b in both if a != b)
