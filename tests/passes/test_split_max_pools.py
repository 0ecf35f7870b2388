"""Maxima over large windows become two, with the same integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import MaxPool2d
from qcomp.ir.tensor import DType, TensorType
from qcomp.passes.base import run_pass
from qcomp.passes.events import PassLog
from qcomp.passes.split_max_pools import SplitMaxPools
from qcomp.quant.qparams import QParams

SCALES = {DType.I8: QParams(0.1, 3), DType.I16: QParams(0.1, 0, -32768, 32767)}


def pool(type: DType = DType.I8, **window: Any) -> Graph:
    graph = Graph("g")
    x = graph.add_input("x", TensorType(type, (2, 11, 13, 3)))
    y = graph.add_op(MaxPool2d(inputs=(x,), output="y", **window))
    for id in (x, y):
        graph.update_tensor(replace(graph.tensor(id), qparams=SCALES[type]))
    graph.outputs["y"] = y
    return graph


@pytest.mark.parametrize("type", [DType.I8, DType.I16])
@pytest.mark.parametrize(
    "window",
    [
        {"kernel": (4, 4)},
        {"kernel": (5, 5), "padding": (2, 2, 2, 2)},
        {"kernel": (13, 13), "padding": (6, 6, 6, 6)},
        {"kernel": (9, 11), "stride": (3, 2), "padding": (4, 0, 3, 5)},
        {"kernel": (4, 5), "padding": (4, 9, 3, 8), "dilation": (3, 2)},
        {"kernel": (4, 4), "padding": (0, 6, 7, 0)},
    ],
    ids=str,
)
def test_two_maxima_give_the_integers_of_one(type: DType, window: dict[str, Any]) -> None:
    graph = pool(type, **window)
    split, log = run_pass(graph, SplitMaxPools())
    rows, columns = split.ops()
    assert isinstance(rows, MaxPool2d)
    assert isinstance(columns, MaxPool2d)
    assert [rows.kernel, columns.kernel] == [(window["kernel"][0], 1), (1, window["kernel"][1])]
    assert split.tensor(rows.output).qparams == SCALES[type]
    assert log.text.startswith("did  y: ")
    least, most = SCALES[type].qmin, SCALES[type].qmax
    x = np.random.default_rng(1).integers(least, most, (2, 11, 13, 3), endpoint=True)
    run = {"x": x.astype(type.numpy)}
    assert (evaluate(graph, run)["y"] == evaluate(split, run)["y"]).all()
    assert str(run_pass(split, SplitMaxPools())[0]) == str(split)


@pytest.mark.parametrize(
    "window",
    [
        {"kernel": (3, 3)},
        {"kernel": (5, 5), "stride": (2, 2)},
        {"kernel": (1, 13)},
        {"kernel": (11, 1)},
    ],
    ids=str,
)
def test_windows_of_few_taps_stay(window: dict[str, Any]) -> None:
    graph = pool(**window)
    split, log = run_pass(graph, SplitMaxPools())
    assert str(split) == str(graph)
    assert log.text.startswith("skip y: ")


def test_what_is_kept_in_floats_stays() -> None:
    graph = pool(kernel=(5, 5))
    for id in ("x", "y"):
        tensor = graph.tensor(id)
        kept = replace(tensor.type, dtype=DType.F32)
        graph.update_tensor(replace(tensor, type=kept, qparams=None, kept=True))
    before, log = str(graph), PassLog()
    SplitMaxPools().run(graph, log)
    assert str(graph) == before
    assert log.text == "skip y: it is kept in floats"
