"""`qcomp doctor`: what is installed, and what this machine can run."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from typing import Any

import typer

from qcomp.cli.options import Json

NEEDED = (
    "numpy",
    "networkx",
    "onnx",
    "onnxruntime",
    "llvmlite",
    "scipy",
    "typer",
    "rich",
    "pyyaml",
)
EXTRAS = {
    "pillow": ("data", "pictures as samples"),
    "soundfile": ("data", "sounds as samples"),
    "torch": ("torch", "modules of PyTorch"),
    "ziglang": ("cross", "linkers for other systems"),
    "distributed": ("distributed", "search on a cluster"),
    "apache-tvm": ("tvm", "accelerators"),
}


def doctor(as_json: Json = False) -> None:
    """Print versions, extras that are missing, and the instruction sets of this machine."""
    found = examined()
    typer.echo(json.dumps(found) if as_json else report(found))


def examined() -> dict[str, Any]:
    """The object that `--json` prints."""
    import qcomp
    from qcomp.extensions import REGISTRIES
    from qcomp.files import user_cache
    from qcomp.targets.catalog import machine

    cache = user_cache("objects")
    return {
        "qcomp": qcomp.__version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "needed": {name: _version(name) for name in NEEDED},
        "extras": {name: _version(name) for name in EXTRAS},
        "extensions": {r.group: dict(r.names()) for r in REGISTRIES},
        "cache": None if cache is None else str(cache),
        **machine(),
    }


def report(found: dict[str, Any]) -> str:
    """For people; what is missing says what it is for."""
    sets = ", ".join(found["instruction_sets"]) or "none that qcomp has code for"
    lines = [
        f"qcomp {found['qcomp']} on Python {found['python']}, {found['executable']}",
        f"  machine    {found['processor']}, {found['system']}",
        f"  runs       {sets}",
        f"  native     {found['native'] or 'nothing: name a target'}",
        f"  linker     {found['linker'] or 'none: static libraries only; install a C compiler'}",
    ]
    for name, tools in found["emulated"].items():
        lines.append(f"  emulates   {name}, by {tools}")
    lines.append(f"  cache      {found['cache'] or 'none: no home'}")
    for name, version in found["needed"].items():
        lines.append(f"  {'package' if version else 'MISSING':<10} {name} {version or ''}".rstrip())
    for name, version in found["extras"].items():
        extra, use = EXTRAS[name]
        if version:
            lines.append(f"  extra      {name} {version}")
        else:
            lines.append(f"  not there  {name}: {use}; pip install 'qcomp[{extra}]'")
    for group, names in found["extensions"].items():
        lines += [f"  {group:<10} {name}: {source}" for name, source in names.items()]
    return "\n".join(lines)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
