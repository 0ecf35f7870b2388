"""Directories that `save` wrote, read by what they say of themselves and checked by the library.

A directory comes from anywhere: nothing in it is believed that its hashes, its graph and its
library do not agree on, and whatever is wrong is a ModelError.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from qcomp.accuracy.record import read
from qcomp.errors import CompileError, ExtensionError, ModelError
from qcomp.files import open_regular
from qcomp.findings import record
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.padding import Padding
from qcomp.ir.parse import ParseError
from qcomp.passes.ledger import PassEntry
from qcomp.passes.ledger_file import SUFFIX as LEDGER
from qcomp.passes.ledger_file import unpacked
from qcomp.recipes.file import config_of
from qcomp.runtime import taps
from qcomp.runtime.graphs import load_graph
from qcomp.runtime.manifest import SUFFIX, digest_of, manifest_of
from qcomp.runtime.network import CompiledNetwork, plans_of
from qcomp.targets.base import Artifact, Linked, Memory, Requirements, Runtime
from qcomp.targets.catalog import runtime


def load(directory: str | os.PathLike[str]) -> CompiledNetwork:
    """The network that `save` wrote; ModelError where files are missing or do not fit together.

    What another process writes meanwhile is read again.

    >>> net = qcomp.load("build/net")
    """
    folder = Path(directory)
    while True:
        before = _state(folder)
        try:
            return _loaded(folder)
        except ModelError:
            if _state(folder) == before:
                raise


def _state(folder: Path) -> list[tuple[int, int]]:
    """What is different once another process has written there."""
    found = []
    for file in (folder, *sorted(folder.glob(f"*{SUFFIX}"))):
        with suppress(OSError):
            stat = file.stat()
            found.append((stat.st_ino, stat.st_mtime_ns))
    return found


def _loaded(folder: Path) -> CompiledNetwork:
    path, manifest = manifest_of(folder)
    with _damages_named(path):
        return _network(folder, manifest)


@contextmanager
def _damages_named(path: Path) -> Iterator[None]:
    """ModelError for whatever the content of a directory leads to."""
    try:
        yield
    except ExtensionError:  # the directory is as it should be, and a package is not there
        raise
    except (AttributeError, ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:
        reason: Exception = error
    except (CompileError, MemoryError, ParseError, RecursionError) as error:
        reason = error
    else:
        return
    raise ModelError(f"{path}: the directory is incomplete or damaged: {reason}") from reason


def _network(folder: Path, manifest: dict[str, Any]) -> CompiledNetwork:
    name, library = str(manifest["name"]), manifest["library"]
    _check_hashes(folder, manifest["sha256"])
    needed = [library, manifest["static_library"], *manifest["sources"]]
    stems = [name, *(f"{name}.{length}" for length in _lengths(manifest)[1:])]
    parts = ("constants.npz", "graph.txt", "vectors.npz")
    needed += [f"{stem}.{part}" for stem in stems for part in parts]
    for file in needed:
        if file is not None and file not in manifest["sha256"]:
            raise ValueError(f"{file} has no hash")
    graph = _stored_graph(folder, name)
    shorter = [_stored_graph(folder, stem, graph) for stem in stems[1:]]
    backend = runtime(manifest["target"])
    artifact = _artifact(folder, manifest, backend)
    backend.check(artifact, graph)
    for plan, other in enumerate(shorter, start=1):
        backend.check(dataclasses.replace(artifact, plan=plan), other)
    if artifact.taps is not None:
        taps.expect(artifact.taps, graph, artifact.requires.isas)
    fields = dict(manifest["config"])
    recipe = fields.pop("recipe")
    config = config_of(fields, recipe=recipe)
    shared = None if library is None else folder / library
    plans = plans_of(artifact, shorter, backend, config, directory=folder, library=shared)
    for other_plan, told in zip(plans, manifest.get("accuracy_shorter", []), strict=False):
        other_plan.accuracy = read(told)
    return CompiledNetwork(
        graph,
        artifact,
        backend,
        config,
        notes=tuple(manifest["notes"]),
        accuracy=read(manifest["accuracy"]),
        findings=record.read(manifest["findings"]),
        directory=folder,
        library=shared,
        shorter=plans,
        stored_qdq=_stored_qdq(folder, name),
        stored_ledger=partial(_read_ledger, folder / f"{name}.{LEDGER}"),
    )


def _stored_graph(folder: Path, stem: str, beside: Graph | None = None) -> Graph:
    texts = folder / f"{stem}.graph.txt", folder / f"{stem}.constants.npz"
    return load_graph(*texts, Form.INTEGER, beside)


def _stored_qdq(folder: Path, name: str) -> Callable[[], Graph] | None:
    """A model that comes in integers has none."""
    text = folder / f"{name}.qdq.txt"
    return partial(_read_qdq, text, folder / f"{name}.qdq.npz") if text.is_file() else None


def _read_qdq(text: Path, arrays: Path) -> Graph:
    with _damages_named(text):
        return load_graph(text, arrays, Form.QDQ)


def _read_ledger(file: Path) -> tuple[PassEntry, ...]:
    """Of a directory, whose hash was right when it was loaded; an earlier version wrote none."""
    if not file.is_file():
        return ()
    with _damages_named(file), open_regular(file) as content:
        return unpacked(content.read())


def _check_hashes(folder: Path, hashes: dict[str, str]) -> None:
    for file, expected in hashes.items():
        if Path(file).name != file or not (folder / file).is_file():
            raise ValueError(f"{file} is missing")
        if digest_of(folder / file) != expected:
            raise ValueError(f"{file} was changed after it was written")


def _artifact(folder: Path, manifest: dict[str, Any], backend: Runtime) -> Artifact:
    linked = Linked(manifest["static_library"], manifest["library"])
    return Artifact(
        name=manifest["name"],
        target=manifest["target"],
        files=backend.files(folder, linked),
        sources={name: (folder / name).read_text(encoding="utf-8") for name in manifest["sources"]},
        requires=_requirements(manifest),
        memory=Memory(
            arena=manifest["arena_bytes"],
            align=manifest["arena_align"],
            live=manifest["live_bytes"],
            weights=manifest["weights_bytes"],
        ),
        taps=taps.read(manifest["taps"]) if "taps" in manifest else None,
        lengths=_lengths(manifest),
        padding=_padding(manifest),
    )


def _lengths(manifest: dict[str, Any]) -> tuple[int, ...]:
    """From the largest to the smallest; none of a library of one."""
    lengths = manifest.get("lengths", [])
    if not all(type(n) is int and n > 0 for n in lengths) or len(set(lengths)) != len(lengths):
        raise ValueError(f"lengths are {lengths!r}, expected different sizes")
    return tuple(lengths)


def _padding(manifest: dict[str, Any]) -> Padding | None:
    found = manifest.get("padding")
    if found is None:
        return None
    inputs = {name: (int(axis), float(value)) for name, (axis, value) in found["inputs"].items()}
    return Padding(inputs, {name: int(axis) for name, axis in found["outputs"].items()})


def _requirements(manifest: dict[str, Any]) -> Requirements:
    triple, isas, features = manifest["triple"], manifest["isa"], manifest["features"]
    if not isinstance(triple, str):
        raise TypeError(f"triple is {triple!r}, expected text")
    if list(features) != isas:
        raise ValueError(f"features of {', '.join(features)}, expected those of {', '.join(isas)}")
    lists = {"system_libraries": manifest["system_libraries"], **features}
    for name, texts in lists.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"{name} is {texts!r}, expected a list of texts")
    libraries = tuple(manifest["system_libraries"])
    return Requirements(triple, {isa: tuple(features[isa]) for isa in isas}, libraries)
