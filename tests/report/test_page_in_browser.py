"""The page in a headless Chromium: it loads without a word in the console, and can be used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import NAMES, Page, browser, opened

pytestmark = pytest.mark.skipif(
    browser() is None, reason=f"none of {', '.join(NAMES)} is installed: Debian's is chromium"
)

ROOT = Path(__file__).resolve().parent.parent.parent
BOX = "document.getElementById('graph').getAttribute('viewBox').split(' ').map(Number)"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def shown(tab: Page, page: Path) -> Page:
    assert tab.open(page) < 2.0
    return tab


def test_it_loads_without_errors_or_requests(shown: Page, tmp_path: Path) -> None:
    shown.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000
    assert shown.problems() == []


def test_a_click_on_a_box_shows_its_op(shown: Page) -> None:
    shown.click('.node[data-i="3"]')
    told = shown.value("document.getElementById('details').textContent")
    node = shown.value("JSON.parse(document.getElementById('facts').textContent).nodes[3]")
    assert node["title"] in told
    for part in (
        "alone",
        "scale",
        "What estimators choose",
        "Values of the integer network",
        "behind passes",
        "us of a run",
        node["text"][:30],
    ):
        assert part in told
    assert shown.value("document.querySelectorAll('.node.chosen').length") == 1
    assert shown.value("document.querySelectorAll('#details .plot').length") == 3
    assert shown.problems() == []


def test_the_keyboard_walks_the_graph_zooms_and_searches(shown: Page) -> None:
    chosen = "(document.querySelector('.node.chosen') || {dataset: {i: '-1'}}).dataset.i"
    shown.value("document.getElementById('graph').focus()")
    shown.key("ArrowDown")
    shown.key("ArrowDown")
    assert shown.value(chosen) == "1"
    shown.key("ArrowUp")
    assert shown.value(chosen) == "0"
    before = shown.value(BOX)
    shown.key("+")
    assert shown.value(BOX)[2] < before[2]
    shown.key("0")
    assert shown.value(BOX)[2] > before[2]
    shown.key("/")
    assert shown.value("document.activeElement.id") == "search"
    shown.type("q_conv2d stem")
    assert shown.value("document.getElementById('hits').textContent") == "1 found"
    shown.key("Enter")
    assert "stem" in shown.value("document.querySelector('#details h4').textContent")
    assert shown.problems() == []


def test_buttons_wheel_and_dragging_move_the_view(shown: Page) -> None:
    start = shown.value(BOX)
    shown.click("#in")
    assert shown.value(BOX)[2] == pytest.approx(0.7 * start[2], rel=1e-3)
    shown.click("#out")
    assert shown.value(BOX)[2] == pytest.approx(start[2], rel=1e-3)
    middle = shown.value(
        "(() => {const b = document.getElementById('graph').getBoundingClientRect();"
        "return [b.x + b.width / 8, b.y + b.height / 2]})()"
    )
    shown.mouse("mousePressed", *middle, button="left", clickCount=1)
    shown.mouse("mouseMoved", middle[0] + 60, middle[1] - 40, button="left", buttons=1)
    shown.mouse("mouseReleased", middle[0] + 60, middle[1] - 40, button="left", clickCount=1)
    moved = shown.value(BOX)
    assert moved[0] < start[0]
    assert moved[1] > start[1]
    shown.mouse("mouseWheel", *middle, deltaX=0, deltaY=-120, modifiers=2)
    shown.value("new Promise(r => requestAnimationFrame(r))")
    assert shown.value(BOX)[2] < moved[2]
    assert shown.problems() == []


def test_colours_follow_the_choice(shown: Page) -> None:
    colours = "[...document.querySelectorAll('.node')].map(n => n.getAttribute('class').slice(5))"
    alone = shown.value(colours)
    shown.value(
        "(() => {const c = document.getElementById('colour'); c.value = 'share';"
        "c.dispatchEvent(new Event('change'))})()"
    )
    expected = shown.value("[...document.querySelectorAll('.node')].map(n => n.dataset.share)")
    assert shown.value(colours) == expected
    assert alone != expected


def test_a_row_of_the_ranking_leads_to_its_box(shown: Page) -> None:
    shown.click("#ranking .jump")
    assert shown.value(
        "document.querySelector('.node.chosen').dataset.i =="
        "JSON.parse(document.getElementById('facts').textContent).nodes"
        ".findIndex(n => n.id == document.querySelector('#ranking .jump').dataset.id)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_colours_of_the_system(tab: Page, page: Path, scheme: str) -> None:
    tab.scheme(scheme)
    tab.open(page)
    red = tab.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
    assert (int(red) > 128) == (scheme == "light")
    tab.scheme("light")


def test_it_fits_a_phone_and_paper(tab: Page, page: Path) -> None:
    tab.open(page, 390, 844, mobile=True, deviceScaleFactor=2)
    assert tab.value("document.documentElement.scrollWidth") <= 390
    assert tab.pdf().startswith(b"%PDF")
    assert tab.problems() == []


def test_names_that_are_markup_do_nothing(tab: Page, evil_page: Path) -> None:
    tab.open(evil_page)
    for i in range(tab.value("document.querySelectorAll('.node').length")):
        tab.click(f'.node[data-i="{i}"]')
    assert tab.value("window.hacked === undefined")
    assert tab.value("document.querySelectorAll('img[src=x]').length") == 0
    assert tab.problems() == []


def test_the_picture_of_the_docs(tab: Page, page: Path, tmp_path: Path) -> None:
    """QCOMP_WRITE_DOCS=1 writes it anew."""
    tab.open(page, 1240, 830)
    tab.click('.node[data-i="4"]')
    tab.value("document.getElementById('graph-section').scrollIntoView({behavior: 'instant'})")
    kept = ROOT / "docs" / "report.png"
    file = kept if os.environ.get("QCOMP_WRITE_DOCS") else tmp_path / "page.png"
    tab.screenshot(file)
    assert kept.read_bytes()[16:24] == file.read_bytes()[16:24]  # width and height
    assert kept.stat().st_size < 200_000
