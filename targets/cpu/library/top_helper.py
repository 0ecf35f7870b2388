"""The function of a header that finds the largest integers of an output: no float is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qcomp.ir.graph import Graph
from qcomp.ir.tensor import DType
from qcomp.targets.cpu.library.float_helpers import C_TYPES, suffix_of

_TOP = """\
/* Of each of the {rows} rows of {extent}: the indices of its k largest, largest first, the first of
   equal ones; k is at most {extent}, and indices has room for {rows} * k. */
static inline void {function}(const {type} *q, int32_t k, int32_t *indices) {{
  for (int32_t row = 0; row < {rows}; row++, q += {extent}, indices += k) {{
    for (int32_t n = 0, last = 0; n < k && n < {extent}; n++) {{
      int32_t best = -1;
      for (int32_t i = 0; i < {extent}; i++) {{
        const int left = n == 0 || q[i] < q[last] || (q[i] == q[last] && i > last);
        if (left && (best < 0 || q[i] > q[best])) best = i;
      }}
      indices[n] = last = best;
    }}
  }}
}}
"""


def top_helpers(graph: Graph, name: str) -> Iterator[str]:
    """NAME_top_output of each output whose integers have the order of its values."""
    outputs = list(graph.outputs.values())
    for i, (public, t) in enumerate(graph.outputs.items()):
        type, conversion = graph.type(t), graph.conversions.get(public)
        scales = 1 if conversion is None else len(conversion.scale)
        increasing = conversion is None or min(conversion.scale) > 0.0
        if type.dtype not in (DType.I8, DType.I16) or scales > 1 or not increasing:
            continue
        if type.rank > 0 and type.shape[-1] > 1:
            yield _TOP.format(
                function=f"{name}_top_output{suffix_of(i, outputs)}",
                type=C_TYPES[type.dtype],
                rows=math.prod(type.shape[:-1]),
                extent=type.shape[-1],
            )
