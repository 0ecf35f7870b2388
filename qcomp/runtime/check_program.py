"""A C program that checks a library where Python isn't: the vectors, and a main that compares.

It prints a line for each instruction set of the library that the processor has, and ends with 1
where a bit differs, with 2 where the library can't run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.runtime.interface import TensorInfo
from qcomp.runtime.network import CompiledNetwork

_WORD = 8  # bytes of a number in the tables
_A_LINE = 4  # numbers


@dataclass(frozen=True)
class Vector:
    """Inputs by name, and the outputs that are right for them."""

    kind: str
    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]


def check_program(net: CompiledNetwork, vectors: Sequence[Vector]) -> str:
    """The text of the program, C99: it needs NAME.h and the library."""
    tensors = [(f"in{i}", info) for i, info in enumerate(net.inputs)]
    results = [(f"out{i}", info) for i, info in enumerate(net.outputs)]
    arguments = ", ".join([*(f"{name}_now" for name, _ in (*tensors, *results)), "arena"])
    parts = [
        f"/* {net.name}: {len(vectors)} vectors for {', '.join(net.isa)}, made by qcomp. */",
        *(f"#include {file}" for file in ("<stdint.h>", "<stdio.h>", "<string.h>", "<time.h>")),
        f'#include "{net.name}.h"',
        f"enum {{ VECTORS = {len(vectors)} }};",
        *_texts("kinds", [v.kind for v in vectors]),
        *_texts("isas", net.isa),
        *(line for n, t in tensors for line in _table(n, t, [v.inputs[t.name] for v in vectors])),
        *(line for n, t in results for line in _table(n, t, [v.outputs[t.name] for v in vectors])),
        _COMMON,
        "static int one(int v, count *found) {",
        *(f"  memcpy({n}_now, (const char *){n} + v * sizeof {n}_now, sizeof {n}_now);"
          for n, _ in tensors),
        *(f"  memset({n}_now, 0x5a, sizeof {n}_now);" for n, _ in results),
        f"  if (run() != QCOMP_OK) return {_CANT_RUN};",
        *(f"  compare({n}_now, (const char *){n} + v * sizeof {n}_now, sizeof {n}_now,"
          f" sizeof *{n}_now, found);" for n, _ in results),
        "  return 0;",
        "}",
        _CHECK,
        *_main(net.name, len(net.isa)),
    ]  # fmt: skip
    run = f"static int run(void) {{ return {net.name}_{net.artifact.run}({arguments}); }}"
    arena = [
        f"static uint8_t memory[{net.name.upper()}_ARENA_BYTES + {net.name.upper()}_ARENA_ALIGN];",
        "static void *arena;",
        run,
    ]
    at = parts.index(_COMMON)
    return "\n".join([*parts[:at], *arena, *parts[at:], ""])


def _texts(name: str, texts: Sequence[str]) -> list[str]:
    quoted = ", ".join(f'"{text}"' for text in texts)
    return [f"static const char *const {name}[] = {{{quoted}}};"]


def _table(name: str, info: TensorInfo, arrays: Sequence[NDArray[Any]]) -> Iterator[str]:
    """A tensor of all vectors, in numbers of 64 bits; and the one that a run uses."""
    content = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)
    words = np.frombuffer(content + bytes(-len(content) % _WORD), "<u8")
    yield f"static {info.c_type} {name}_now[{info.size}];"
    yield f"static const uint64_t {name}[] = {{"
    for start in range(0, len(words), _A_LINE):
        yield "".join(f"0x{word:x}u," for word in words[start : start + _A_LINE].tolist())
    yield "};"


_CANT_RUN = 2
_COMMON = """\
typedef struct { long long values, differing, bits; } count;
static void compare(const void *ours, const char *right, size_t bytes, size_t each, count *found) {
  for (size_t i = 0; i < bytes; i += each) {
    int bits = 0;
    for (size_t k = i; k < i + each; k++) {
      unsigned x = (unsigned char)(((const char *)ours)[k] ^ right[k]);
      for (; x; x &= x - 1) bits++;
    }
    found->values++;
    found->differing += bits != 0;
    found->bits += bits;
  }
}"""
_CHECK = f"""\
static double microseconds(void) {{
  for (long runs = 1;; runs *= 2) {{
    clock_t began = clock();
    for (long i = 0; i < runs; i++) run();
    double passed = (double)(clock() - began) / CLOCKS_PER_SEC;
    if (passed >= 0.2) return 1e6 * passed / runs;
  }}
}}
static int check(const char *isa) {{
  count all = {{0, 0, 0}};
  for (int v = 0; v < VECTORS; v++) {{
    count now = {{0, 0, 0}};
    if (one(v, &now)) {{
      printf("%s: can't run on this processor\\n", isa);
      return {_CANT_RUN};
    }}
    if (now.bits && !all.bits)
      printf("first difference: %s, %s: %lld of %lld values differ\\n", kinds[v], isa,
             now.differing, now.values);
    all.values += now.values;
    all.differing += now.differing;
    all.bits += now.bits;
  }}
  printf("%s: %d vectors, %lld values, %lld differing values, %lld differing bits, ",
         isa, VECTORS, all.values, all.differing, all.bits);
  printf("%.1f us a run\\n", microseconds());
  return all.bits != 0;
}}"""


def _main(name: str, isas: int) -> list[str]:
    """Each instruction set that the processor has, or the only one."""
    align = f"{name.upper()}_ARENA_ALIGN"
    head = [
        "int main(void) {",
        f"  arena = memory + ({align} - (uintptr_t)memory % {align});",
        f"#ifdef {name.upper()}_OPENS",
        f"  if ({name}_open(arena, 0) != QCOMP_OK) {{",
        f'    printf("%s: %s\\n", isas[0], {name}_message(arena));',
        f"    return {_CANT_RUN};",
        "  }",
        "#endif",
    ]
    if isas == 1:
        return [*head, "  return check(isas[0]);", "}"]
    return [
        *head,
        f"  int worst = {_CANT_RUN}, able = 0;",
        f"  for (int n = 1; n <= {isas}; n++) {{",
        f"    if ({name}_set_isa(n) != QCOMP_OK) continue;",
        "    int status = check(isas[n - 1]);",
        "    if (!able++ || status > worst) worst = status;",
        "  }",
        "  return worst;",
        "}",
    ]
