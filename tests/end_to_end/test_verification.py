"""`verify_directory` finds a library that is not its specification, and says where first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from manifests import rehash

import qcomp
from qcomp.runtime.benchmark import bench_directory
from qcomp.runtime.verification import Difference, difference, verify_directory
from qcomp.targets.identity import MARK, RECORD_BYTES


@pytest.fixture
def copied(digits: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits, tmp_path / "digits"))


def test_the_digits_library_equals_its_specification(digits: Path) -> None:
    counted: list[None] = []
    report = verify_directory(digits, samples=5, progress=lambda: counted.append(None))
    assert report.exact
    assert report.first_difference is None
    assert len(counted) == report.samples
    with np.load(digits / "digits.vectors.npz") as vectors:
        stored = len(vectors["input_0"])
    assert report.samples == stored + 4 + 5
    assert report.compared_values == 10 * (2 * stored + 4 + 5)


def exchanged(directory: Path, other: Path, changed: Callable[[bytes], bytes]) -> Path:
    for library in ("libdigits.so", "libdigits.a"):
        (directory / library).write_bytes(changed((other / library).read_bytes()))
    return directory


def test_the_library_of_another_network_is_found_out(
    copied: Path, examples: Path, tmp_path: Path
) -> None:
    right = (copied / "libdigits.a").read_bytes()
    with np.load(examples / "digits_calibration.npz") as data:
        halved = {"image": data["image"] / 2}
    net = qcomp.compile(examples / "digits.onnx", calibration=halved, recipe="fast")
    other = net.save(tmp_path / "other")
    with pytest.raises(qcomp.ModelError, match=r"of another build: .*model"):
        qcomp.load(rehash(exchanged(copied, other, lambda content: content)))

    def lying(content: bytes) -> bytes:
        """It says that it is the one that was there."""
        mine, its = (of.index(MARK) for of in (right, content))
        return content.replace(content[its:][:RECORD_BYTES], right[mine:][:RECORD_BYTES])

    rehash(exchanged(copied, other, lying))
    report = verify_directory(copied, samples=2)
    assert not report.exact
    assert 0 < report.differing_values <= report.compared_values
    assert report.differing_bits >= report.differing_values
    assert report.first_difference is not None
    assert report.first_difference.startswith("stored vector 0")


def test_one_wrong_bit_in_the_stored_vectors_is_found(copied: Path) -> None:
    path = copied / "digits.vectors.npz"
    with np.load(path) as vectors:
        arrays = {name: vectors[name].copy() for name in vectors.files}
    arrays["output_0"][1, 0, 3] ^= 1
    np.savez(path, **arrays)
    rehash(copied)
    report = verify_directory(copied, samples=0)
    assert (report.differing_values, report.differing_bits) == (1, 1)
    assert report.first_difference == (f"stored vector 1, {report.isas[0]}: 1 of 20 values differ")


def test_vectors_of_another_network_are_refused(copied: Path) -> None:
    np.savez(copied / "digits.vectors.npz", input_0=np.zeros((1, 1, 1, 8, 8), np.int8))
    rehash(copied)
    with pytest.raises(qcomp.ModelError, match="does not hold vectors of digits"):
        verify_directory(copied)


def test_differences_are_counted_in_values_and_bits() -> None:
    a = np.array([[0, -1], [5, 7]], np.int8)
    b = np.array([[0, 0], [5, 6]], np.int8)
    assert difference(a, b) == Difference(values=4, differing_values=2, differing_bits=9)
    assert difference(a, a) == Difference(values=4)
    with pytest.raises(ValueError, match="expected int32"):
        difference(a, b.astype(np.int32))


@pytest.mark.parametrize("callers", [1, 3])
def test_the_benchmark_counts_every_run(digits: Path, callers: int) -> None:
    report = bench_directory(digits, seconds=0.05, callers=callers)
    assert 0 < report.p10_us <= report.median_us <= report.p90_us
    assert report.runs >= 20 * callers
    assert (report.callers, report.threads) == (callers, 1)
    assert report.runs_per_second > 0


def test_calls_from_four_threads_give_the_same_bits(digits: Path) -> None:
    net = qcomp.load(digits)
    random = np.random.default_rng(3)
    q = random.integers(-128, 128, (64, 1, 8, 8), np.int8)
    expected = net.specification_integer(q)
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(net.run_integer, [q] * 16):
            np.testing.assert_array_equal(answer, expected)
