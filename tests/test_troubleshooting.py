"""Every message of docs/troubleshooting.md is one that the code has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
MESSAGES = re.findall(r"^\| `([^`]+)` \| ", PAGE, re.MULTILINE)
VARIES = "\0"


def text_of(node: ast.AST) -> str | None:
    """A text of the code, with marks for what a case puts in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or VARIES for part in node.values)
    return None


@cache
def texts() -> frozenset[str]:
    """All that our sources have, but for docstrings and single words."""

    def found() -> Iterator[str]:
        for folder in ("qcomp", "passes", "targets"):
            for path in (ROOT / folder).rglob("*.py"):
                tree = ast.parse(path.read_text(encoding="utf-8"))
                docs = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
                for node in ast.walk(tree):
                    text = None if id(node) in docs else text_of(node)
                    if text is not None and " " in text:
                        yield text

    return frozenset(found())


def in_code(message: str) -> bool:
    """Whether one text has the message's pieces in their order; a piece may span what varies."""
    pieces = [re.escape(p) for p in message.split("…") if p.strip()]
    pattern = re.compile(".*".join(pieces), re.DOTALL)
    return any(pattern.search(text) for text in texts())


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_has_the_message(message: str) -> None:
    assert in_code(message)


def test_the_page_has_messages_and_names_no_other_place() -> None:
    assert len(MESSAGES) > 40
    assert len(MESSAGES) == len(set(MESSAGES))
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    heads = sum(line.startswith("| message") for line in rows)
    assert len(rows) == len(MESSAGES) + heads


def test_a_message_that_the_code_has_not_is_found() -> None:
    assert not in_code("operator … is quite unheard of")
    assert not in_code("is not supported … operator")
