"""A network in a notebook or a script: how it prints, and its copies."""

from __future__ import annotations

import copy
import inspect
import pickle
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import qcomp


@pytest.fixture(scope="module")
def net(examples: Path) -> Any:
    data = np.random.default_rng(0).random((8, 1, 8, 8), np.float32)
    return qcomp.compile(examples / "digits.onnx", calibration=data, recipe="fast")


def test_it_prints_in_a_line(net: Any) -> None:
    text = repr(net)
    assert text.startswith("<qcomp digits for native: image int8[1, 1, 8, 8] -> logits int8[1, 10]")
    assert text.endswith(" dB>")
    assert "\n" not in text
    assert len(text) < 200


def test_it_is_a_small_card_in_notebooks(net: Any) -> None:
    card = net._repr_html_()
    assert len(card) < 5000
    assert card.count("<rect") == len(list(net.graph.ops()))
    for told in (
        "<b>digits</b>",
        f"{net.weights_bytes:,} bytes",
        "dB at worst",
        "fewer than 16",
        "a run on",
    ):
        assert told in card


def test_names_of_models_do_not_become_markup(examples: Path, net: Any) -> None:
    odd = copy.deepcopy(net)
    odd.findings = (*net.findings, type(net.findings[0])("few-samples", "<b>", 1.0, "&", "<i>"))
    assert "&lt;b&gt;: &amp;; &lt;i&gt;" in odd._repr_html_()


def test_a_summary_is_that_of_the_report(net: Any) -> None:
    text = net.summary()
    assert f"weights  {net.weights_bytes:>12,} bytes" in text
    assert "input    image: int8 1x1x8x8, scale " in text
    assert "finding: calibration data: 8 samples" in text
    assert "5 q_conv2d" in text


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_copies_answer_the_same_and_have_a_graph_of_their_own(
    net: Any, copied: Any, tmp_path: Path
) -> None:
    x = np.random.default_rng(1).random((3, 1, 8, 8), np.float32)
    expected = net(x)  # the code is loaded, which a copy does without
    for original in (net, qcomp.load(net.save(tmp_path / "out"))):
        other = copied(original)
        assert_array_equal(other(x), expected)
        assert str(other.graph) == str(net.graph)
        assert other.graph is not original.graph
        assert other.directory is None
        constants = [t.data for t in other.graph.tensors() if t.data is not None]
        assert constants
        assert not any(data.flags.writeable for data in constants)
        assert (other.config, other.findings) == (original.config, original.findings)


@pytest.mark.parametrize("function", ["compile", "evaluate", "mixed_precision", "sensitivity"])
def test_what_users_give_has_a_type(function: str) -> None:
    hints = typing.get_type_hints(getattr(qcomp, function))
    given = [p for p in inspect.signature(getattr(qcomp, function)).parameters if p != "metric"]
    assert [name for name in given if hints[name] is Any] == []
