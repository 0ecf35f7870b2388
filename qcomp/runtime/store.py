"""A compiled network as a directory: libraries, header, manifest, vectors, specification.

    libNAME.so  libNAME.a  NAME.h  NAME.manifest.json  NAME.recipe.yaml
    NAME.vectors.npz  NAME.graph.txt  NAME.constants.npz  NAME.qdq.txt  NAME.qdq.npz
    qcomp_pool.h  qcomp_pool.c  (on request)

Other systems than Linux have names of their own for libraries, which the runtime chooses.

Files are written aside and moved into place when all of them exist.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qcomp.accuracy.record import Accuracy, plain, read
from qcomp.errors import CompileError, ModelError
from qcomp.files import staged
from qcomp.findings import record
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.parse import ParseError
from qcomp.recipes.file import config_of, fields_of, recipe_text
from qcomp.runtime.graphs import load_graph, save_graph
from qcomp.runtime.interface import TensorInfo
from qcomp.runtime.network import CompiledNetwork
from qcomp.runtime.vectors import make_vectors
from qcomp.targets.base import Artifact, Linked, Memory, Requirements, Runtime
from qcomp.targets.catalog import runtime

VERSION = 1
MANIFEST = ".manifest.json"
RECIPE = ".recipe.yaml"
_LIBRARIES = {".a", ".so", ".dylib", ".dll", ".lib", ".wasm"}


def save(net: CompiledNetwork, directory: Path, *, threads_pool: bool = False) -> Path:
    """Write all files into `directory`; OutputError leaves it as it was."""
    earlier = _libraries(directory / f"{net.name}{MANIFEST}")
    with staged(directory, last=MANIFEST) as aside:
        for name, content in (net.runtime.thread_pool() if threads_pool else {}).items():
            (aside / name).write_bytes(content)
        _write_files(net, aside)
    for name in earlier - _libraries(directory / f"{net.name}{MANIFEST}"):
        (directory / name).unlink(missing_ok=True)
    return directory


def _libraries(manifest: Path) -> set[str]:
    """The libraries that a build of the network wrote, which a later one may lack."""
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["sha256"]
        return {f for f in files if Path(f).name == f and Path(f).suffix in _LIBRARIES}
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def _write_files(net: CompiledNetwork, folder: Path) -> None:
    name, linked = net.name, net.runtime.link(net.artifact, folder)
    for source, text in net.artifact.sources.items():
        (folder / source).write_text(text, encoding="utf-8")
    (folder / f"{name}{RECIPE}").write_text(recipe_text(net.config), encoding="utf-8")
    save_graph(net.graph, folder / f"{name}.graph.txt", folder / f"{name}.constants.npz")
    if net.qdq is not None:
        save_graph(net.qdq, folder / f"{name}.qdq.txt", folder / f"{name}.qdq.npz")
    with (folder / f"{name}.vectors.npz").open("wb") as file:
        vectors: dict[str, Any] = {**make_vectors(net)}
        np.savez(file, **vectors)
    manifest = _manifest(net, linked)
    manifest["sha256"] = {f.name: _sha256(f) for f in sorted(folder.iterdir())}
    text = json.dumps(manifest, indent=2, allow_nan=False) + "\n"
    (folder / f"{name}{MANIFEST}").write_text(text, encoding="utf-8")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _manifest(net: CompiledNetwork, linked: Linked) -> dict[str, Any]:
    artifact = net.artifact
    requires, memory, header = artifact.requires, artifact.memory, f"{net.name}.h"
    return {
        "name": net.name,
        "version": VERSION,
        "run": f"{net.name}_run" if header in artifact.sources else None,
        "library": linked.shared,
        "static_library": linked.static,
        "header": header if header in artifact.sources else None,
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


def manifest_of(directory: Path) -> tuple[Path, dict[str, Any]]:
    """The one manifest of a directory; ModelError where there is none, several, or a broken one."""
    found = sorted(directory.glob(f"*{MANIFEST}"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ModelError(f"{directory}: expected one NAME{MANIFEST}, found {names}")
    try:
        manifest = json.loads(found[0].read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{found[0]} can't be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        raise ModelError(f"{found[0]} is not a manifest of version {VERSION}")
    return found[0], manifest


def load(directory: str | Path) -> CompiledNetwork:
    """The network that `save` wrote; ModelError where files are missing or do not fit together."""
    folder = Path(directory)
    path, manifest = manifest_of(folder)
    try:
        return _network(folder, manifest)
    except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        reason: Exception = error
    except (CompileError, ParseError, zipfile.BadZipFile) as error:
        reason = error
    raise ModelError(f"{path}: the directory is incomplete or damaged: {reason}") from reason


def _network(folder: Path, manifest: dict[str, Any]) -> CompiledNetwork:
    name, library = str(manifest["name"]), manifest["library"]
    _check_hashes(folder, manifest["sha256"])
    for file in (library, manifest["static_library"], *_sources(manifest)):
        if file is not None and file not in manifest["sha256"]:
            raise ValueError(f"{file} has no hash")
    texts = folder / f"{name}.graph.txt", folder / f"{name}.constants.npz"
    graph = load_graph(*texts, Form.INTEGER)
    backend = runtime(manifest["target"])
    artifact = _artifact(folder, manifest, backend)
    fields = dict(manifest["config"])
    recipe = fields.pop("recipe")
    return CompiledNetwork(
        graph,
        artifact,
        backend,
        config_of(fields, recipe=recipe),
        notes=tuple(manifest["notes"]),
        accuracy=_accuracy(manifest),
        findings=record.read(manifest.get("findings", ())),
        directory=folder,
        library=None if library is None else folder / library,
        stored_qdq=_stored_qdq(folder, name),
    )


def _stored_qdq(folder: Path, name: str) -> Callable[[], Graph] | None:
    """Earlier versions kept none, and a model that comes in integers has none."""
    files = folder / f"{name}.qdq.txt", folder / f"{name}.qdq.npz"
    return partial(load_graph, *files, Form.QDQ) if files[0].is_file() else None


def _accuracy(manifest: dict[str, Any]) -> Accuracy | None:
    """Earlier versions wrote the ratio of all outputs together only."""
    ratio = manifest["sqnr_db_output"]
    if "accuracy" in manifest:
        return read(manifest["accuracy"])
    return None if ratio is None else Accuracy(samples=0, sqnr_db=ratio, parts=())


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
        sources={name: (folder / name).read_text(encoding="utf-8") for name in _sources(manifest)},
        requires=_requirements(manifest, backend),
        memory=Memory(
            arena=manifest["arena_bytes"],
            align=manifest["arena_align"],
            live=manifest["live_bytes"],
            weights=manifest["weights_bytes"],
        ),
    )


def _sources(manifest: dict[str, Any]) -> list[str]:
    """Earlier versions wrote the header only."""
    names: list[str] = manifest.get("sources", [manifest["header"]])
    return names


def _requirements(manifest: dict[str, Any], backend: Runtime) -> Requirements:
    """Earlier versions wrote neither features, which their target knows, nor libraries."""
    triple, isas = manifest["triple"], manifest["isa"]
    if not isinstance(triple, str):
        raise TypeError(f"triple is {triple!r}, expected text")
    features = manifest.get("features")
    if features is None:
        return Requirements(triple, backend.assumed(manifest["target"], isas), ())
    if list(features) != isas:
        raise ValueError(f"features of {', '.join(features)}, expected those of {', '.join(isas)}")
    libraries = tuple(manifest["system_libraries"])
    return Requirements(triple, {isa: tuple(features[isa]) for isa in isas}, libraries)
