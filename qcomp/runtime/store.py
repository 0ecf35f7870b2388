"""A compiled network as a directory: libraries, header, manifest, vectors, specification.

    libNAME.so  libNAME.a  NAME.h  NAME.manifest.json  NAME.recipe.yaml
    NAME.vectors.npz  NAME.graph.txt  NAME.constants.npz  NAME.qdq.txt  NAME.qdq.npz
    NAMEConfig.cmake  NAMEConfigVersion.cmake  NAME.pc  NAME_example.c  NAME.py
    qcomp_pool.h  qcomp_pool.c, and a crate of Rust  (on request)

Other systems than Linux have names of their own for libraries, which the runtime chooses.

Files are written aside and take their places in one step when all of them exist
(qcomp/runtime/commit.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import zipfile
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qcomp.accuracy.record import plain, read
from qcomp.errors import CompileError, ModelError, OutputError, TargetError
from qcomp.files import open_regular
from qcomp.findings import record
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.parse import ParseError
from qcomp.recipes.file import config_of, fields_of, recipe_text
from qcomp.runtime.builds import build_files
from qcomp.runtime.builds.package import Package
from qcomp.runtime.commit import staged
from qcomp.runtime.graphs import load_graph, save_graph
from qcomp.runtime.interface import TensorInfo
from qcomp.runtime.manifest import SUFFIX, manifest_of, manifest_text, read_manifest
from qcomp.runtime.network import CompiledNetwork
from qcomp.runtime.vectors import make_vectors
from qcomp.targets.base import Artifact, Linked, Memory, Requirements, Runtime
from qcomp.targets.catalog import runtime
from qcomp.version import VERSION

RECIPE = ".recipe.yaml"
_PART = 1 << 20  # bytes
_LIBRARIES = {".a", ".so", ".dylib", ".dll", ".lib", ".wasm"}


def save(
    net: CompiledNetwork,
    directory: Path,
    *,
    threads_pool: bool = False,
    bindings: Collection[str] = (),
) -> Path:
    """Write all files into `directory`; OutputError leaves it as it was."""

    def earlier(there: Path) -> set[str]:
        return _libraries(there / f"{net.name}{SUFFIX}")

    expect_no_other(directory, net.name)
    with staged(directory, last=SUFFIX, obsolete=earlier) as aside:
        for name, content in (net.runtime.thread_pool() if threads_pool else {}).items():
            (aside / name).write_bytes(content)
        _write_files(net, aside, bindings)
    return directory


def expect_no_other(directory: Path, name: str) -> None:
    """OutputError where the directory holds another network: it is loaded by its one manifest."""
    others: list[str] = []
    with suppress(OSError):  # no directory can be there, as writing will say
        others = sorted(f.name for f in directory.glob(f"*{SUFFIX}"))
    others = [file for file in others if file != f"{name}{SUFFIX}"]
    if others:
        other = others[0].removesuffix(SUFFIX)
        raise OutputError(
            f"{directory} holds the network {other}; expected another directory, or its name"
        )


def _libraries(manifest: Path) -> set[str]:
    """The libraries that a build of the network wrote, which a later one may lack."""
    try:
        files = read_manifest(manifest)["sha256"]
        return {f for f in files if Path(f).name == f and _LIBRARIES & set(Path(f).suffixes)}
    except (ModelError, LookupError, TypeError):
        return set()


def _write_files(net: CompiledNetwork, folder: Path, bindings: Collection[str]) -> None:
    name, linked = net.name, net.runtime.link(net.artifact, folder)
    for source, text in net.artifact.sources.items():
        (folder / source).write_text(text, encoding="utf-8")
    if _has_header(net):
        for file_name, content in build_files(_package(net, linked), bindings).items():
            (folder / file_name).write_text(content, encoding="utf-8")
    elif bindings:
        raise TargetError(f"{name} has no functions of C; bindings need them")
    (folder / f"{name}{RECIPE}").write_text(recipe_text(net.config), encoding="utf-8")
    save_graph(net.graph, folder / f"{name}.graph.txt", folder / f"{name}.constants.npz")
    if net.qdq is not None:
        save_graph(net.qdq, folder / f"{name}.qdq.txt", folder / f"{name}.qdq.npz")
    with (folder / f"{name}.vectors.npz").open("wb") as file:
        vectors: dict[str, Any] = {**make_vectors(net)}
        np.savez(file, **vectors)
    manifest = _manifest(net, linked)
    manifest["sha256"] = {f.name: _sha256(f) for f in sorted(folder.iterdir())}
    (folder / f"{name}{SUFFIX}").write_text(manifest_text(manifest), encoding="utf-8")


def _has_header(net: CompiledNetwork) -> bool:
    """Whether C can call it, which it can't where several targets have parts of it."""
    return f"{net.name}.h" in net.artifact.sources


def _package(net: CompiledNetwork, linked: Linked) -> Package:
    mathematics = ("m",) if net.graph.tails else ()
    return Package(
        net.name,
        linked.static,
        linked.shared,
        (*net.artifact.requires.libraries, *mathematics),
        net.inputs,
        net.outputs,
        net.artifact.memory,
    )


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(file) as content:
        while part := content.read(_PART):
            digest.update(part)
    return digest.hexdigest()


def _manifest(net: CompiledNetwork, linked: Linked) -> dict[str, Any]:
    artifact = net.artifact
    requires, memory = artifact.requires, artifact.memory
    return {
        "name": net.name,
        "qcomp": VERSION,
        "run": f"{net.name}_run" if _has_header(net) else None,
        "library": linked.shared,
        "static_library": linked.static,
        "header": f"{net.name}.h" if _has_header(net) else None,
        "sources": list(artifact.sources),
        "target": artifact.target,
        "triple": requires.triple,
        "isa": list(requires.isas),
        "features": {isa: list(features) for isa, features in requires.features.items()},
        "system_libraries": list(requires.libraries),
        "arena_bytes": memory.arena,
        "arena_align": memory.align,
        "live_bytes": memory.live,
        "weights_bytes": memory.weights,
        "inputs": [_tensor(i) for i in net.inputs],
        "outputs": [_tensor(o) for o in net.outputs],
        "sqnr_db_output": net.sqnr_db_output,
        "accuracy": plain(net.accuracy),
        "findings": record.plain(net.findings),
        "notes": list(net.notes),
        "config": {"recipe": net.config.recipe, **fields_of(net.config)},
    }


def _tensor(info: TensorInfo) -> dict[str, Any]:
    return {**dataclasses.asdict(info), "shape": list(info.shape)}


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
    try:
        return _network(folder, manifest)
    except (AttributeError, ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:
        reason: Exception = error
    except (CompileError, MemoryError, ParseError, RecursionError, zipfile.BadZipFile) as error:
        reason = error
    raise ModelError(f"{path}: the directory is incomplete or damaged: {reason}") from reason


def _network(folder: Path, manifest: dict[str, Any]) -> CompiledNetwork:
    name, library = str(manifest["name"]), manifest["library"]
    _check_hashes(folder, manifest["sha256"])
    needed = [library, manifest["static_library"], *manifest["sources"]]
    needed += [f"{name}.{part}" for part in ("constants.npz", "graph.txt", "vectors.npz")]
    for file in needed:
        if file is not None and file not in manifest["sha256"]:
            raise ValueError(f"{file} has no hash")
    texts = folder / f"{name}.graph.txt", folder / f"{name}.constants.npz"
    graph = load_graph(*texts, Form.INTEGER)
    backend = runtime(manifest["target"])
    artifact = _artifact(folder, manifest, backend)
    backend.check(artifact, graph)
    fields = dict(manifest["config"])
    recipe = fields.pop("recipe")
    return CompiledNetwork(
        graph,
        artifact,
        backend,
        config_of(fields, recipe=recipe),
        notes=tuple(manifest["notes"]),
        accuracy=read(manifest["accuracy"]),
        findings=record.read(manifest["findings"]),
        directory=folder,
        library=None if library is None else folder / library,
        stored_qdq=_stored_qdq(folder, name),
    )


def _stored_qdq(folder: Path, name: str) -> Callable[[], Graph] | None:
    """A model that comes in integers has none."""
    files = folder / f"{name}.qdq.txt", folder / f"{name}.qdq.npz"
    return partial(load_graph, *files, Form.QDQ) if files[0].is_file() else None


def _check_hashes(folder: Path, hashes: dict[str, str]) -> None:
    for file, expected in hashes.items():
        if Path(file).name != file or not (folder / file).is_file():
            raise ValueError(f"{file} is missing")
        if _sha256(folder / file) != expected:
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
    )


def _requirements(manifest: dict[str, Any]) -> Requirements:
    triple, isas, features = manifest["triple"], manifest["isa"], manifest["features"]
    if not isinstance(triple, str):
        raise TypeError(f"triple is {triple!r}, expected text")
    if list(features) != isas:
        raise ValueError(f"features of {', '.join(features)}, expected those of {', '.join(isas)}")
    libraries = tuple(manifest["system_libraries"])
    return Requirements(triple, {isa: tuple(features[isa]) for isa in isas}, libraries)
