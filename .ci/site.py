"""What the site has that docs/ has not: README.md of the root as a page, and the links to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
OVERVIEW = "overview.md"
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:LICENSE|CONTRIBUTING\.md|CHANGELOG\.md)\)")


def on_files(files: Files, config: Any) -> Files:
    """README.md of the root, whose links are those of a page of docs/."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = _OUTSIDE.sub(r"\1", text.replace("](docs/", "]("))
    files.append(File.generated(config, OVERVIEW, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of docs/ lead to that page."""
    up = "../" * page.file.src_uri.count("/")
    return markdown.replace(f"]({up}../README.md", f"]({up}{OVERVIEW}")
