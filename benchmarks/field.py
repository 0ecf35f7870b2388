"""Networks from public reports: what qcomp makes of each, beside what is right.

    python benchmarks/field.py DIRECTORY [--only TEXT ...] [--recipe R]

DIRECTORY has a folder for each case (a model, cal.npy or .npz, test.npy or .npz, expect.md with a
line `Right: ...`), and folders of models with NAME.onnx and NAME_cal.npz, of which the second half
is the test data and README.md has a row for each. Prints a row for each case: dB of the worst part
of the outputs on the test data against the float network, the kinds of the findings, what is right.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import qcomp
from qcomp.accuracy.measure import noise_of
from qcomp.accuracy.parts import Answers

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A model, its calibration and test data by input name, and what is right."""

    name: str
    model: Path
    calibration: Arrays
    test: Arrays
    right: str


@dataclass(frozen=True)
class Row:
    """What became of a case."""

    case: Case
    seconds: float
    result: str
    findings: tuple[str, ...] = ()

    def __str__(self) -> str:
        cells = (
            self.case.name,
            f"{self.seconds:.1f}",
            self.result,
            ", ".join(self.findings) or "none",
            self.case.right,
        )
        return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
HEADER = "| case | seconds | worst part on test data | findings | right |\n|---|---|---|---|---|"


def cases(directory: Path) -> Iterator[Case]:
    """Those of the folders in a directory, by name."""
    for folder in sorted(path for path in directory.iterdir() if path.is_dir()):
        models = sorted(folder.glob("*.onnx"))
        if (folder / "expect.md").exists() and len(models) == 1:
            names = input_names(models[0])
            data = [read(folder, stem, names) for stem in ("cal", "test")]
            yield Case(folder.name, models[0], *data, right_of(folder / "expect.md"))
        for model in models:
            file = folder / f"{model.stem}_cal.npz"
            if file.exists():
                yield _halved(model, dict(np.load(file)))


def _halved(model: Path, data: Arrays) -> Case:
    half = len(next(iter(data.values()))) // 2
    calibration = {name: array[:half] for name, array in data.items()}
    test = {name: array[half:] for name, array in data.items()}
    row = rf"^\| {re.escape(model.name)}.*\| ([^|]+) \|$"
    found = re.search(row, (model.parent / "README.md").read_text("utf-8"), re.MULTILINE)
    name = f"{model.parent.name}/{model.stem}"
    return Case(name, model, calibration, test, found[1] if found else "")


def input_names(model: Path) -> list[str]:
    """The inputs of a model, which onnxruntime need not take."""
    graph = onnx.load(model, load_external_data=False).graph
    given = {constant.name for constant in graph.initializer}
    return [value.name for value in graph.input if value.name not in given]


def session_of(model: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])


def read(folder: Path, stem: str, names: list[str]) -> Arrays:
    """The arrays of an .npz, or an .npy for the first input."""
    packed = folder / f"{stem}.npz"
    if packed.exists():
        return dict(np.load(packed))
    return {names[0]: np.load(folder / f"{stem}.npy")} if names else {}


def right_of(page: Path) -> str:
    found = re.search(r"^Right: (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return found[1] if found else ""


def examined(case: Case, recipe: str) -> Row:
    """Compile a case and compare it on its test data."""
    began = time.perf_counter()
    try:
        net = qcomp.compile(case.model, calibration=case.calibration, recipe=recipe)
    except qcomp.CompileError as error:
        first = str(error).splitlines()[0]
        return Row(case, time.perf_counter() - began, f"refused: {first[:120]}")
    seconds = time.perf_counter() - began
    kinds = tuple(dict.fromkeys(str(finding.kind) for finding in net.findings))
    return Row(case, seconds, compared(case, net), kinds)


def compared(case: Case, net: qcomp.CompiledNetwork) -> str:
    """The worst part in dB, or how many indices are the same."""
    session = session_of(case.model)
    names = [output.name for output in session.get_outputs()]
    wanted, got = [], []
    for feed in feeds(session, case.test):
        wanted.append(dict(zip(names, session.run(None, dict(feed)), strict=True)))
        got.append(net(feed))
    if net.accuracy is None:
        return same(wanted, got)
    ratios = {p.part: noise_of(p.part, wanted, got).db for p in net.accuracy.parts}
    worst = min(ratios, key=lambda part: ratios[part])
    return f"{worst}: {ratios[worst]:.1f} dB"


def same(wanted: list[Answers], got: list[Answers]) -> str:
    """How many of the values are equal."""
    equal = [np.ravel(w[name] == g[name]) for w, g in zip(wanted, got, strict=True) for name in w]
    return f"{100 * np.concatenate(equal).mean():.1f} % equal"


def feeds(session: onnxruntime.InferenceSession, test: Arrays) -> Iterator[Arrays]:
    """A run after the other; a batch without a size is 1."""
    inputs = session.get_inputs()
    batches = {i.name: i.shape[0] if isinstance(i.shape[0], int) else 1 for i in inputs}
    types = {i.name: DTYPES.get(i.type, test[i.name].dtype) for i in inputs}
    for k in range(min(len(test[name]) // batch for name, batch in batches.items())):
        yield {n: test[n][k * b : (k + 1) * b].astype(types[n]) for n, b in batches.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="Parts of the names of cases.")
    parser.add_argument("--recipe", default="auto")
    options = parser.parse_args()
    print(HEADER, flush=True)
    for case in cases(options.directory):
        if not options.only or any(text in case.name for text in options.only):
            print(examined(case, options.recipe), flush=True)


if __name__ == "__main__":
    main()
