"""Imports point one way, as docs/architecture.md has it; read from the sources' syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    "qcomp": ROOT / "qcomp",
    "qcomp.passes": ROOT / "passes",
    "qcomp.targets": ROOT / "targets",
}

# Layer -> the layers it may import. The longest matching prefix of a module's name is its layer;
# `qcomp` stands for the public modules at the top.
ALLOWED: dict[str, set[str]] = {
    "qcomp.errors": set(),
    "qcomp.version": set(),
    "qcomp.extensions": {"qcomp.errors"},
    "qcomp.files": {"qcomp.errors"},
    "qcomp.cache": {"qcomp.errors", "qcomp.files"},
    "qcomp.preprocessing": {"qcomp.errors"},
    "qcomp.config": {
        "qcomp.errors",
        "qcomp.extensions",
        "qcomp.input_forms",
        "qcomp.preprocessing",
    },
    "qcomp.data": {"qcomp.preprocessing", "qcomp.errors"},
    "qcomp.input_forms": {"qcomp.errors"},
    "qcomp.processors": set(),
    "qcomp.progress": set(),
    "qcomp.quant": set(),
    "qcomp.ir": {"qcomp.quant", "qcomp.errors"},
    "qcomp.formats": set(),
    "qcomp.exporters": {"qcomp.formats", "qcomp.ir", "qcomp.quant", "qcomp.errors"},
    "qcomp.execute": {
        "qcomp.exporters",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
        "qcomp.processors",
    },
    "qcomp.calibration": {
        "qcomp.extensions",
        "qcomp.data",
        "qcomp.preprocessing",
        "qcomp.execute",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
        "qcomp.files",
        "qcomp.config",
        "qcomp.progress",
    },
    "qcomp.accuracy": {
        "qcomp.calibration",
        "qcomp.execute",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
    },
    "qcomp.findings": {
        "qcomp.accuracy",
        "qcomp.calibration",
        "qcomp.execute",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
    },
    "qcomp.frontends": {
        "qcomp.extensions",
        "qcomp.formats",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
        "qcomp.files",
    },
    "qcomp.passes.events": {"qcomp.ir"},
    "qcomp.passes.lib": {
        "qcomp.passes.events",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
        "qcomp.config",
    },
    "qcomp.passes": {
        "qcomp.input_forms",
        "qcomp.passes.lib",
        "qcomp.passes.events",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
        "qcomp.config",
    },
    "qcomp.reconstruction": {
        "qcomp.passes",
        "qcomp.passes.events",
        "qcomp.passes.lib",
        "qcomp.calibration",
        "qcomp.execute",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
        "qcomp.cache",
        "qcomp.config",
        "qcomp.progress",
    },
    "qcomp.pipeline": {
        "qcomp.reconstruction",
        "qcomp.passes",
        "qcomp.passes.events",
        "qcomp.passes.lib",
        "qcomp.calibration",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
        "qcomp.config",
    },
    "qcomp.quantizer": {
        "qcomp.pipeline",
        "qcomp.reconstruction",
        "qcomp.passes",
        "qcomp.passes.events",
        "qcomp.passes.lib",
        "qcomp.calibration",
        "qcomp.ir",
        "qcomp.errors",
        "qcomp.config",
    },
    "qcomp.own_passes": {
        "qcomp.passes",
        "qcomp.passes.events",
        "qcomp.config",
        "qcomp.errors",
        "qcomp.extensions",
    },
    "qcomp.state_names": {"qcomp.ir"},
    "qcomp.states": {"qcomp.state_names", "qcomp.ir", "qcomp.errors", "qcomp.config"},
    "qcomp.ends": {
        "qcomp.input_forms",
        "qcomp.states",
        "qcomp.config",
        "qcomp.passes",
        "qcomp.calibration",
        "qcomp.ir",
        "qcomp.errors",
    },
    "qcomp.recipes": {
        "qcomp.files",
        "qcomp.preprocessing",
        "qcomp.formats",
        "qcomp.accuracy",
        "qcomp.quantizer",
        "qcomp.passes",
        "qcomp.passes.events",
        "qcomp.passes.lib",
        "qcomp.calibration",
        "qcomp.execute",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
        "qcomp.config",
        "qcomp.progress",
    },
    "qcomp.picture_bytes": {"qcomp.config", "qcomp.preprocessing", "qcomp.errors"},
    "qcomp.wide_sums": {"qcomp.ir", "qcomp.targets"},
    "qcomp.precision": {
        "qcomp.own_passes",
        "qcomp.picture_bytes",
        "qcomp.ends",
        "qcomp.quantizer",
        "qcomp.recipes",
        "qcomp.cache",
        "qcomp.passes",
        "qcomp.passes.events",
        "qcomp.passes.lib",
        "qcomp.targets",
        "qcomp.frontends",
        "qcomp.calibration",
        "qcomp.execute",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
        "qcomp.config",
        "qcomp.processors",
        "qcomp.progress",
    },
    "qcomp.targets": {
        "qcomp.extensions",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
        "qcomp.version",
    },
    "qcomp.evaluation": {
        "qcomp.ends",
        "qcomp.accuracy",
        "qcomp.calibration",
        "qcomp.data",
        "qcomp.preprocessing",
        "qcomp.execute",
        "qcomp.frontends",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
        "qcomp.config",
        "qcomp.progress",
    },
    "qcomp.report": {
        "qcomp.accuracy",
        "qcomp.calibration",
        "qcomp.config",
        "qcomp.ends",
        "qcomp.errors",
        "qcomp.evaluation",
        "qcomp.execute",
        "qcomp.files",
        "qcomp.findings",
        "qcomp.frontends",
        "qcomp.ir",
        "qcomp.passes",
        "qcomp.passes.events",
        "qcomp.precision",
        "qcomp.preprocessing",
        "qcomp.progress",
        "qcomp.quant",
        "qcomp.quantizer",
        "qcomp.recipes",
        "qcomp.targets",
        "qcomp.version",
    },
    "qcomp.runtime": {
        "qcomp.report",
        "qcomp.calibration",
        "qcomp.frontends",
        "qcomp.evaluation",
        "qcomp.preprocessing",
        "qcomp.exporters",
        "qcomp.formats",
        "qcomp.findings",
        "qcomp.accuracy",
        "qcomp.recipes",
        "qcomp.targets",
        "qcomp.passes",
        "qcomp.passes.events",
        "qcomp.execute",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
        "qcomp.files",
        "qcomp.version",
        "qcomp.config",
    },
    "qcomp.debug": {
        "qcomp.runtime",
        "qcomp.picture_bytes",
        "qcomp.wide_sums",
        "qcomp.evaluation",
        "qcomp.recipes",
        "qcomp.quantizer",
        "qcomp.ends",
        "qcomp.frontends",
        "qcomp.findings",
        "qcomp.accuracy",
        "qcomp.calibration",
        "qcomp.execute",
        "qcomp.targets",
        "qcomp.passes",
        "qcomp.passes.events",
        "qcomp.passes.lib",
        "qcomp.ir",
        "qcomp.quant",
        "qcomp.errors",
        "qcomp.files",
        "qcomp.config",
        "qcomp.preprocessing",
        "qcomp.progress",
    },
}
TOP = "qcomp"
CLI = "qcomp.cli"

# Packages that only some layers may import.
FOREIGN: dict[str, set[str]] = {
    "onnx": {"qcomp.frontends", "qcomp.exporters"},
    "onnxruntime": {"qcomp.execute", "qcomp.calibration"},
    "llvmlite": {"qcomp.targets"},
    "networkx": {"qcomp.ir", "qcomp.passes.lib", "qcomp.targets"},
    "typer": {CLI},
    "PIL": {"qcomp.data"},
    "soundfile": {"qcomp.data"},
    "torch": {"qcomp.frontends", "qcomp.reconstruction"},
    "tvm": {"qcomp.targets.tvm.api"},
    "tvm_ffi": {"qcomp.targets.tvm.api"},
    "dask": {"qcomp.precision"},
    "distributed": {"qcomp.precision"},
}


def modules() -> Iterator[tuple[str, Path]]:
    for name, directory in SOURCES.items():
        for path in sorted(directory.rglob("*.py")):
            parts = path.relative_to(directory).with_suffix("").parts
            if parts[0] not in ("passes", "targets"):
                yield ".".join([name, *(p for p in parts if p != "__init__")]), path


@cache
def imported(path: Path) -> list[tuple[int, str]]:
    """The line and the name of each import."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found += [(node.lineno, name) for name in names]
    return found


def layer(module: str) -> str:
    if module == "qcomp.__main__":
        return CLI
    named = [n for n in [*ALLOWED, CLI] if module == n or module.startswith(n + ".")]
    return named[0] if named else TOP


def may_import(importer: str, imported_: str) -> bool:
    ours, theirs = layer(importer), layer(imported_)
    if ours in (theirs, CLI):
        return True
    if ours == TOP:
        return theirs != CLI
    return theirs in ALLOWED[ours]


def imports() -> Iterator[tuple[str, str, str]]:
    """Of every module: where, the module, and what it imports."""
    for module, path in modules():
        for line, name in imported(path):
            yield f"{path}:{line}", module, name


def test_imports_point_one_way() -> None:
    broken = [
        f"{place}: {module} imports {name}"
        for place, module, name in imports()
        if name.startswith("qcomp.") and not may_import(module, name)
    ]
    assert broken == []


def test_foreign_packages_stay_in_their_layer() -> None:
    broken = [
        f"{place}: {module} imports {name}"
        for place, module, name in imports()
        if (top := name.partition(".")[0]) in FOREIGN
        if not FOREIGN[top] & {layer(module), module.rpartition(".")[0], module}
    ]
    assert broken == []


def is_private(importer: str, name: str) -> bool:
    """Whether a module imports more of a target than the protocol and the names."""
    outside = layer(importer) != "qcomp.targets" and name.startswith("qcomp.targets.")
    known = ("qcomp.targets.base", "qcomp.targets.catalog", "qcomp.targets.layout")
    return outside and not any(name == k or name.startswith(k + ".") for k in known)


def test_nobody_outside_of_the_targets_knows_how_one_is_made() -> None:
    broken = [
        f"{path}, line {line}: {name}"
        for module, path in modules()
        for line, name in imported(path)
        if is_private(module, name)
    ]
    assert not broken


def test_what_targets_share_knows_none_of_them() -> None:
    shared = ("base", "identity", "layout", "macs", "memory", "mixed", "partition")
    broken = [
        f"{place}: {name}"
        for place, module, name in imports()
        if module.startswith(tuple(f"qcomp.targets.{part}" for part in shared))
        and name.startswith("qcomp.targets.cpu")
    ]
    assert broken == []


def test_the_rule_catches_an_import_against_the_direction() -> None:
    assert not may_import("qcomp.passes.fold", "qcomp.targets.base")
    assert not may_import("qcomp.ir.graph", "qcomp.compiler")
    assert not may_import("qcomp.compiler", "qcomp.cli")
    assert not may_import("qcomp.quantizer", "qcomp.recipes.choose")
    assert not may_import("qcomp.precision.prepare", "qcomp.pipeline")
    assert may_import("qcomp.compiler", "qcomp.targets.cpu")
    assert may_import("qcomp.cli.app", "qcomp.compiler")
    assert is_private("qcomp.cli.check", "qcomp.targets.cpu.isa")
    assert not is_private("qcomp.runtime.network", "qcomp.targets.base.Artifact")
    assert not is_private("qcomp.targets.catalog", "qcomp.targets.cpu.isa")
