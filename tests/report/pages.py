"""What is in an HTML page, by Python's parser."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

EVIL = '</script><script>window.hacked=1</script>"><img src=x onerror=window.hacked=1>'
"""A name that would be markup, a script and an attribute, were it not escaped."""

_VOID = {"meta", "img", "input", "br"}


@dataclass
class Read(HTMLParser):
    """Elements with their attributes, the texts of scripts, and what was not closed."""

    text: str
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1] == tag, f"</{tag}> ends {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        else:
            self.shown.append(data)

    @property
    def counts(self) -> Counter[str]:
        return Counter(tag for tag, _ in self.elements)

    @property
    def facts(self) -> Any:
        return json.loads(self.scripts[0])
