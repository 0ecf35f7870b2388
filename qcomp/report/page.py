"""The report as one HTML file: no network, no library, and a policy that says so.

What the script reads is JSON in the page; it makes elements and sets their text, never markup. The
policy allows the one script by its hash, so that nothing in a name can become another.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

from qcomp.report.accuracy_section import accuracy_section
from qcomp.report.charts import human
from qcomp.report.error_sections import advice_section, graph_section, ranking_section
from qcomp.report.fact_sections import (
    answers_section,
    notes_section,
    passes_section,
    sizes_section,
)
from qcomp.report.markup import Json, esc

_ESCAPED = {c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def page(found: Json) -> str:
    """`found` as facts gives it."""
    style, script = _file("page.css"), _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    title = esc(f"{found['name']}: a report of qcomp")
    sections = "".join(_sections(found))
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><style>{style}</style></head>'
        f"<body>{_header(found)}<main>{sections}</main>{_footer(found)}"
        f'<script type="application/json" id="facts">{embedded(_for_script(found))}</script>'
        f"<script>{script}</script></body></html>\n"
    )


def embedded(value: Any) -> str:
    """JSON that can't end the element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return "".join(_ESCAPED.get(c, c) for c in text)


def _file(name: str) -> str:
    return resources.files("qcomp.report").joinpath("files", name).read_text(encoding="utf-8")


def _for_script(found: Json) -> Json:
    """What the script reads: the others stand in the page."""
    passes = [one["name"] for one in found["passes"]]
    kept = {key: found[key] for key in ("name", "nodes", "edges", "times")}
    return {**kept, "passes": passes}


def _header(found: Json) -> str:
    sizes, errors, compared = found["sizes"], found["errors"], found["comparison"]
    cards = []
    if errors is not None and errors["db"] is not None:
        cards.append(("outputs", f"{errors['db']:.1f} dB", f"on {errors['samples']} samples"))
    if compared is not None:
        for key, name in (("of_float", "top-1 float"), ("of_integer", "top-1 integer")):
            if (share := (compared[key] or {}).get("top1")) is not None:
                cards.append((name, f"{100 * share:.1f} %", f"{compared['samples']} samples"))
        if compared["agreement"] is not None:
            cards.append(("agreement", f"{100 * compared['agreement']:.1f} %", "largest outputs"))
    if found["times"] is not None:
        shown_us = f"{found['times']['run']:,.4g} us"
        cards.append(("a run", shown_us, f"one thread, {found['times']['isa']}"))
    cards += [
        ("weights", human(sizes["weights"]), "in the library"),
        ("arena", human(sizes["arena"]), f"{human(sizes['live'])} live at once"),
        ("ops", str(sum(n["kind"] != "input" for n in found["nodes"])), "integer"),
    ]
    shown = "".join(
        f"<div class=card><b>{esc(value)}</b><span>{esc(name)}</span>"
        f"<small>{esc(more)}</small></div>"
        for name, value, more in cards
    )
    told = f"{found['target']} ({', '.join(found['isa'])})"
    return (
        f"<header><h1>{esc(found['name'])}</h1><p class=sub>{esc(told)}</p>"
        f"<div class=cards>{shown}</div>{_links(found)}</header>"
    )


def _links(found: Json) -> str:
    names = {"try": "What to try", "graph-section": "Graph", "ranking": "Ranking"}
    names |= {"accuracy": "Accuracy"} if found["accuracy"] else {}
    names |= {"answers": "Answers"} if found["comparison"] else {}
    names |= {"passes": "Passes", "sizes": "Memory and sizes", "notes": "Notes"}
    return "<nav>" + "".join(f'<a href="#{id}">{name}</a>' for id, name in names.items()) + "</nav>"


def _sections(found: Json) -> Iterator[str]:
    yield _section("try", "What to try next", advice_section(found["advice"]))
    yield _section("graph-section", "Graph", graph_section(found))
    yield _section("ranking", "Which ops explain the error at the outputs", ranking_section(found))
    if found["accuracy"] is not None:
        yield _section("accuracy", "Accuracy", accuracy_section(found["accuracy"]))
    if found["comparison"] is not None:
        yield _section("answers", "Answers", answers_section(found["comparison"]))
    yield _section("passes", "Passes", passes_section(found["passes"]))
    yield _section("sizes", "Memory and sizes", sizes_section(found))
    yield _section("notes", "Notes", notes_section(found))


def _section(id: str, title: str, content: str) -> str:
    return f'<section id="{id}"><h2>{title}</h2>{content}</section>'


def _footer(found: Json) -> str:
    return (
        f"<footer>qcomp {esc(found['qcomp'])}, {esc(found['made'])}, in {found['seconds']:.1f} s"
        "</footer>"
    )
