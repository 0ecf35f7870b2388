"""A C function that takes and gives floats, around a library that takes and gives integers."""

from __future__ import annotations

from typing import Any


def float_io(name: str, manifest: dict[str, Any]) -> str:
    """C source of `int float_io(const float *from0, ..., float *to0, ...)`; not re-entrant.

    The conversions are the inline functions of NAME.h; the arena is static. An int32 output (of an
    ArgMax) has no scale and becomes the float of the same value.
    """
    upper = name.upper()
    inputs = numbered(manifest["inputs"])
    outputs = numbered(manifest["outputs"])
    from_, to = [f"from{i}" for i in range(len(inputs))], [f"to{i}" for i in range(len(outputs))]
    in_, out = [f"in{i}" for i in range(len(inputs))], [f"out{i}" for i in range(len(outputs))]
    lines = [f'#include "{name}.h"']
    lines += [
        f"static {t['dtype']}_t in{i}[{upper}_INPUT{i}_SIZE];" for i, (_, t) in enumerate(inputs)
    ]
    for i, (_, tensor) in enumerate(outputs):
        lines.append(f"static {tensor['dtype']}_t out{i}[{upper}_OUTPUT{i}_SIZE];")
    parameters = [*(f"const float *{p}" for p in from_), *(f"float *{p}" for p in to)]
    lines += [
        f"static uint8_t memory[{upper}_ARENA_BYTES + {upper}_ARENA_ALIGN];",
        f"int float_io({', '.join(parameters)}) {{",
        f"  const uintptr_t beyond = (uintptr_t)memory % {upper}_ARENA_ALIGN;",
        f"  void *arena = memory + ({upper}_ARENA_ALIGN - beyond);",
    ]
    for (suffix, _), real, q in zip(inputs, from_, in_, strict=True):
        lines.append(f"  {name}_quantize_input{suffix}({real}, {q});")
    lines.append(f"  const int status = {name}_run({', '.join([*in_, *out, 'arena'])});")
    for i, ((suffix, tensor), q, real) in enumerate(zip(outputs, out, to, strict=True)):
        if tensor["dtype"] != "int32":
            lines.append(f"  {name}_dequantize_output{suffix}({q}, {real});")
        else:
            size = f"{upper}_OUTPUT{i}_SIZE"
            lines.append(f"  for (int32_t i = 0; i < {size}; i++) {real}[i] = (float){q}[i];")
    return "\n".join([*lines, "  return status;", "}", ""])


def numbered(tensors: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """With the suffix that the header's functions have: none where there is one tensor."""
    return [("" if len(tensors) == 1 else str(i), t) for i, t in enumerate(tensors)]
