"""What `qcomp compile` tells of a network: for people, and as the object of `--json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qcomp.runtime.interface import TensorInfo
    from qcomp.runtime.network import CompiledNetwork


def summarize(net: CompiledNetwork, directory: Path, seconds: float) -> dict[str, Any]:
    """The object that `--json` prints."""
    from qcomp.accuracy.record import plain
    from qcomp.findings import record
    from qcomp.runtime.manifest import manifest_of

    _, manifest = manifest_of(directory)
    library = directory / (manifest["library"] or manifest["static_library"])
    return {
        "target": net.target,
        "isa": list(net.isa),
        "arena_bytes": net.arena_bytes,
        "weights_bytes": net.weights_bytes,
        "library_bytes": library.stat().st_size,
        "seconds": round(seconds, 3),
        "sqnr_db_output": net.sqnr_db_output,
        "accuracy": plain(net.accuracy),
        "findings": record.plain(net.findings),
        "advice": list(net.advice),
        "input": _one_or_all(net.inputs),
        "output": _one_or_all(net.outputs),
    }


def _one_or_all(infos: Sequence[TensorInfo]) -> Any:
    records = [dataclasses.asdict(info) for info in infos]
    return records[0] if len(records) == 1 else records


def report(net: CompiledNetwork, summary: dict[str, Any], directory: Path) -> str:
    """The report for people."""
    from qcomp.runtime.manifest import manifest_of
    from qcomp.runtime.summary import accuracy, sizes, tensors

    lines = [
        f"{net.name} for {net.target} ({', '.join(net.isa)}) in {directory}",
        *sizes(net),
        f"  library  {summary['library_bytes']:>12,} bytes",
        *tensors(net),
        *accuracy(net),
    ]
    lines += [f"  note: {note}" for note in net.notes]
    lines += [f"  advice: {one}" for one in net.advice]
    if manifest_of(directory)[1]["library"] is None:
        lines.append(
            f"  note: no shared library: found no linker for {net.artifact.requires.triple}; "
            "qcomp[cross] has one"
        )
    count = len(net.findings)
    found = f", {count} finding{'s' if count > 1 else ''}: see above" if count else ""
    lines.append(f"  {summary['seconds']:.1f} s{found}")
    return "\n".join(lines)
