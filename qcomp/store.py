"""A compiled network as a directory: libraries, header, manifest, vectors, specification.

    libNAME.so  libNAME.a  NAME.h  NAME.manifest.json  NAME.recipe.yaml
    NAME.vectors.npz  NAME.graph.txt  NAME.constants.npz
    qcomp_pool.h  qcomp_pool.c  (on request)

Files are written aside and moved into place when all of them exist.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.errors import CompileError, ModelError
from qcomp.files import staged
from qcomp.ir.form import Form
from qcomp.ir.parse import ParseError, parse
from qcomp.ir.text import arrays_of
from qcomp.ir.verify import verify
from qcomp.network import CompiledNetwork, TensorInfo
from qcomp.recipes.file import config_of, fields_of, recipe_text
from qcomp.targets.base import Artifact
from qcomp.targets.cpu.archive import members
from qcomp.targets.cpu.jit import EntryPoint, load_library, load_objects
from qcomp.targets.cpu.link import shared_library, static_library
from qcomp.targets.cpu.target import runs_here
from qcomp.targets.cpu.threads import pool_sources
from qcomp.vectors import make_vectors

VERSION = 1
MANIFEST = ".manifest.json"
RECIPE = ".recipe.yaml"


def save(net: CompiledNetwork, directory: Path, *, threads_pool: bool = False) -> Path:
    """Write all files into `directory`; OutputError leaves it as it was."""
    with staged(directory, last=MANIFEST) as aside:
        for name, content in (pool_sources() if threads_pool else {}).items():
            (aside / name).write_bytes(content)
        library = _write_files(net, aside)
    if library is None:  # that of an earlier build does not belong to the new archive
        (directory / f"lib{net.name}.so").unlink(missing_ok=True)
    return directory


def _write_files(net: CompiledNetwork, folder: Path) -> Path | None:
    """Everything; the shared library, if there is one."""
    name, artifact = net.name, net.artifact
    (folder / f"lib{name}.a").write_bytes(static_library(artifact))
    library = shared_library(artifact, folder)
    (folder / f"{name}.h").write_text(artifact.header, encoding="utf-8")
    (folder / f"{name}{RECIPE}").write_text(recipe_text(net.config), encoding="utf-8")
    (folder / f"{name}.graph.txt").write_text(str(net.graph) + "\n", encoding="utf-8")
    constants: dict[str, Any] = dict(arrays_of(net.graph))
    arrays: dict[str, Any] = {f"c{i}": a for i, a in enumerate(constants.values())}
    with (folder / f"{name}.constants.npz").open("wb") as file:
        np.savez(file, ids=_strings(constants), **arrays)
    with (folder / f"{name}.vectors.npz").open("wb") as file:
        vectors: dict[str, Any] = {**make_vectors(net)}
        np.savez(file, **vectors)
    manifest = _manifest(net, library.name if library else None)
    manifest["sha256"] = {f.name: _sha256(f) for f in sorted(folder.iterdir())}
    text = json.dumps(manifest, indent=2, allow_nan=False) + "\n"
    (folder / f"{name}{MANIFEST}").write_text(text, encoding="utf-8")
    return library


def _strings(constants: dict[str, Any]) -> NDArray[np.uint8]:
    """Ids as bytes: an array of objects would be a pickle."""
    return np.frombuffer("\n".join(constants).encode(), np.uint8)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _manifest(net: CompiledNetwork, library: str | None) -> dict[str, Any]:
    artifact = net.artifact
    return {
        "name": net.name,
        "version": VERSION,
        "run": f"{net.name}_run",
        "library": library,
        "static_library": f"lib{net.name}.a",
        "header": f"{net.name}.h",
        "target": artifact.target,
        "triple": artifact.triple,
        "isa": list(artifact.isa),
        "arena_bytes": artifact.arena_bytes,
        "arena_align": artifact.arena_align,
        "live_bytes": artifact.live_bytes,
        "weights_bytes": artifact.weights_bytes,
        "inputs": [_tensor(i) for i in net.inputs],
        "outputs": [_tensor(o) for o in net.outputs],
        "sqnr_db_output": net.sqnr_db_output,
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
    if library is not None and library not in manifest["sha256"]:
        raise ValueError(f"{library} has no hash")
    with np.load(folder / f"{name}.constants.npz", allow_pickle=False) as file:
        ids = bytes(file["ids"]).decode().split("\n")
        constants = {id: _read_only(file[f"c{i}"]) for i, id in enumerate(ids) if id}
    graph = parse((folder / f"{name}.graph.txt").read_text(encoding="utf-8"), constants)
    verify(graph, Form.INTEGER)
    artifact = _artifact(folder, manifest)
    fields = dict(manifest["config"])
    recipe = fields.pop("recipe")
    arguments = len(graph.inputs) + len(graph.outputs) + 1

    def entry() -> EntryPoint:
        if library is None:
            return load_objects(artifact.objects.values(), name, arguments)
        return load_library(folder / library, name, arguments)

    return CompiledNetwork(
        graph,
        artifact,
        config_of(fields, recipe=recipe),
        notes=tuple(manifest["notes"]),
        sqnr_db_output=manifest["sqnr_db_output"],
        directory=folder,
        _entry=entry,
    )


def _check_hashes(folder: Path, hashes: dict[str, str]) -> None:
    for file, expected in hashes.items():
        if Path(file).name != file or not (folder / file).is_file():
            raise ValueError(f"{file} is missing")
        if _sha256(folder / file) != expected:
            raise ValueError(f"{file} was changed after it was written")


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def _artifact(folder: Path, manifest: dict[str, Any]) -> Artifact:
    name = manifest["name"]
    return Artifact(
        name=name,
        target=manifest["target"],
        isa=tuple(manifest["isa"]),
        triple=manifest["triple"],
        objects=members((folder / f"lib{name}.a").read_bytes()),
        header=(folder / f"{name}.h").read_text(encoding="utf-8"),
        arena_bytes=manifest["arena_bytes"],
        arena_align=manifest["arena_align"],
        live_bytes=manifest["live_bytes"],
        weights_bytes=manifest["weights_bytes"],
        runs_here=runs_here(manifest["triple"]),
    )
