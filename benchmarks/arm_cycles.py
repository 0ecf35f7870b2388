"""Cycles of a run on ARM cores, by LLVM's models of these, without a board.

    python benchmarks/arm_cycles.py DIRECTORY ... [--core CORE ...] [--functions N]

Each directory is a network that was compiled for a target of AArch64. An emulator runs it with a
plugin (arm_blocks.c) that counts instructions and records windows of what each function executes;
llvm-mca prices the windows. Prints millions of cycles, of each network on each core that has its
instructions, and of the N functions that take most.

Needs qemu-user with plugins, llvm-mca 22 (models differ between versions), a C compiler and one for
AArch64. The models know no caches, no page tables and no other threads: compare two codes on one
core by the ratio, and ratios under 1.1 not at all; milliseconds do not follow from it.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LLVM = "22"
COMPILER = "aarch64-linux-gnu-gcc"
PLUGIN = Path(__file__).parent / "arm_blocks.c"
WINDOWS = (0.15, 0.35, 0.55, 0.75)  # of what a function executes
WINDOW = 3000  # instructions of each
BAD_CPU = 2  # what NAME_run returns on a processor without its instructions

# Its input is the inputs, one after the other.
MAIN = """
#include <stdio.h>
#include <stdlib.h>
int {name}_run({parameters});
int main(void) {{
  void *p[{count}];
  int sizes[] = {{{sizes}}};
  for (int i = 0; i < {count}; i++) {{
    p[i] = aligned_alloc(64, (sizes[i] + 63) / 64 * 64);
    if (i < {inputs} && fread(p[i], 1, sizes[i], stdin) != sizes[i]) return 255;
  }}
  return {name}_run({arguments});
}}
"""


@dataclass(frozen=True)
class Core:
    """LLVM's name for a model, and the emulator's for a processor that has the same instructions.

    `options` are where the model differs from the core's own guide.
    """

    model: str
    emulated: str
    options: tuple[str, ...] = ()


# LLVM prices Cortex-A76 and A78 as the A57: the Neoverse cores are theirs. V1 is the X1, and smmla.
CORES: Mapping[str, Core] = {
    "A72": Core("cortex-a72", "cortex-a72"),
    "A76": Core("neoverse-n1", "neoverse-n1", ("-dispatch=4",)),  # the model says three
    "A710": Core("neoverse-n2", "max"),
    "V1": Core("neoverse-v1", "max"),
}


@dataclass(frozen=True)
class Function:
    """What a function of the library executed: instructions, and samples of them as text."""

    name: str
    instructions: int
    window: tuple[str, ...]
    sampled: int


def run(*command: str | Path, given: Path | None = None) -> str:
    with open(given or os.devnull, "rb") as stdin:
        done = subprocess.run(command, check=True, capture_output=True, text=True, stdin=stdin)
    return done.stdout


@dataclass(frozen=True)
class Library:
    """A static library for AArch64: its prefix, the bytes of its tensors and its arena, a sample.

    The sample is the inputs' bytes: a library refuses indices beyond their tables.
    """

    path: Path
    name: str
    sizes: tuple[int, ...]
    sample: tuple[bytes, ...]

    @staticmethod
    def of(directory: Path) -> Library:
        """Of a compiled network."""
        (path,) = directory.glob("*.manifest.json")
        manifest = json.loads(path.read_text(encoding="utf-8"))
        tensors = [*manifest["inputs"], *manifest["outputs"]]
        sizes = (*(tensor["bytes"] for tensor in tensors), manifest["arena_bytes"])
        name = manifest["name"]
        with np.load(directory / f"{name}.vectors.npz") as vectors:
            rows = [vectors[f"input_{n}"][:1] for n in range(len(manifest["inputs"]))]
        sample = tuple(np.ascontiguousarray(row).tobytes() for row in rows)
        return Library(directory / manifest["static_library"], name, sizes, sample)


@functools.cache
def traced(library: Library, processor: str) -> tuple[Function, ...]:
    """The functions of a library that a run executes; none where the processor lacks what it has.

    The run happens twice: to count, and to record windows. Raises RuntimeError where it fails.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plugin, program = folder / "libarm_blocks.so", folder / "program"
        run("cc", "-O2", "-shared", "-fPIC", PLUGIN, "-o", plugin)
        (folder / "main.c").write_text(_main(library), encoding="utf-8")
        run(COMPILER, "-O2", "-static", folder / "main.c", library.path, "-o", program)
        sample = folder / "sample"
        sample.write_bytes(b"".join(library.sample))
        emulated = ("qemu-aarch64", "-cpu", processor)
        with sample.open("rb") as stdin:
            status = subprocess.run([*emulated, program], stdin=stdin).returncode
        if status == BAD_CPU:
            return ()
        if status:
            raise RuntimeError(f"{library.name}_run on {processor}: status {status}")
        places = _functions(program, library.name)

        def blocks(first: Sequence[Sequence[int]]) -> list[list[str]]:
            lines = (
                f"{begin:x} {end:x} {' '.join(map(str, windows))}\n"
                for (begin, end), windows in zip(places.values(), first, strict=True)
            )
            (folder / "functions").write_text("".join(lines), encoding="utf-8")
            plugged = f"{plugin},functions={folder}/functions,window={WINDOW},out={folder}/out"
            run(*emulated, "-plugin", plugged, program, given=sample)
            return [line.split() for line in (folder / "out").read_text("utf-8").splitlines()]

        counts = [(int(n), int(total)) for _, _, n, total in blocks([[]] * len(places))]
        firsts = [[int(n * part) for part in WINDOWS] for n, _ in counts]
        windows: list[list[tuple[int, int]]] = [[] for _ in places]
        for function, kind, address, length in blocks(firsts):
            if kind == "w":
                windows[int(function)].append((int(address, 16), int(length)))
        text = _instructions(program)
    found: list[Function] = []
    for symbol, (_, total), window in zip(places, counts, windows, strict=True):
        raw = [text[a + 4 * i] for a, length in window for i in range(length)]
        if total:
            found.append(Function(symbol, total, tuple(_straight(raw)), len(raw)))
    return tuple(found)


def _main(library: Library) -> str:
    count = len(library.sizes)
    return MAIN.format(
        name=library.name,
        count=count,
        inputs=len(library.sample),
        sizes=", ".join(map(str, library.sizes)),
        parameters=", ".join(["void *"] * count),
        arguments=", ".join(f"p[{i}]" for i in range(count)),
    )


def _functions(program: Path, name: str) -> dict[str, tuple[int, int]]:
    """Where the functions of the library begin and end."""
    found = {}
    for line in run("aarch64-linux-gnu-nm", "-S", program).splitlines():
        words = line.split()
        if len(words) == 4 and words[2] in "tT" and words[3].startswith(f"{name}_"):
            begin, size = (int(word, 16) for word in words[:2])
            found[words[3]] = begin, begin + size
    return found


def _instructions(program: Path) -> dict[int, str]:
    """The program's instructions by address."""
    options = ("-d", "--no-show-raw-insn", "--mattr=+all", "--no-print-imm-hex")
    listing = run(f"llvm-objdump-{LLVM}", *options, program)
    return {int(a, 16): text for a, text in re.findall(r"^\s*(\w+):\s+(\S.*)$", listing, re.M)}


def _straight(instructions: Sequence[str]) -> Iterator[str]:
    """What was executed, without calls and addresses, which a straight line does not have."""
    for instruction in instructions:
        text = re.sub(r"\s*<[^>]*>|//.*$", "", instruction).strip()
        word = text.split()[0]
        if word.startswith("b."):
            yield "b.ne 64"
        elif word in ("cbz", "cbnz"):
            yield f"{word} {text.split()[1]} 64"
        elif word not in ("b", "bl", "br", "blr", "ret", "tbz", "tbnz", "adr", "adrp", "udf"):
            yield text


@functools.lru_cache(4096)
def priced(window: tuple[str, ...], core: Core) -> int:
    """Cycles of a straight line of instructions."""
    command = [
        f"llvm-mca-{LLVM}",
        "-mtriple=aarch64-linux-gnu",
        f"-mcpu={core.model}",
        "-mattr=+dotprod,+i8mm,+fullfp16",
        "-iterations=1",
        "-instruction-info=0",
        "-resource-pressure=0",
        *core.options,
    ]
    text = "\n".join(window)
    done = subprocess.run(command, input=text, check=True, capture_output=True, text=True)
    (cycles,) = re.findall(r"Total Cycles:\s+(\d+)", done.stdout)
    return int(cycles)


def cycles(library: Library, core: Core) -> dict[str, float]:
    """Of each function that a run executes, by its name."""
    functions = traced(library, core.emulated)
    with ThreadPoolExecutor() as pool:
        prices = list(pool.map(lambda f: priced(f.window, core), functions))
    return {
        f.name: price * f.instructions / f.sampled
        for f, price in zip(functions, prices, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directories", nargs="+", type=Path)
    parser.add_argument("--core", nargs="+", choices=CORES, default=list(CORES))
    parser.add_argument("--functions", type=int, default=0)
    options = parser.parse_args()
    print(f"| | {' | '.join(options.core)} |")
    print(f"|---|{'---|' * len(options.core)}")
    for directory in options.directories:
        library = Library.of(directory)
        found = [cycles(library, CORES[core]) for core in options.core]
        print(_row(str(directory), [sum(of_core.values()) for of_core in found]))
        names = {name for of_core in found for name in of_core}
        largest = sorted(names, key=lambda name: -max(each.get(name, 0) for each in found))
        for name in largest[: options.functions]:
            print(_row(name, [of_core.get(name, 0.0) for of_core in found]))


def _row(name: str, numbers: Sequence[float]) -> str:
    """Millions; none where nothing ran."""
    return f"| {name} | {' | '.join(f'{n / 1e6:.2f}' if n else '' for n in numbers)} |"


if __name__ == "__main__":
    main()
