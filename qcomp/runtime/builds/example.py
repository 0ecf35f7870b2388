"""A program that runs the network once: the calls in their order, to be copied from."""

from __future__ import annotations

from collections.abc import Iterator

from qcomp.runtime.builds.package import Package
from qcomp.runtime.interface import TensorInfo

_SHOWN = 10  # values of an output


def example_program(package: Package) -> str:
    """C99."""
    return "\n".join(_lines(package)) + "\n"


def _lines(package: Package) -> Iterator[str]:
    name, upper = package.name, package.name.upper()
    inputs, outputs = _named("input", package.inputs), _named("output", package.outputs)
    yield f"/* Runs {name} once. Each argument is a file of float32 numbers for an input, in the"
    yield "   model's order and layout; an input without a file is zero."
    yield ""
    needed = f"{package.static}{package.link_flags}"
    yield f"     cc -std=c99 {name}_example.c {needed} -o {name}_example"
    yield "*/"
    yield "#include <stdint.h>"
    yield "#include <stdio.h>"
    yield f'#include "{name}.h"'
    yield ""
    yield f"static uint8_t memory[{upper}_ARENA_BYTES + {upper}_ARENA_ALIGN];"
    for number, (variable, info) in enumerate(inputs):
        yield f"static float real_{variable}[{upper}_INPUT{number}_SIZE];"
        yield f"static {info.c_type} {variable}[{upper}_INPUT{number}_SIZE];"
    for number, (variable, info) in enumerate(outputs):
        yield f"static {info.c_type} {variable}[{upper}_OUTPUT{number}_SIZE];"
        if info.is_quantized:
            yield f"static float real_{variable}[{upper}_OUTPUT{number}_SIZE];"
    yield _READ
    yield "int main(int argc, char **argv) {"
    yield f"  const uintptr_t align = {upper}_ARENA_ALIGN;"
    yield "  void *arena = memory + (align - (uintptr_t)memory % align);"
    yield "  int status;"
    yield f"  if ({name}_check() != QCOMP_OK) return 1; /* the header of another build */"
    if package.opens:
        yield f"  if ({name}_open(arena, 0) != QCOMP_OK) {{"
        yield f'    fprintf(stderr, "%s\\n", {name}_message(arena));'
        yield "    return 1;"
        yield "  }"
    for number, (variable, _) in enumerate(inputs):
        yield (
            f"  if (argc > {number + 1} && !read_floats(argv[{number + 1}], real_{variable}, "
            f"{upper}_INPUT{number}_SIZE)) return 1;"
        )
        yield f"  {name}_quantize_{variable}(real_{variable}, {variable});"
    arguments = ", ".join(variable for variable, _ in (*inputs, *outputs))
    yield f"  status = {name}_run({arguments}, arena);"
    yield "  if (status != QCOMP_OK) {"
    yield f'    fprintf(stderr, "{name}_run returned %d\\n", status);'
    yield "    return 1;"
    yield "  }"
    for number, (variable, info) in enumerate(outputs):
        yield from _printed(name, variable, info, f"{upper}_OUTPUT{number}")
    if package.opens:
        yield f"  {name}_close(arena);"
    yield "  return 0;"
    yield "}"


def _printed(name: str, variable: str, info: TensorInfo, macro: str) -> Iterator[str]:
    shown = f"{macro}_SIZE < {_SHOWN} ? {macro}_SIZE : {_SHOWN}"
    if info.is_quantized:
        yield f"  {name}_dequantize_{variable}({variable}, real_{variable});"
        value = f'printf(" %g", (double)real_{variable}[i])'
    else:
        value = f'printf(" %ld", (long){variable}[i])'
    yield f'  printf("%s:", {macro}_NAME);'
    yield f"  for (int i = 0; i < ({shown}); i++)"
    yield f"    {value};"
    yield '  printf("\\n");'


def _named(kind: str, tensors: tuple[TensorInfo, ...]) -> list[tuple[str, TensorInfo]]:
    """As the header's functions end."""
    if len(tensors) == 1:
        return [(kind, tensors[0])]
    return [(f"{kind}{number}", info) for number, info in enumerate(tensors)]


_READ = """
static int read_floats(const char *path, float *values, size_t count) {
  FILE *file = fopen(path, "rb");
  size_t read = file ? fread(values, sizeof *values, count, file) : 0;
  if (file) fclose(file);
  if (read != count) fprintf(stderr, "%s: expected %lu floats\\n", path, (unsigned long)count);
  return read == count;
}
"""
