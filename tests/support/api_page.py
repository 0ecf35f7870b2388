"""docs/api.md: every public name with its signature and its docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import qcomp
import qcomp.data
import qcomp.extensions

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
HEAD = """\
# API reference

Written by `tests/test_api_page.py` (QCOMP_WRITE_DOCS=1); do not edit. \
[Python](python.md) has the same as a tour, [errors](errors.md) when each is raised.
"""
_ARGUMENT = re.compile(r"(\*{0,2}\w+): (.*)", re.DOTALL)


def api_page() -> str:
    """The whole page."""
    parts = [HEAD]
    functions = [n for n in qcomp.__all__ if inspect.isroutine(getattr(qcomp, n))]
    classes = [n for n in qcomp.__all__ if inspect.isclass(getattr(qcomp, n))]
    errors = [n for n in classes if issubclass(getattr(qcomp, n), Exception)]
    for title, module, names in (
        ("Functions", qcomp, functions),
        ("Classes", qcomp, [n for n in classes if n not in errors]),
        ("Errors", qcomp, errors),
        ("qcomp.data", qcomp.data, qcomp.data.__all__),
        ("qcomp.extensions", qcomp.extensions, ["Registry"]),
    ):
        parts.append(f"## {title}\n")
        for name in names:
            parts += _entry(f"{module.__name__}.{name}", getattr(module, name))
    return "\n".join(parts)


def _entry(name: str, value: Any) -> Iterator[str]:
    is_error = inspect.isclass(value) and issubclass(value, Exception)
    yield f"### {name}\n"
    if not is_error:
        shown = _signature(value).removesuffix(" -> None")
        yield f"```text\n{name.rpartition('.')[2]}{shown}\n```\n"
    yield _prose(inspect.getdoc(value) or "")
    if inspect.isclass(value) and not is_error:
        for member, what in _members(value):
            is_property = isinstance(what, property)
            called = "" if is_property else _signature(what)
            yield f"**{member}**{' (property)' if is_property else ''}\n"
            if called:
                yield f"```text\n{member}{called}\n```\n"
            yield _prose(inspect.getdoc(what) or "")


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Its public methods and properties that say what they do, in their order."""
    for name, what in vars(cls).items():
        plain = what.__func__ if isinstance(what, classmethod | staticmethod) else what
        known = inspect.isfunction(plain) or isinstance(plain, property)
        if known and not name.startswith("_") and inspect.getdoc(plain):
            yield name, plain


def _signature(value: Any) -> str:
    """One argument to a line where they don't fit into one."""
    signature = inspect.signature(value)
    shown, named = [], False
    for p in signature.parameters.values():
        if p.name == "self" or p.name.startswith("_"):
            continue
        if p.kind is p.KEYWORD_ONLY and not named:
            shown.append("*")
        named = named or p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
        shown.append(_plain(str(p)))
    result = signature.return_annotation
    gives = "" if result is signature.empty else f" -> {_plain(str(result))}"
    line = f"({', '.join(shown)}){gives}"
    return line if len(line) < 90 else "(\n" + "".join(f"    {x},\n" for x in shown) + f"){gives}"


def _plain(text: str) -> str:
    """Without the quotes of annotations, and what defaults are made by."""
    text = re.sub(r"(?<=: )'([^']*)'", r"\1", text)
    return re.sub(r"<factory>|<function .*?>|<object .*?>", "...", text)


def _prose(doc: str) -> str:
    """Paragraphs, lists of what is said of arguments, and blocks of what is typed."""
    out = []
    for block in re.split(r"\n\n", doc.strip()):
        if block.startswith(">>>"):
            lines = [re.sub(r"^(>>> |\.\.\. )", "", x) for x in block.splitlines()]
            out.append("```text\n" + "\n".join(lines) + "\n```")
            continue
        items: list[str] = []
        for line in block.splitlines():
            if items and line.startswith((" ", "\t")):
                items[-1] += " " + line.strip()
            elif items and not _ARGUMENT.match(line) and not _ARGUMENT.match(items[-1]):
                items[-1] += " " + line
            else:
                items.append(line)
        for i, item in enumerate(items):
            found = _ARGUMENT.match(item)
            items[i] = f"- `{found[1]}`: {_safe(found[2])}" if found else _safe(item)
        out.append("\n".join(items))
    return "\n\n".join(out) + "\n"


def _safe(text: str) -> str:
    """What Markdown would take for its own."""
    return re.sub(r"(?<!`)\*(?!`)", r"\\*", text)
