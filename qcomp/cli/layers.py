"""The table of `qcomp bench --layers`."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console
from rich.table import Table

from qcomp.runtime.profile import Layer, LayerReport

_WIDEST = 1000  # columns: rows stay whole where the output is no terminal, and for grep
_LONGEST_ID = 40


def layer_table(report: LayerReport) -> str:
    """A row for each layer, their sum, and what the shares are of."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("layer", "op", "shape"):
        table.add_column(name, no_wrap=True)
    for name in ("us", "GOPS", "of peak", "bytes", "GB/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("bound", no_wrap=True)
    table.add_column("at", justify="right", no_wrap=True)
    for layer in report.layers:
        table.add_row(*_cells(layer))
    text = io.StringIO()
    Console(file=text, width=_WIDEST, color_system=None).print(table, highlight=False)
    rows = "\n".join(row.rstrip() for row in text.getvalue().splitlines())
    return (
        f"{rows}\n{len(report.layers)} layers: {report.sum_us:.1f} us in all; {report.isa}, "
        f"peak {report.peak_gops:.0f} GOPS on one thread\n"
    )


def _cells(layer: Layer) -> tuple[str, ...]:
    return (
        layer.id if len(layer.id) <= _LONGEST_ID else f"...{layer.id[3 - _LONGEST_ID :]}",
        layer.kind,
        layer.shape,
        f"{layer.us:.2f}",
        f"{layer.gops:.0f}" if layer.gops is not None else "",
        f"{layer.peak_share:.0%}" if layer.peak_share is not None else "",
        f"{layer.bytes:,}",
        f"{layer.gb_per_s:.1f}",
        layer.bound,
        f"{layer.bound_share:.0%}",
    )
