"""Read an ONNX model from a path, bytes or a ModelProto; the file is not trusted.

Every failure of protobuf or onnx becomes a ModelError that names the model.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.checker
import onnx.inliner
from google.protobuf.message import DecodeError, EncodeError

from qcomp.errors import ModelError
from qcomp.files import open_regular
from qcomp.frontends.onnx.structure import all_nodes, check_text

MIN_OPSET = 7
DEFAULT_DOMAINS = ("", "ai.onnx")
_MAX_BYTES = (1 << 31) - 1  # of a protobuf message; larger weights are external data
_FREE_NODES = 20_000  # to which functions may expand, or to so many for each in the file
_NODES_PER_GIVEN = 50
_DEEPEST_CALL = 100  # that onnx's inliner follows
_INLINER_ERRORS = (
    DecodeError,
    EncodeError,
    RuntimeError,
    TypeError,
    ValueError,
    onnx.checker.ValidationError,
)


@dataclass(frozen=True)
class LoadedModel:
    """A parsed model, the folder its external data may lie in, and a name for messages."""

    proto: onnx.ModelProto
    folder: Path | None
    label: str
    opset: int

    @property
    def graph(self) -> onnx.GraphProto:
        return self.proto.graph

    @property
    def name(self) -> str:
        return self.proto.graph.name or Path(self.label).stem


def load_model(model: str | os.PathLike[str] | bytes | onnx.ModelProto) -> LoadedModel:
    """Parse, check the opset and inline the model's own functions."""
    if isinstance(model, onnx.ModelProto):
        proto, folder, label = model, None, "the model"
    elif isinstance(model, bytes):
        proto, folder, label = _parsed(model, "the model"), None, "the model"
    else:
        path = Path(model)
        proto, folder, label = _parsed(_read(path), str(path)), path.parent, str(path)
    if proto.ir_version < 1 or not proto.HasField("graph") or not proto.graph.output:
        raise ModelError(f"{label} is not an ONNX model: it has no graph with outputs")
    opset = _opset(proto, label)
    inlined = _inlined(proto, label)
    check_text(inlined.graph)
    return LoadedModel(inlined, folder, label, opset)


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > _MAX_BYTES:
                raise ModelError(f"{path} has {size} bytes; an ONNX file has up to {_MAX_BYTES}")
            return file.read()
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror or error}") from error


def _parsed(data: bytes, label: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{label} is not an ONNX model, or is truncated: {error}") from error
    return proto


def _opset(proto: onnx.ModelProto, label: str) -> int:
    versions = {o.version for o in proto.opset_import if o.domain in DEFAULT_DOMAINS}
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1:
        raise ModelError(f"{label} imports opsets {sorted(versions)} of ai.onnx; one is expected")
    version = int(versions.pop())
    if not MIN_OPSET <= version <= newest:
        raise ModelError(
            f"{label} uses opset {version}; accepted: {MIN_OPSET} to {newest} "
            "(onnx.version_converter converts older models)"
        )
    return version


def _inlined(proto: onnx.ModelProto, label: str) -> onnx.ModelProto:
    """The model with calls of its own functions replaced by their bodies."""
    if not proto.functions:
        return proto
    size = _inlined_nodes(proto, label)
    given = sum(1 for part in (proto.graph, *proto.functions) for _ in all_nodes(part.node))
    most = max(_FREE_NODES, _NODES_PER_GIVEN * given)
    if size > most:
        raise ModelError(f"{label}: its functions expand to {size} nodes; accepted: up to {most}")
    try:
        return onnx.inliner.inline_local_functions(proto)
    except _INLINER_ERRORS as error:
        raise ModelError(f"{label}: its functions can't be inlined: {error}") from error


def _inlined_nodes(proto: onnx.ModelProto, label: str) -> int:
    """How many nodes inlining gives, those in subgraphs too; recursion is refused, as the inliner
    would not end.
    """
    bodies = {
        (f.domain, f.name): Counter((n.domain, n.op_type) for n in all_nodes(f.node))
        for f in proto.functions
    }
    sizes: dict[tuple[str, str], int] = {}
    pending = set(bodies)
    for _ in range(_DEEPEST_CALL):
        ready = sorted(f for f in pending if not any(c in pending for c in bodies[f]))
        if not ready:
            names = ", ".join(f"{d}.{n}" for d, n in sorted(pending))
            raise ModelError(f"{label}: recursive functions {names}")
        for f in ready:
            sizes[f] = sum(count * sizes.get(call, 1) for call, count in bodies[f].items())
        pending -= set(ready)
        if not pending:
            break
    else:
        raise ModelError(f"{label}: functions call each other more than {_DEEPEST_CALL} deep")
    return sum(sizes.get((n.domain, n.op_type), 1) for n in all_nodes(proto.graph.node))
