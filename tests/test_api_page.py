"""docs/api.md has what the interpreter has."""

from __future__ import annotations

import os
import re

from api_page import PAGE, api_page

import qcomp


def test_the_reference_is_that_of_the_code() -> None:
    """To write it anew: QCOMP_WRITE_DOCS=1."""
    if os.environ.get("QCOMP_WRITE_DOCS"):
        PAGE.write_text(api_page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == api_page()


def test_every_public_name_says_what_it_is() -> None:
    for name in qcomp.__all__:
        section = re.search(
            rf"^### qcomp\.{name}\n(.*?)(?=^##|\Z)", api_page(), re.MULTILINE | re.DOTALL
        )
        assert (name == "data") == (section is None), name
        if section is not None:
            prose = re.sub(r"```.*?```", "", section[1], flags=re.DOTALL).strip()
            assert len(prose) > 20, name
