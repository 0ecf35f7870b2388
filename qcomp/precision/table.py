"""The sensitivity table, as text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qcomp.ir.tensor import TensorId
from qcomp.precision.parts import Kind, Part
from qcomp.quant.noise import Noise


@dataclass(frozen=True)
class Row:
    """One part: the outputs' noise with only it rounded, by bits, and with only it in float."""

    part: Part
    only_rounded: Mapping[int, Noise]
    only_float: Noise


@dataclass(frozen=True)
class SensitivityTable:
    """`rows` are the parts in the order of the network; `configured` is all of it quantized.

    All are of the float outputs of so many samples.
    """

    rows: tuple[Row, ...]
    configured: Noise
    samples: int

    def row(self, kind: Kind, id: TensorId) -> Row:
        """That of a layer's weights, or of an activation; KeyError if there is none."""
        for row in self.rows:
            if row.part.kind is kind and id in row.part.members:
                return row
        raise KeyError(id)

    def json(self) -> dict[str, Any]:
        """Decibels; null where nothing differs."""
        return {
            "samples": self.samples,
            "sqnr_db_configured": finite(self.configured.db),
            "parts": [
                {
                    "kind": row.part.kind.name.lower(),
                    "id": row.part.id,
                    "op": row.part.mnemonic,
                    "members": list(row.part.members),
                    "only_rounded": {str(b): finite(n.db) for b, n in row.only_rounded.items()},
                    "only_float": finite(row.only_float.db),
                }
                for row in self.rows
            ],
        }

    def __str__(self) -> str:
        """A line for each layer or tensor, in dB: rounded alone to W4, W8..., then float alone."""
        columns = [(kind, bits) for kind in Kind for bits in self._bits(kind)]
        lines: dict[TensorId, dict[str, str]] = {}
        for row in self.rows:
            part = row.part
            line = lines.setdefault(part.id, {"layer": part.id, "op": part.mnemonic})
            for bits, noise in row.only_rounded.items():
                line[f"{part.kind.value}{bits}"] = shown(noise.db)
            line[f"{part.kind.value} float"] = shown(row.only_float.db)
        names = ["layer", "op", *(f"{k.value}{b}" for k, b in columns), "W float", "A float"]
        text = aligned([names, *([line.get(n, "") for n in names] for line in lines.values())])
        return (
            f"{text}\nOutput SQNR in dB, {self.samples} samples; the network as configured: "
            f"{shown(self.configured.db)}"
        )

    def _bits(self, kind: Kind) -> list[int]:
        found = (b for row in self.rows if row.part.kind is kind for b in row.only_rounded)
        return list(dict.fromkeys(found))


def finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None


def shown(db: float) -> str:
    return f"{db:.1f}" if math.isfinite(db) else "inf" if db > 0 else "-inf"


def aligned(rows: list[list[str]], left: int = 2) -> str:
    """Columns as wide as their widest cell, the first `left` of them aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
