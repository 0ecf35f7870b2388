"""Build and run tests/c/guard.c on a saved network; `python tests/c/guard_check.py DIR` by hand."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
POOL = HERE.parent.parent / "targets/cpu/c"
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@dataclass(frozen=True)
class GuardResult:
    """What the program counted; `fault` is its standard error when it did not come to an end."""

    sanitized: bool
    samples: int = 0
    runs: int = 0
    callers: int = 0
    differing_bits: int = 0
    stray_writes: int = 0
    failures: int = 0
    fault: str | None = None

    @property
    def clean(self) -> bool:
        broken = self.differing_bits + self.stray_writes + self.failures
        return self.fault is None and broken == 0 and self.samples > 0


def compiler() -> str | None:
    """A C compiler, or None."""
    candidates = (os.environ.get("CC"), "cc", "gcc", "clang")
    return next((found for c in candidates if c and (found := shutil.which(c))), None)


def guard_check(
    directory: Path,
    inputs: Sequence[NDArray[Any]] | None = None,
    outputs: Sequence[NDArray[Any]] | None = None,
    *,
    isa: str | None = None,
    threads: int = 1,
) -> GuardResult:
    """Run the network of `directory` between guard pages, on its stored vectors or on those given.

    Given arrays are quantized, in the order of the header, with a leading axis of samples. `isa` is
    one of the library's instruction sets, by default the best; `threads` share the work of a run.
    """
    (path,) = directory.glob("*.manifest.json")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if inputs is None or outputs is None:
        with np.load(directory / f"{manifest['name']}.vectors.npz") as file:
            inputs = [file[f"input_{i}"] for i in range(len(manifest["inputs"]))]
            outputs = [file[f"output_{i}"] for i in range(len(manifest["outputs"]))]
    with tempfile.TemporaryDirectory() as aside:
        build = Path(aside)
        (build / "under-guard.h").write_text(network_header(manifest), encoding="utf-8")
        (build / "vectors").write_bytes(vector_bytes(inputs, outputs, _record_bytes(manifest)))
        program, sanitized = build_guard(build, directory, manifest)
        number = 0 if isa is None else manifest["isa"].index(isa) + 1
        return _run([program, build / "vectors", str(number), str(threads)], sanitized)


def network_header(manifest: dict[str, Any]) -> str:
    """under-guard.h in terms of the macros of the generated header, which are tested with it.

    No network has a hyphen in its name, so none has a header of this name.
    """
    name, upper = manifest["name"], manifest["name"].upper()
    inputs, outputs = len(manifest["inputs"]), len(manifest["outputs"])
    input_bytes = [f"{upper}_INPUT{i}_BYTES" for i in range(inputs)]
    output_bytes = [f"{upper}_OUTPUT{i}_BYTES" for i in range(outputs)]
    chosen = f"{name}_set_isa(isa)" if len(manifest["isa"]) > 1 else "isa > 1"
    arguments = [f"inputs[{i}]" for i in range(inputs)] + [f"outputs[{i}]" for i in range(outputs)]
    return f"""\
#include "{manifest["header"]}"
#define INPUTS {inputs}
#define OUTPUTS {outputs}
#define INPUT_BYTES {{{", ".join(input_bytes)}}}
#define OUTPUT_BYTES {{{", ".join(output_bytes)}}}
#define SAMPLE_BYTES ((size_t)({" + ".join(input_bytes + output_bytes)}))
#define ARENA_BYTES {upper}_ARENA_BYTES
#define ARENA_ALIGN {upper}_ARENA_ALIGN
static int run_network(void *const *inputs, void *const *outputs, void *arena) {{
  return {name}_run({", ".join(arguments)}, arena);
}}
static int set_isa(int isa) {{ return {chosen}; }}
static void set_parallel_for(qcomp_parallel_for function, void *user) {{
  {name}_set_parallel_for(function, user);
}}
"""


def _record_bytes(manifest: dict[str, Any]) -> int:
    return sum(t["bytes"] for t in [*manifest["inputs"], *manifest["outputs"]])


def vector_bytes(
    inputs: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]], record: int
) -> bytes:
    """Sample by sample: all inputs, then all expected outputs."""
    arrays = [*inputs, *outputs]
    rows = [
        b"".join(np.ascontiguousarray(a[i]).tobytes() for a in arrays)
        for i in range(len(arrays[0]))
    ]
    if any(len(row) != record for row in rows):
        raise ValueError(f"a sample has {len(rows[0])} bytes; the manifest says {record}")
    return b"".join(rows)


def build_guard(build: Path, directory: Path, manifest: dict[str, Any]) -> tuple[Path, bool]:
    """The program, and whether it has the sanitizers (some systems lack their libraries)."""
    cc = compiler()
    if cc is None:
        raise FileNotFoundError("no C compiler (CC, cc, gcc, clang)")
    program = build / "guard"
    flags = [cc, *WARNINGS, "-std=c11", "-g", "-O1", "-pthread"]  # the pool has atomics
    flags += [f"-I{folder}" for folder in (build, directory, POOL)]
    sources = [HERE / "guard.c", POOL / "qcomp_pool.c", directory / manifest["static_library"]]
    command = [*flags, *sources, "-o", program]
    with_sanitizers = subprocess.run([*command, *SANITIZERS], capture_output=True, text=True)
    if with_sanitizers.returncode == 0:
        return program, True
    subprocess.run(command, check=True)
    return program, False


def _run(command: Sequence[str | Path], sanitized: bool) -> GuardResult:
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout.startswith("{"):
        return GuardResult(sanitized, fault=f"exit {done.returncode}\n{done.stderr[-4000:]}")
    return GuardResult(sanitized, **json.loads(done.stdout))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--isa", help="one of the library; the best by default")
    parser.add_argument("--threads", type=int, default=1, help="that share the work of each run")
    options = parser.parse_args()
    result = guard_check(options.directory, isa=options.isa, threads=options.threads)
    print(result)
    sys.exit(not result.clean)
