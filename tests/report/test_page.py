"""The page of a report: what is in it, that it needs nothing else, and names that are markup."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from pages import EVIL, Read

from qcomp.report.page import embedded
from qcomp.report.png import picture, png


@pytest.fixture(scope="module")
def read(page: Path) -> Read:
    return Read(page.read_text(encoding="utf-8"))


def test_it_is_one_file_that_asks_for_nothing(page: Path, read: Read) -> None:
    text = page.read_text(encoding="utf-8")
    assert read.open == []
    assert read.counts["script"] == 2
    assert not {"link", "iframe", "object", "embed", "base"} & set(read.counts)
    assert re.sub(r"http://www\.w3\.org/2000/svg", "", text).count("http:") == 0
    assert "https:" not in text
    sources = [a["src"] for _, a in read.elements if "src" in a]
    assert all(s and s.startswith("data:image/png;base64,") for s in sources)
    (policy,) = [a["content"] for t, a in read.elements if t == "meta" and "http-equiv" in a]
    digest = base64.b64encode(hashlib.sha256(read.scripts[1].encode()).digest()).decode()
    assert policy is not None
    assert f"default-src 'none'; script-src 'sha256-{digest}'" in policy
    assert not [a for _, a in read.elements for name in a if name.startswith("on")]


def test_every_op_is_drawn_with_its_error_and_its_facts(digits: Any, read: Read) -> None:
    boxes = [a for t, a in read.elements if t == "g" and (a.get("class") or "").startswith("node ")]
    facts = read.facts
    ops = digits.graph.ops()
    assert len(boxes) == len(facts["nodes"]) == len(ops) + 1
    for node, op in zip(facts["nodes"][1:], ops, strict=True):
        assert (node["id"], node["kind"]) == (op.output, op.mnemonic)
        assert node["text"].startswith(f"%{op.output} = {op.mnemonic}(")
        assert node["q"]["scale"] == digits.graph.tensor(op.output).qparams.scale
        error = node["error"]
        assert error["cumulative"]["db"] > 10
        if error["isolated"] is None:
            assert error["reason"]
            continue
        assert error["isolated"]["db"] > 20
        assert {"weights", "clipping", "rounding"} <= set(error["causes"])
        assert sum(node["values"]["counts"]) > 0
        assert {"mse", "minmax", "percentile"} <= set(node["values"]["ranges"])
        assert sum(node["integers"]["counts"]) == 60 * digits.graph.type(op.output).size
        if op.mnemonic == "q_conv2d":
            assert node["room"] > 0
            assert node["kernels"] or "stem" not in op.output
            assert len(node["channels"]["after"]) == node["channels"]["count"]


def test_the_sections_tell_of_passes_memory_answers_and_choices(read: Read) -> None:
    shown = " ".join(read.shown)
    for told in (
        "What to try next",
        "Which ops explain the error at the outputs",
        "Top-1 of the integer network",
        "fold-batch-norm",
        "Who holds which bytes of the arena",
        "objects, code and data",
        "Every choice",
    ):
        assert told in shown
    held = [a for t, a in read.elements if t == "rect" and "held" in (a.get("class") or "")]
    assert len(held) > 2


def test_times_are_those_of_the_ops(read: Read) -> None:
    facts = read.facts
    us = [node.get("us") or 0.0 for node in facts["nodes"]]
    assert abs(sum(us) - facts["times"]["sum"]) < 0.01 * sum(us)
    assert facts["times"]["run"] > 0.0
    assert any("a run" in text for text in read.shown)


def test_an_op_has_the_ratios_behind_the_passes_that_changed_it(digits: Any, read: Read) -> None:
    passes = read.facts["passes"]
    behind = [[passes[n], db] for node in read.facts["nodes"][1:] for n, db in node["behind"]]
    quantized = [db for name, db in behind if name == "insert-quantize"]
    assert len(quantized) == len(digits.graph.ops())
    assert all(10.0 < db < 80.0 for db in quantized)


def test_the_ranking_is_of_all_of_the_error(read: Read) -> None:
    shares = [n["error"]["share"] for n in read.facts["nodes"] if "share" in n["error"]]
    assert abs(sum(shares) - 1.0) < 1e-3


def test_without_data_there_are_no_errors_and_the_page_says_so(digits: Any, tmp_path: Path) -> None:
    found = Read(digits.report(tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "give --calibration or --data" in " ".join(found.shown)
    assert not [n for n in found.facts["nodes"] if "error" in n]


def test_names_that_are_markup_stay_text(evil_page: Path) -> None:
    found = Read(evil_page.read_text(encoding="utf-8"))
    assert found.open == []
    assert found.counts["script"] == 2
    assert all("hacked" not in name for _, a in found.elements for name in a)
    assert not [a for t, a in found.elements if t == "img" and a.get("src") == "x"]
    assert any(EVIL in text for text in found.shown)
    assert any(EVIL in node["title"] for node in found.facts["nodes"])


def test_json_in_a_page_can_not_end_its_element() -> None:
    text = embedded({"</script>": "<!-- & \u2028\u2029"})
    assert not set("<>&\u2028\u2029") & set(text)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_what_a_decoder_reads(channels: int, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(channels).integers(0, 256, (7, 5, channels), np.uint8)
    (tmp_path / "p.png").write_bytes(png(pixels))
    read = np.asarray(image.open(tmp_path / "p.png"))
    assert_array_equal(read.reshape(pixels.shape), pixels)


@pytest.mark.parametrize(
    ("shape", "layout", "is_picture"),
    [
        ((1, 3, 300, 200), None, True),
        ((1, 300, 200, 3), None, True),
        ((1, 1, 8, 8), "nchw", True),
        ((1, 8, 8, 1), "nhwc", True),
        ((1, 5, 8, 8), None, False),
        ((2, 3, 8, 8), None, False),
        ((1, 3, 2, 8), None, False),
        ((1, 10), None, False),
    ],
)
def test_inputs_that_are_pictures_are_shown_small(
    shape: tuple[int, ...], layout: str | None, is_picture: bool
) -> None:
    found = picture(np.random.default_rng(0).normal(size=shape).astype(np.float32), layout)
    assert (found is not None) == is_picture
    assert found is None or len(found) < 40_000
