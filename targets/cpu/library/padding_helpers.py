"""NAME_run_length: a run of any length up to the largest, padded to the next that has a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.padding import Padding
from qcomp.ir.tensor import TensorId
from qcomp.quant.qparams import quantize
from qcomp.targets.cpu.library.float_helpers import C_TYPES, suffix_of
from qcomp.targets.memory import ALIGN

_TEXT = """\
#define {upper}_PAD_BYTES {bytes}
/* A run of `length` rows, 1 to {largest}, by the smallest plan that has room for them; behind them
   is what the network does not look at. Inputs and outputs have `length` where a plan has its own.
   `pad` is {upper}_PAD_BYTES of the caller's, aligned to {upper}_ARENA_ALIGN. Returns what a run
   does, and QCOMP_BAD_INPUT for other lengths. */
static inline int {name}_run_length(int32_t length, {parameters}, void *pad, void *arena) {{
  int32_t plan = {largest};
  int status;
{places}\
  if (length < 1 || length > {largest}) return QCOMP_BAD_INPUT;
{choice}\
{filled}\
  switch (plan) {{
{runs}\
  }}
  if (status != QCOMP_OK) return status;
{cut}\
  return status;
}}
"""

_LOOPS = """\
  for (int32_t o = 0; o < {outer}; o++)
    for (int32_t r = 0; r < {rows}; r++)
      for (int32_t i = 0; i < {inner}; i++)
        {store};
"""


def padding_helpers(name: str, graphs: Mapping[int, Graph], padding: Padding) -> list[str]:
    """Of the plans, the largest first."""
    graph, largest = next(iter(graphs.values())), next(iter(graphs))
    parameters, arguments, places = [], [], []
    filled, cut, end = [], [], 0
    kinds = (("input", graph.inputs, padding.inputs), ("output", graph.outputs, padding.outputs))
    for kind, tensors, padded in kinds:
        for i, (public, t) in enumerate(tensors.items()):
            type = C_TYPES[graph.type(t).dtype]
            own = f"{kind}{suffix_of(i, list(tensors.values()))}"
            parameters.append(f"{'const ' if kind == 'input' else ''}{type} *{own}")
            if public not in padded:
                arguments.append(own)
                continue
            whole = f"whole_{own}"
            arguments.append(whole)
            places.append(f"  {type} *const {whole} = ({type} *)((char *)pad + {end});\n")
            end += -(-graph.type(t).bytes // ALIGN) * ALIGN
            if kind == "input":
                axis, value = padding.inputs[public]
                filled.append(_filled(graph, t, own, whole, axis, value))
            else:
                cut.append(_cut(graph, t, own, whole, padding.outputs[public]))
    given = ", ".join((*arguments, "arena"))
    shorter = list(graphs)[1:]
    runs = [f"    case {n}: status = {name}_run_{n}({given}); break;\n" for n in shorter]
    runs.append(f"    default: status = {name}_run({given}); break;\n")
    fields = {"name": name, "upper": name.upper(), "bytes": end, "largest": largest}
    choice = "".join(f"  if (length <= {n}) plan = {n};\n" for n in shorter)
    texts = {"places": places, "filled": filled, "runs": runs, "cut": cut}
    return [
        _TEXT.format(
            parameters=", ".join(parameters),
            choice=choice,
            **{key: "".join(lines) for key, lines in texts.items()},
            **fields,
        )
    ]


def _filled(graph: Graph, t: TensorId, own: str, whole: str, axis: int, value: float) -> str:
    q = graph.tensor(t).qparams
    filler = int(value) if q is None else int(quantize(np.full((), value, np.float32), q))
    source = f"{own}[(o * length + r) * {{inner}} + i]"
    store = f"{whole}[(o * plan + r) * {{inner}} + i] = r < length ? {source} : {filler}"
    return _loops(graph, t, axis, "plan", store)


def _cut(graph: Graph, t: TensorId, own: str, whole: str, axis: int) -> str:
    source = f"{whole}[(o * plan + r) * {{inner}} + i]"
    return _loops(graph, t, axis, "length", f"{own}[(o * length + r) * {{inner}} + i] = {source}")


def _loops(graph: Graph, t: TensorId, axis: int, rows: str, store: str) -> str:
    shape = graph.type(t).shape
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    return _LOOPS.format(outer=outer, rows=rows, inner=inner, store=store.format(inner=inner))
