"""Split a maximum over a large window into one along the rows and one along the columns.

    max x[r + i, c + j]  =  max ( max x[r + i, c + j] )
    i,j                      j    i

Maxima neither round nor saturate, and padding wins in neither, so that the integers are the same:
of 13 x 13 taps 26 are left. The tensor between both has the scale of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import MaxPool2d
from qcomp.passes.events import PassLog

FEWER = 2
"""Taps of a window for each that two need: what is stored and read between takes time, too."""


@dataclass(frozen=True)
class SplitMaxPools:
    """See the module."""

    name: ClassVar[str] = "split-max-pools"
    needs: ClassVar[Form] = Form.INTEGER
    gives: ClassVar[Form] = Form.INTEGER

    def run(self, graph: Graph, log: PassLog) -> None:
        for op in graph.ops():
            if not isinstance(op, MaxPool2d):
                continue
            if graph.is_kept(op):
                log.skipped(op.id, "it is kept in floats")
                continue
            taps, apart = op.kernel[0] * op.kernel[1], _taps_apart(op)
            what = f"{taps} taps, {apart} along rows and columns"
            if taps < FEWER * apart:
                log.skipped(op.id, what)
            else:
                _split(graph, op)
                log.did(f"{op.id}: {what}", op=op.id)


def _taps_apart(op: MaxPool2d) -> int:
    """Of a result; the columns between two results have maxima of their own."""
    return op.stride[1] * op.kernel[0] + op.kernel[1]


def _split(graph: Graph, op: MaxPool2d) -> None:
    top, left, bottom, right = op.padding
    along_rows = MaxPool2d(
        inputs=op.inputs,
        output=graph.fresh_id(f"{op.id}.rows"),
        kernel=(op.kernel[0], 1),
        stride=(op.stride[0], 1),
        padding=(top, 0, bottom, 0),
        dilation=(op.dilation[0], 1),
    )
    between = graph.add_op(along_rows)
    qparams = graph.tensor(op.output).qparams
    graph.update_tensor(replace(graph.tensor(between), qparams=qparams))
    along_columns = replace(
        op,
        inputs=(between,),
        kernel=(1, op.kernel[1]),
        stride=(1, op.stride[1]),
        padding=(0, left, 0, right),
        dilation=(1, op.dilation[1]),
    )
    graph.replace_op(along_columns)
