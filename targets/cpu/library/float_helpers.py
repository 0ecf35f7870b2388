"""The functions of a header between floats and integers: of one input or output each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from qcomp.ir.graph import Graph
from qcomp.ir.tensor import DType, TensorId
from qcomp.quant.tail import Tail, TailFunction

C_TYPES = {DType.I8: "int8_t", DType.I16: "int16_t", DType.I32: "int32_t"}
_BEYOND = {DType.I8: 512.0, DType.I16: 131072.0}  # steps from which everything saturates
_BLOCK = 64

# Two loops over blocks: in one loop, compilers turn the bounds into branches and don't vectorize.
_QUANTIZE = """\
/* {count} floats to {type}: divide by the scale, round half to even, saturate; NaN: {zero_point} */
static inline void {function}(const float *real, {type} *q) {{
  float steps[{block}];
  for (int32_t start = 0; start < {count}; start += {block}) {{
    const int32_t count = {count} - start < {block} ? {count} - start : {block};
    for (int32_t i = 0; i < count; i++) {{
      const float v = real[start + i] / {scale};
      const float low = v < {beyond} ? v : {beyond};
      steps[i] = low > -{beyond} ? low : -{beyond};
    }}
    for (int32_t i = 0; i < count; i++) {{
      const int32_t r = (int32_t)steps[i], odd = r & 1;
      const float rest = steps[i] - (float)r;
      const int32_t up = (rest > 0.5f) | ((rest == 0.5f) & odd);
      const int32_t down = (rest < -0.5f) | ((rest == -0.5f) & odd);
      const int32_t n = (r + up - down) * (real[start + i] == real[start + i]) + ({zero_point});
      const int32_t least = n < {qmin} ? {qmin} : n;
      q[start + i] = ({type})(least > {qmax} ? {qmax} : least);
    }}
  }}
}}
"""

_CONVERTED_QUANTIZE = """\
/* {count} floats to {type}: (real - offset) / scale of channel c; neighbours are {inner} apart;
   round half to even, saturate; NaN: {zero_point} */
static inline void {function}(const float *real, {type} *q) {{
  static const float scale[{channels}] = {{{scales}}};
  static const float offset[{channels}] = {{{offsets}}};
  for (int32_t i = 0; i < {count}; i++) {{
    const int32_t c = i / {inner} % {channels};
    const float v = (real[i] - offset[c]) / scale[c];
    const float low = v < {beyond} ? v : {beyond};
    const float steps = low > -{beyond} ? low : -{beyond};
    const int32_t r = (int32_t)steps, odd = r & 1;
    const float rest = steps - (float)r;
    const int32_t up = (rest > 0.5f) | ((rest == 0.5f) & odd);
    const int32_t down = (rest < -0.5f) | ((rest == -0.5f) & odd);
    const int32_t n = (r + up - down) * (real[i] == real[i]) + ({zero_point});
    const int32_t least = n < {qmin} ? {qmin} : n;
    q[i] = ({type})(least > {qmax} ? {qmax} : least);
  }}
}}
"""

_CONVERTED_DEQUANTIZE = """\
/* {count} {type} to floats: (q - {zero_point} + shift) * scale of channel c; neighbours are {inner}
   apart; shift is in steps. */
static inline void {function}(const {type} *q, float *real) {{
  static const float scale[{channels}] = {{{scales}}};
  static const float shift[{channels}] = {{{shifts}}};
  for (int32_t i = 0; i < {count}; i++) {{
    const int32_t c = i / {inner} % {channels};
    real[i] = ((float)(q[i] - ({zero_point})) + shift[c]) * scale[c];
  }}
}}
"""

_DEQUANTIZE = """\
/* {count} {type} to floats. */
static inline void {function}(const {type} *q, float *real) {{
  for (int32_t i = 0; i < {count}; i++) real[i] = (float)(q[i] - ({zero_point})) * {scale};
}}
"""

_TAILED = """\
/* The above, and {tail} of it: {of}. */
static inline void {function}(const {type} *q, float *real) {{
  {inside}(q, real);
{body}}}
"""

_SIGMOID = """\
  for (int32_t i = 0; i < {count}; i++) real[i] = 1.0f / (1.0f + expf(-real[i]));
"""

_SOFTMAX = """\
  for (int32_t i = 0; i < {count}; i += {extent} * {inner}) {{
    for (int32_t j = i; j < i + {inner}; j++) {{
      const int32_t end = j + {extent} * {inner};
      float most = real[j], sum = 0.0f;
      for (int32_t k = j; k < end; k += {inner}) most = real[k] > most ? real[k] : most;
      for (int32_t k = j; k < end; k += {inner}) sum += expf(real[k] - most);
      for (int32_t k = j; k < end; k += {inner}) real[k] = {value};
    }}
  }}
"""

_SOFTMAX_VALUES = {
    TailFunction.SOFTMAX: "expf(real[k] - most) / sum",
    TailFunction.LOG_SOFTMAX: "real[k] - most - logf(sum)",
}


def suffix_of(index: int, tensors: Sequence[TensorId]) -> str:
    """What the names of an input or output end with, where there are several."""
    return "" if len(tensors) == 1 else str(index)


def float_helpers(graph: Graph, name: str) -> Iterator[str]:
    """NAME_quantize_input of each input, NAME_dequantize_output of each output, of 8 or 16 bits:
    not of indices, nor of sums of 32 bits where a part of a network begins or ends with these.
    """
    inputs, outputs = list(graph.inputs.values()), list(graph.outputs.values())
    for i, (public, t) in enumerate(graph.inputs.items()):
        if graph.type(t).dtype not in _BEYOND:
            continue
        function = f"{name}_quantize_input{suffix_of(i, inputs)}"
        yield _helper((_QUANTIZE, _CONVERTED_QUANTIZE), function, graph, public, t)
    for i, (public, t) in enumerate(graph.outputs.items()):
        if graph.type(t).dtype not in _BEYOND:
            continue
        suffix, tail = suffix_of(i, outputs), graph.tails.get(public)
        function = f"{name}_dequantize_output{suffix}"
        inside = function if tail is None else f"{name}_dequantize_inside{suffix}"
        yield _helper((_DEQUANTIZE, _CONVERTED_DEQUANTIZE), inside, graph, public, t)
        if tail is not None:
            yield _tailed(tail, function, inside, graph, t)


def _tailed(tail: Tail, function: str, inside: str, graph: Graph, id: TensorId) -> str:
    type = graph.type(id)
    if tail.function is TailFunction.SIGMOID:
        body, of = _SIGMOID.format(count=type.size), "of each number"
    else:
        inner = math.prod(type.shape[tail.axis + 1 :])
        body = _SOFTMAX.format(
            count=type.size,
            extent=type.shape[tail.axis],
            inner=inner,
            value=_SOFTMAX_VALUES[tail.function],
        )
        of = f"of {type.shape[tail.axis]} numbers, {inner} apart"
    return _TAILED.format(
        tail=tail.function.value,
        of=of,
        function=function,
        inside=inside,
        type=C_TYPES[type.dtype],
        body=body,
    )


def _helper(
    templates: tuple[str, str],
    function: str,
    graph: Graph,
    public: str,
    tensor: TensorId,
) -> str:
    """The function between floats and integers, without a conversion or with one."""
    q, type = graph.tensor(tensor).qparams, graph.type(tensor)
    assert q is not None
    plain, converted = templates
    fields = dict(
        function=function,
        count=type.size,
        type=C_TYPES[type.dtype],
        beyond=float_literal(_BEYOND[type.dtype]),
        zero_point=q.zero_point,
        qmin=q.qmin,
        qmax=q.qmax,
    )
    conversion = graph.conversions.get(public)
    if conversion is None:
        return plain.format(block=_BLOCK, scale=float_literal(q.scale), **fields)
    steps = conversion.in_steps(q)
    return converted.format(
        channels=len(steps.scale),
        inner=math.prod(type.shape[steps.axis + 1 :]),
        scales=_float_literals(steps.scale),
        offsets=_float_literals(steps.offset),
        shifts=_float_literals(steps.shift),
        **fields,
    )


def _float_literals(values: Sequence[float]) -> str:
    return ", ".join(map(float_literal, values))


def float_literal(value: float) -> str:
    """Nine significant digits name every float32 exactly."""
    text = f"{value:.9g}"
    return f"{text}f" if any(c in text for c in ".e") else f"{text}.0f"
