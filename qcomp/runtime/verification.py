"""Compare a saved library with the integer specification that is saved beside it.

Three kinds of vectors: the stored ones (whose answers are compared too), edge vectors, in which
every value is an extreme of its type or the zero point, and random ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.errors import ModelError, TargetError
from qcomp.runtime.check_program import Vector, check_program
from qcomp.runtime.interface import TensorInfo
from qcomp.runtime.load import load
from qcomp.runtime.network import CompiledNetwork
from qcomp.runtime.npz import read_arrays
from qcomp.runtime.vectors import edge_inputs, random_inputs

Arrays = Mapping[str, NDArray[Any]]
Progress = Callable[[], None]

_EDGES = ("low", "high", "zero", "alternating")
_SEED = 20


@dataclass(frozen=True)
class Difference:
    """How far answers are from the expected ones."""

    values: int = 0
    differing_values: int = 0
    differing_bits: int = 0

    def __add__(self, other: Difference) -> Difference:
        return Difference(
            self.values + other.values,
            self.differing_values + other.differing_values,
            self.differing_bits + other.differing_bits,
        )


@dataclass(frozen=True)
class VerificationReport:
    """Counts over all vectors; the library is right when no bit differs."""

    samples: int
    isas: tuple[str, ...]  # of the library, those that ran
    compared_values: int
    differing_values: int
    differing_bits: int
    first_difference: str | None
    tools: str | None = None  # that built and ran a program for another machine; None: this one

    @property
    def exact(self) -> bool:
        return self.differing_bits == 0

    def __add__(self, other: VerificationReport) -> VerificationReport:
        """Of both, which are plans of one library."""
        return VerificationReport(
            self.samples + other.samples,
            self.isas,
            self.compared_values + other.compared_values,
            self.differing_values + other.differing_values,
            self.differing_bits + other.differing_bits,
            self.first_difference or other.first_difference,
            self.tools,
        )


@dataclass(frozen=True)
class Case:
    """One input vector, and its stored outputs if there are any."""

    kind: str
    inputs: Arrays
    stored: Arrays | None = None


def difference(ours: NDArray[Any], expected: NDArray[Any]) -> Difference:
    """Compare two arrays of one shape and type bit for bit; ValueError where these differ."""
    if ours.shape != expected.shape or ours.dtype != expected.dtype:
        raise ValueError(
            f"expected {expected.dtype}{list(expected.shape)}, got {ours.dtype}{list(ours.shape)}"
        )
    a, b = np.ascontiguousarray(ours).reshape(-1), np.ascontiguousarray(expected).reshape(-1)
    bits = np.unpackbits(a.view(np.uint8) ^ b.view(np.uint8))
    return Difference(a.size, int(np.count_nonzero(a != b)), int(np.count_nonzero(bits)))


def verify_directory(
    directory: str | os.PathLike[str], samples: int = 32, progress: Progress | None = None
) -> VerificationReport:
    """Run the library of `directory` against its specification, on `samples` random vectors too.

    Each instruction set of the library that this machine has computes every vector. A library for
    another kind of machine runs on an emulator; TargetError where there is none.
    """
    directory = Path(directory)
    net = load(directory)
    reports = []
    for plan in net.plans:
        cases = all_cases(plan, directory, samples)
        if plan.lacking is not None:
            reports.append(verify_emulated(plan, cases, progress))
        else:
            reports.append(_verified(plan, cases, progress))
    return sum(reports[1:], reports[0])


def _verified(
    net: CompiledNetwork, cases: Sequence[Case], progress: Progress | None
) -> VerificationReport:
    """Of one plan, in this process."""
    isas = net.runnable_isas()
    total, first = Difference(), None
    for case in cases:
        expected: Arrays = net.specification_integer(case.inputs)
        for isa in isas:
            net.use_isa(isa)
            found = _compare(net, case, expected)
            if found.differing_bits and first is None:
                values = f"{found.differing_values} of {found.values} values differ"
                first = f"{case.kind}, {isa}: {values}"
            total = total + found
        if progress is not None:
            progress()
    net.use_isa(None)
    return VerificationReport(
        len(cases), isas, total.values, total.differing_values, total.differing_bits, first
    )


def _compare(net: CompiledNetwork, case: Case, expected: Arrays) -> Difference:
    ours: Arrays = net.run_integer(case.inputs)
    total = Difference()
    for answer in (expected, case.stored):
        if answer is not None:
            total = sum((difference(ours[n], a) for n, a in answer.items()), total)
    return total


_RAN = re.compile(
    r"^(.+): (\d+) vectors, (\d+) values, (\d+) differing values, (\d+) differing bits, ",
    re.MULTILINE,
)


def verify_emulated(
    net: CompiledNetwork, cases: Sequence[Case], progress: Progress | None = None
) -> VerificationReport:
    """The same by a C program that an emulator of the library's machine runs."""
    run = net.runtime.emulator(net.artifact)
    program, total = _program(net, cases, progress)
    ran = run(program)
    found = [(isa, *map(int, numbers)) for isa, *numbers in _RAN.findall(ran.output)]
    if not found:
        raise TargetError(f"{net.name} does not run by {ran.tools}: {ran.output.strip()}")
    for _, _, values, differing, bits in found:
        total = total + Difference(values, differing, bits)
    first = re.search(r"^first difference: (.*)$", ran.output, re.MULTILINE)
    return VerificationReport(
        len(cases),
        tuple(isa for isa, *_ in found),
        total.values,
        total.differing_values,
        total.differing_bits,
        None if first is None else first[1],
        ran.tools,
    )


def check_program_of(directory: Path, samples: int, progress: Progress | None = None) -> str:
    """A C program that checks the library of `directory` where it is built and run."""
    net = load(directory)
    return _program(net, all_cases(net, directory, samples), progress)[0]


def _program(
    net: CompiledNetwork, cases: Sequence[Case], progress: Progress | None
) -> tuple[str, Difference]:
    """With the stored answers where there are any; how far these are from the specification's."""
    vectors, total = [], Difference()
    for case in cases:
        expected: Arrays = net.specification_integer(case.inputs)
        if case.stored is not None:
            total = sum((difference(case.stored[n], a) for n, a in expected.items()), total)
        answers = expected if case.stored is None else case.stored
        vectors.append(Vector(case.kind, case.inputs, answers))
        if progress is not None:
            progress()
    return check_program(net, vectors), total


def all_cases(net: CompiledNetwork, directory: Path, samples: int) -> list[Case]:
    return [*stored_cases(net, directory), *edge_cases(net), *random_cases(net, samples)]


def stored_cases(net: CompiledNetwork, directory: Path) -> list[Case]:
    """The vectors that were saved with the library; ModelError where they do not belong to it."""
    path = directory / f"{net.artifact.stem}.vectors.npz"
    try:
        arrays = read_arrays(path)
        inputs = [arrays[f"input_{k}"] for k in range(len(net.inputs))]
        outputs = [arrays[f"output_{k}"] for k in range(len(net.outputs))]
        return [
            Case(f"stored vector {i}", _named(net.inputs, row), _named(net.outputs, answer))
            for i, (row, answer) in enumerate(
                zip(zip(*inputs, strict=True), zip(*outputs, strict=True), strict=True)
            )
        ]
    except (KeyError, OSError, ValueError) as error:
        raise ModelError(f"{path} does not hold vectors of {net.name}: {error}") from error


def _named(infos: tuple[TensorInfo, ...], arrays: tuple[NDArray[Any], ...]) -> Arrays:
    return {info.name: array for info, array in zip(infos, arrays, strict=True)}


def edge_cases(net: CompiledNetwork) -> list[Case]:
    """Every input at its lowest, its highest, its zero point, and alternating between extremes."""
    return [
        Case(f"edge vector {kind}", {i.name: edge_inputs(i, kind) for i in net.inputs})
        for kind in _EDGES
    ]


def random_cases(net: CompiledNetwork, count: int) -> Iterator[Case]:
    """Uniform values and, each second time, extremes only; the same on each run."""
    random = np.random.default_rng(_SEED)
    for i in range(count):
        draw = random_inputs if i % 2 == 0 else _extremes
        yield Case(f"random vector {i}", {info.name: draw(info, random) for info in net.inputs})


def _extremes(info: TensorInfo, random: np.random.Generator) -> NDArray[np.integer]:
    low, high = info.limits
    return info.within(np.where(random.random(info.shape) < 0.5, low, high).astype(info.dtype))
