"""From dlopen to the first result, in fresh processes whose page cache is warm.

    python benchmarks/first_result.py DIRECTORY ... [--runs N]

Prints, for each saved network, medians over N processes of one C program: milliseconds from before
dlopen to after dlsym, to the end of the first run, and of the second run alone. The input is there
before; the first run is the first to touch the output and the arena.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

PROGRAM = """\
#define _DEFAULT_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "{name}.h"

static double now(void) {{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}}

int main(int argc, char **argv) {{
  __typeof__(&{name}_run) run;
  void *library, *arena = aligned_alloc({upper}_ARENA_ALIGN, {upper}_ARENA_BYTES);
  {buffers}
  double began, opened, first, second;

  if (argc != 2) return 2;
  {fill}
  began = now();
  library = dlopen(argv[1], RTLD_NOW);
  if (library == NULL) return 2;
  *(void **)&run = dlsym(library, "{name}_run");
  opened = now();
  if (run({arguments}, arena) != QCOMP_OK) return 3;
  first = now();
  if (run({arguments}, arena) != QCOMP_OK) return 3;
  second = now();
  printf("%f %f %f\\n", opened - began, first - began, second - first);
  return 0;
}}
"""


def program(manifest: dict[str, Any]) -> str:
    """The text of the program for one network."""
    name, upper = manifest["name"], manifest["name"].upper()
    inputs = [f"INPUT{i}" for i in range(len(manifest["inputs"]))]
    buffers = inputs + [f"OUTPUT{i}" for i in range(len(manifest["outputs"]))]
    return PROGRAM.format(
        name=name,
        upper=upper,
        buffers=" ".join(f"void *{b.lower()} = malloc({upper}_{b}_BYTES);" for b in buffers),
        fill=" ".join(f"memset({b.lower()}, 3, {upper}_{b}_BYTES);" for b in inputs),
        arguments=", ".join(b.lower() for b in buffers),
    )


def first_results(directory: Path, runs: int) -> list[list[float]]:
    """[milliseconds to open, to the first result, of the second run] of every process but one."""
    (path,) = directory.glob("*.manifest.json")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    library = str((directory / manifest["library"]).absolute())
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder) / "first.c", Path(folder) / "first"
        source.write_text(program(manifest), encoding="utf-8")
        command = ["cc", "-O2", f"-I{directory}", str(source), "-o", str(binary), "-ldl"]
        subprocess.run(command, check=True)
        texts = [
            subprocess.run([binary, library], check=True, capture_output=True, text=True).stdout
            for _ in range(runs + 1)  # the first warms the page cache
        ]
    return [[float(word) for word in text.split()] for text in texts[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directories", nargs="+", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    for directory in options.directories:
        results = first_results(directory, options.runs)
        opened, first, second = (statistics.median(column) for column in zip(*results, strict=True))
        print(f"{directory}: {opened:.3f} ms to open, {first:.3f} ms to the first result, "
              f"{second:.3f} ms for the second")  # fmt: skip


if __name__ == "__main__":
    main()
