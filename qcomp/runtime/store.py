"""A compiled network as a directory: libraries, header, manifest, vectors, specification.

    libNAME.so  libNAME.a  NAME.h  NAME.manifest.json  NAME.recipe.yaml
    NAME.vectors.npz  NAME.graph.txt  NAME.constants.npz  NAME.qdq.txt  NAME.qdq.npz
    NAME.passes.json.gz
    NAME.L.vectors.npz  NAME.L.graph.txt  NAME.L.constants.npz  (of each further length L)
    NAMEConfig.cmake  NAMEConfigVersion.cmake  NAME.pc  NAME_example.c  NAME.py
    qcomp_pool.h  qcomp_pool.c, and a crate of Rust  (on request)

Other systems than Linux have names of their own for libraries, which the runtime chooses.

Files are written aside and take their places in one step when all of them exist
(qcomp/runtime/commit.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from qcomp.accuracy.record import plain
from qcomp.errors import ModelError, OutputError, TargetError
from qcomp.findings import record
from qcomp.ir.graph import Graph
from qcomp.passes.ledger_file import SUFFIX as LEDGER
from qcomp.passes.ledger_file import packed
from qcomp.recipes.file import fields_of, recipe_text
from qcomp.runtime import taps
from qcomp.runtime.builds import build_files
from qcomp.runtime.builds.package import Package
from qcomp.runtime.commit import staged
from qcomp.runtime.graphs import save_graph
from qcomp.runtime.interface import TensorInfo
from qcomp.runtime.manifest import SUFFIX, digest_of, manifest_text, read_manifest
from qcomp.runtime.network import CompiledNetwork
from qcomp.runtime.vectors import make_vectors
from qcomp.targets.base import Linked
from qcomp.version import VERSION

RECIPE = ".recipe.yaml"
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
        return _replaced(there / f"{net.name}{SUFFIX}")

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


def _replaced(manifest: Path) -> set[str]:
    """The libraries and plans that a build of the network wrote, which a later one may lack."""
    try:
        fields = read_manifest(manifest)
        stems = {f"{fields['name']}.{length}" for length in fields.get("lengths", [])}
        files = {f for f in fields["sha256"] if Path(f).name == f}
        plans = {f for f in files if ".".join(f.split(".")[:2]) in stems}
        return plans | {f for f in files if _LIBRARIES & set(Path(f).suffixes)}
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
    for plan in net.plans:
        _write_plan(plan, folder, None if plan is net else net.graph)
    if net.qdq is not None:
        save_graph(net.qdq, folder / f"{name}.qdq.txt", folder / f"{name}.qdq.npz")
    (folder / f"{name}.{LEDGER}").write_bytes(packed(entry.untimed for entry in net.ledger))
    manifest = _manifest(net, linked)
    manifest["sha256"] = {f.name: digest_of(f) for f in sorted(folder.iterdir())}
    (folder / f"{name}{SUFFIX}").write_text(manifest_text(manifest), encoding="utf-8")


def _write_plan(net: CompiledNetwork, folder: Path, largest: Graph | None) -> None:
    """The specification and vectors; of a shorter length without what the largest has, too."""
    stem = net.artifact.stem
    texts = folder / f"{stem}.graph.txt", folder / f"{stem}.constants.npz"
    save_graph(net.graph, *texts, beside=largest)
    with (folder / f"{stem}.vectors.npz").open("wb") as file:
        vectors: dict[str, Any] = {**make_vectors(net)}
        np.savez(file, **vectors)


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
        **({"lengths": list(artifact.lengths)} if artifact.lengths else {}),
        "padding": None if artifact.padding is None else dataclasses.asdict(artifact.padding),
        "accuracy_shorter": [plain(plan.accuracy) for plan in net.shorter],
        **({} if artifact.taps is None else {"taps": taps.plain(artifact.taps, net.graph)}),
    }


def _tensor(info: TensorInfo) -> dict[str, Any]:
    told = dataclasses.asdict(dataclasses.replace(info, bounds=None))
    del told["bounds"]  # follow from the network, and stand in the header
    return {**told, "shape": list(info.shape)}
