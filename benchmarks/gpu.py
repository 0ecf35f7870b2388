"""One directory to carry to a machine with a GPU: it needs nothing there but a driver.

    python benchmarks/gpu.py DIR model.onnx ... [--targets cuda,opencl:dot4] [--calibration F]
    DIR/run.sh                                # there

A network and a target make a folder: the compiled directory, a program that compares bits with the
specification's, and one that measures times. run.sh runs all of them, then peers.py, which measures
what is installed there (onnxruntime, TensorRT's trtexec, torch) on the same ONNX files; it writes
results.txt. Programs are linked for this machine's kind of processor and system.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import qcomp
from qcomp.runtime.verification import check_program_of

PEERS = Path(__file__).with_name("gpu_peers.py")

TIMES = """\
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "{name}.h"

static _Alignas({upper}_ARENA_ALIGN) unsigned char arena[{upper}_ARENA_BYTES];
{buffers}

static double now(void) {{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}}

static int by_value(const void *a, const void *b) {{
  return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}}

static double median_of_runs(int *runs) {{
  static double times[10000];
  int n = 0;
  double began = now(), before = began, after;
  for (; n < 10000 && (n < 20 || before - began < 2e6); before = now()) {{
    if ({name}_run({arguments}, arena)) return -1;
    after = now();
    times[n++] = after - before;
  }}
  qsort(times, (size_t)n, sizeof *times, by_value);
  *runs = n;
  return times[n / 2];
}}

/* Of a run whose inputs are on the device and whose results stay there. */
static double on_device(double whole) {{
#ifdef {upper}_OPENS
  const int times = 200;
  double began = now();
  for (int n = 0; n < times; n++)
    if ({name}_run_on(0, 0, arena)) return -1;
  if ({name}_run({arguments}, arena)) return -1;
  return (now() - began - whole) / times;
#else
  return whole;
#endif
}}

int main(void) {{
  int runs = 0;
#ifdef {upper}_OPENS
  double before = now();
  int status = {name}_open(arena, getenv("QCOMP_DEVICE"));
  if (status) return printf("status %d: %s\\n", status, {name}_message(arena)), 1;
  printf("opened in %.0f ms; ", (now() - before) / 1e3);
#endif
  double whole = median_of_runs(&runs), inside = on_device(whole);
  if (whole < 0 || inside < 0) return printf("a run failed\\n"), 1;
  printf("%.1f us a run, median of %d; %.1f us on the device\\n", whole, runs, inside);
#ifdef {upper}_OPENS
  {name}_close(arena);
#endif
  return 0;
}}
"""

RUN = """\
#!/bin/sh
# Bits and times of every network here; results.txt has them all.
cd "$(dirname "$0")" || exit
{{
  for folder in */; do
    echo "== ${{folder%/}}"
    "$folder/check" | tail -n 1
    "$folder/times"
  done
  command -v python3 > /dev/null && python3 peers.py *.onnx
}} 2>&1 | tee results.txt
"""


def times_program(net: qcomp.CompiledNetwork) -> str:
    """C that prints how long a run takes."""
    upper, tensors = net.name.upper(), [*net.inputs, *net.outputs]
    buffers = [
        f"static {t.dtype}_t b{n}[{max(math.prod(t.shape), 1)}];" for n, t in enumerate(tensors)
    ]
    arguments = ", ".join(f"b{n}" for n in range(len(tensors)))
    return TIMES.format(name=net.name, upper=upper, buffers="\n".join(buffers), arguments=arguments)


def add(directory: Path, model: Path, target: str, calibration: str | None) -> None:
    """The folder of one network on one target."""
    net = qcomp.compile(model, target, calibration=calibration)
    folder = net.save(directory / f"{model.stem}-{target.replace(':', '-')}")
    programs = {"check": check_program_of(folder, 2), "times": times_program(net)}
    for name, text in programs.items():
        (folder / f"{name}.c").write_text(text, encoding="utf-8")
        command = ["cc", "-O2", "-w", "-std=c11", f"{name}.c", f"lib{net.name}.a", "-o", name]
        libraries = [f"-l{library}" for library in (*net.artifact.requires.libraries, "m")]
        subprocess.run([*command, *libraries], cwd=folder, check=True)
    shutil.copyfile(model, directory / model.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--targets", default="cuda,opencl:dot4")
    parser.add_argument("--calibration", help="as for qcomp compile")
    chosen = parser.parse_args(arguments)
    chosen.directory.mkdir(parents=True, exist_ok=True)
    for model in chosen.models:
        for target in chosen.targets.split(","):
            add(chosen.directory, model, target, chosen.calibration)
    shutil.copyfile(PEERS, chosen.directory / "peers.py")
    run = chosen.directory / "run.sh"
    run.write_text(RUN.format(), encoding="utf-8")
    run.chmod(0o755)


if __name__ == "__main__":
    main()
