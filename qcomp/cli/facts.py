"""A saved directory in the terminal: tables as wide as that is, and 80 columns at least."""

from __future__ import annotations

import io
import shutil
import textwrap
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table

from qcomp.debug.facts import Facts, OpFacts

NARROW = 80
# Characters of a cell in a narrow terminal; names have what a wider one has more.
_ID, _OP, _SHAPE, _KERNEL = 21, 12, 13, 11
_HELPERS = {"border", "copy", "fill", "keep"}


def width() -> int:
    """Of the terminal; of a file or pipe as of a narrow one."""
    return max(NARROW, shutil.get_terminal_size((NARROW, 24)).columns)


def told(facts: Facts) -> str:
    """Sizes, inputs and outputs, accuracy, findings; then ops, settings and files as tables."""
    columns = width()
    lines = [wrapped(line, columns) for line in facts.net.summary().splitlines()]
    tables = (_ops(facts.ops, columns), _settings(facts, columns), _files(facts))
    return "\n".join([*lines, *(f"\n{rendered(table, columns)}" for table in tables)])


def wrapped(line: str, columns: int, indent: int | None = None) -> str:
    """A line of a report on several, the following ones indented so far, or further than it."""
    spaces = " " * (len(line) - len(line.lstrip()) + 4 if indent is None else indent)
    return "\n".join(
        textwrap.wrap(line, columns, subsequent_indent=spaces, break_on_hyphens=False) or [""]
    )


def new_table(left: Iterable[str], right: Iterable[str] = ()) -> Table:
    """Columns of texts, then of numbers; what does not fit is cut by an ellipsis."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False)
    for name in left:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for name in right:
        table.add_column(name, no_wrap=True, overflow="ellipsis", justify="right")
    return table


def rendered(table: Table, columns: int) -> str:
    """The table as text, without colours and without spaces at the end of lines."""
    text = io.StringIO()
    Console(file=text, width=columns, color_system=None).print(table, highlight=False)
    return "\n".join(row.rstrip() for row in text.getvalue().splitlines())


def short(id: str, longest: int) -> str:
    """The end of a long name, which tells more than its beginning."""
    return id if len(id) <= longest else f"...{id[3 - longest :]}"


def cut(text: str, longest: int) -> str:
    """The beginning of a long text."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _ops(ops: Iterable[OpFacts], columns: int) -> Table:
    longest = _ID + columns - NARROW
    table = new_table(("tensor", "op", "shape", "kernel"), ("scale", "zero", "KiB"))
    for op in ops:
        shape = "x".join(map(str, op.shape)) + ("" if op.dtype == "i8" else f" {op.dtype}")
        table.add_row(
            short(op.id, longest),
            cut(op.op, _OP),
            cut(shape, _SHAPE),
            cut(_kernel(op), _KERNEL),
            "" if op.scale is None else f"{op.scale:.3g}",
            "" if op.zero_point is None else str(op.zero_point),
            f"{op.weights_bytes / 1024:.1f}" if op.weights_bytes else "",
        )
    return table


def _kernel(op: OpFacts) -> str:
    """Without those that prepare memory for it."""
    if op.within is not None:
        return "above"
    computing = [kind for kind in op.kernels if kind not in _HELPERS]
    return ", ".join(computing or op.kernels) or "none"


def _settings(facts: Facts, columns: int) -> Table:
    table = new_table(("setting", "value"))
    for name, value in {"recipe": facts.net.config.recipe, **facts.json()["settings"]}.items():
        if name != "overrides":
            table.add_row(name, str(value))
    for key, fields in facts.net.config.overrides.items():
        table.add_row(short(key, columns // 2), ", ".join(f"{n}={v}" for n, v in fields.items()))
    return table


def _files(facts: Facts) -> Table:
    table = new_table(("file",), ("bytes",))
    for name, size in facts.files.items():
        table.add_row(name, f"{size:,}")
    return table
