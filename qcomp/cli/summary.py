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
    from qcomp.runtime.store import manifest_of

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
        "input": _one_or_all(net.inputs),
        "output": _one_or_all(net.outputs),
    }


def _one_or_all(infos: Sequence[TensorInfo]) -> Any:
    records = [dataclasses.asdict(info) for info in infos]
    return records[0] if len(records) == 1 else records


def report(net: CompiledNetwork, summary: dict[str, Any], directory: Path) -> str:
    """The report for people."""
    from qcomp.findings.record import told
    from qcomp.runtime.store import manifest_of

    lines = [
        f"{net.name} for {net.target} ({', '.join(net.isa)}) in {directory}",
        f"  arena    {net.arena_bytes:>12,} bytes, {net.artifact.memory.live:,} live at once",
        f"  weights  {net.weights_bytes:>12,} bytes",
        f"  library  {summary['library_bytes']:>12,} bytes",
        *(_tensor_line("input", info) for info in net.inputs),
        *(_tensor_line("output", info) for info in net.outputs),
    ]
    if net.accuracy is not None:
        lines += [f"  sqnr     {part}" for part in net.accuracy.parts]
        lines.append(f"           against float, on {net.accuracy.samples} calibration samples")
    lines += [f"  note: {note}" for note in net.notes]
    if manifest_of(directory)[1]["library"] is None:
        lines.append(
            f"  note: no shared library: found no linker for {net.artifact.requires.triple}; "
            "qcomp[cross] has one"
        )
    lines += [f"  finding: {finding}" for finding in told(net.findings)]
    lines.append(f"  {summary['seconds']:.1f} s")
    return "\n".join(lines)


def _tensor_line(kind: str, info: TensorInfo) -> str:
    shape = "x".join(map(str, info.shape))
    return (
        f"  {kind:<8} {info.name}: {info.dtype} {shape}, "
        f"scale {info.scale:.8g}, zero point {info.zero_point}"
        f"{'' if info.conversion is None else ', after a conversion that the header has'}"
        f"{'' if info.tail is None else f', {info.tail.function.value} in floats behind it'}"
    )
