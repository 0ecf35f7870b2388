"""A ledger as bytes: JSON, compressed. What is read may come from anywhere."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from qcomp.ir.form import Form
from qcomp.passes.events import EventKind
from qcomp.passes.ledger import LedgerEvent, PassEntry

SUFFIX = "passes.json.gz"
MOST_BYTES = 1 << 28  # of the JSON
_VERSION = 1


def packed(entries: Iterable[PassEntry]) -> bytes:
    """The file, the same for the same entries."""
    records = [{**dataclasses.asdict(e), "gives": e.gives.value} for e in entries]
    text = json.dumps({"version": _VERSION, "passes": records}, allow_nan=False)
    return gzip.compress(text.encode(), mtime=0)


def unpacked(content: bytes) -> tuple[PassEntry, ...]:
    """What `packed` gave; ValueError for anything else."""
    try:
        with gzip.open(io.BytesIO(content)) as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        record = json.loads(text)
        if record["version"] != _VERSION:
            raise ValueError(f"version {record['version']!r}, expected {_VERSION}")
        return tuple(_entry(e) for e in record["passes"])
    except (EOFError, LookupError, OSError, RecursionError, TypeError, zlib.error) as error:
        raise ValueError(f"it is no ledger of passes: {error!r}") from error


def _entry(record: Mapping[str, Any]) -> PassEntry:
    fields = {**record, "gives": Form(record["gives"]), "diff": tuple(map(_text, record["diff"]))}
    fields["events"] = tuple(_event(e) for e in record["events"])
    fields["tensors"] = {_text(n): float(db) for n, db in record.get("tensors", {}).items()}
    entry = PassEntry(**fields)
    _expect(entry, name=str, ops=int, constant_bytes=int)
    for figure in (entry.seconds, entry.peak_bytes):
        if not (figure is None or isinstance(figure, int | float)):
            raise TypeError(f"{figure!r} is no number")
    return entry


def _event(record: Mapping[str, Any]) -> LedgerEvent:
    numbers = {_text(name): float(value) for name, value in record["numbers"].items()}
    event = LedgerEvent(**{**record, "kind": EventKind(record["kind"]), "numbers": numbers})
    _expect(event, text=str, reason=str, line=str)
    for id in (event.op, event.tensor):
        if id is not None:
            _text(id)
    return event


def _expect(record: PassEntry | LedgerEvent, **types: type) -> None:
    for name, type_ in types.items():
        if type(getattr(record, name)) is not type_:
            raise TypeError(f"{name} is {getattr(record, name)!r}, expected {type_.__name__}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
