"""Passes that the caller of a compilation adds: as objects, or by the names that packages give.

The configuration has them by name, place and the fields of a dataclass, which is all that recipes
and manifests hold: no code and no pickle. A pass whose fields a file can't hold, such as arrays, is
recorded as having some, and a compilation by that recipe is to be given the pass itself again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from qcomp.config import QuantizationConfig, is_plain
from qcomp.errors import ExtensionError
from qcomp.extensions import PASSES
from qcomp.passes.base import Pass, PassRecord
from qcomp.passes.events import EventKind
from qcomp.passes.own import OwnPass, check_pass


def with_own_passes(
    config: QuantizationConfig, passes: Sequence[Pass | str] = (), after: str | None = None
) -> tuple[QuantizationConfig, tuple[OwnPass, ...]]:
    """The configuration that names all of them, and the passes.

    Those that the configuration names already come first. One of them that is among `passes` as an
    object is that object. `after` is for `passes`; without it each has a place of its own, `after`.
    ExtensionError for names that nothing is known of, and what is no pass.
    """
    if isinstance(passes, str):
        raise ExtensionError(f"passes={passes!r}: expected a list of passes or of their names")
    objects = {p.name: p for p in passes if not isinstance(p, str) and hasattr(p, "name")}
    recorded = [dict(entry) for entry in config.passes]
    own = [_recorded(entry, objects) for entry in recorded]
    for p in passes:
        if any(p in (one.inner, one.name) for one in own):
            continue
        made = _made(p, {}) if isinstance(p, str) else p
        check_pass(made, p if isinstance(p, str) else getattr(p, "name", repr(p)))
        PASSES.check_name(made.name)
        own.append(OwnPass(made, _place(made, after)))
        recorded.append(_entry(own[-1]))
    return dataclasses.replace(config, passes=tuple(recorded)), tuple(own)


def told_of(own: Sequence[OwnPass], records: Sequence[PassRecord]) -> tuple[str, ...]:
    """A note for each: what it is, where it was, and what it did."""
    notes = []
    for p in own:
        logs = [r.log for r in records if r.name == p.name]
        did = sum(log.count(EventKind.DID) for log in logs)
        left = sum(log.count(EventKind.SKIPPED) for log in logs)
        cls = type(p.inner)
        notes.append(
            f"pass {p.name} after {p.after}, by {cls.__module__}:{cls.__qualname__}: {did} done, "
            f"{left} left alone"
        )
    return tuple(notes)


def _recorded(entry: Mapping[str, Any], objects: Mapping[str, Pass]) -> OwnPass:
    name = entry["name"]
    if name in objects:
        return OwnPass(objects[name], entry["after"])
    fields = entry.get("fields", {})
    if fields is None:
        raise ExtensionError(
            f"pass {name!r} has fields that no recipe holds; expected the pass itself: passes=[...]"
        )
    made = _made(name, fields)
    check_pass(made, name)
    return OwnPass(made, entry["after"])


def _made(name: str, fields: Mapping[str, Any]) -> Pass:
    """By its package's class; tuples are lists in files."""
    found = PASSES.find(name)
    try:
        made: Pass = found.value(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        )
    except Exception as error:  # of code that is not ours, whatever it raises
        raise ExtensionError(
            f"pass {name!r}, {found.source}, can't be made with the fields {dict(fields)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if getattr(made, "name", None) != name:
        raise ExtensionError(
            f"pass {name!r}, {found.source}, calls itself {getattr(made, 'name', None)!r}"
        )
    return made


def _place(p: Pass, after: str | None) -> str:
    place = after if after is not None else getattr(p, "after", None)
    if not isinstance(place, str):
        raise ExtensionError(
            f"pass {p.name}: nothing says where it runs; expected after=, the name of one of "
            'qcomp\'s passes such as "fold-batch-norm"'
        )
    return place


def _entry(p: OwnPass) -> dict[str, Any]:
    """What recipes and manifests have of it."""
    entry = {"name": p.name, "after": p.after}
    inner: Any = p.inner
    if dataclasses.is_dataclass(inner):
        fields = {f.name: getattr(inner, f.name) for f in dataclasses.fields(inner) if f.init}
    else:
        fields = vars(inner) if hasattr(inner, "__dict__") else {}
    if not fields:
        return entry
    return {**entry, "fields": fields if all(map(is_plain, fields.values())) else None}
