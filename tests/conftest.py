"""Fixtures and options that all tests share."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from emulated import COUNTED
from folder_times import FolderTimes
from hypothesis import HealthCheck, settings
from made_once import made_once, shared_root

import qcomp

# The same examples on each run, and no test fails because a machine is slow.
settings.register_profile(
    "qcomp", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("qcomp")
FAST_SHARE, SLOW_SHARE = 1 / 12, 1.0  # of the examples of a sweep
COMPILE, FEW = ("tests/targets", "tests/end_to_end", "tests/c"), 2  # parameters of a test there

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tvm", default="", help="operators' graphs on a target of TVM instead")
    parser.addoption(
        "--fuzz", default=10, type=float, help="seconds of each slow test of changed files"
    )
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files anew; review the diff"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(FolderTimes(), "folder-times")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --slow, sweeps are short, parameters few and slow tests left out (and counted so)."""
    is_slow = bool(config.getoption("--slow"))
    set_examples_of_sweeps(items, SLOW_SHARE if is_slow else FAST_SHARE)
    if is_slow:
        return
    left = {item for item in items if item.get_closest_marker("slow") is not None}
    left |= beyond_a_few(items)
    if left:
        config.hook.pytest_deselected(items=[item for item in items if item in left])
        items[:] = [item for item in items if item not in left]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What ran in emulators."""
    for name, counts in config.stash.get(COUNTED, {}).items():
        terminalreporter.write_line(f"{name}: {counts}")


def set_examples_of_sweeps(items: Sequence[pytest.Item], share: float) -> None:
    """Give each test marked `sweep(n)` a share of its n examples."""
    sweeps = {
        item.function: marker.args[0]
        for item in items
        if isinstance(item, pytest.Function) and (marker := item.get_closest_marker("sweep"))
    }
    for function, examples in sweeps.items():  # in place; a function must be set once only
        settings(max_examples=math.ceil(share * examples))(function)


def beyond_a_few(items: Sequence[pytest.Item]) -> set[pytest.Item]:
    """What is left out of the parameters of tests that compile, or are marked `few(n)`.

    What is kept has as many values of each parameter as there can be; the same on each run, by a
    hash of names.
    """
    grids: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            grids.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left: set[pytest.Item] = set()
    for grid in grids.values():
        left |= set(grid) - set(_cover(grid, _few(grid[0])))
    return left


def _few(item: pytest.Function) -> int:
    marker = item.get_closest_marker("few")
    if marker is not None:
        return int(marker.args[0])
    folder = item.path.relative_to(ROOT).parts[:2]
    return FEW if "/".join(folder) in COMPILE else sys.maxsize


def _cover(grid: Sequence[pytest.Function], most: int) -> Sequence[pytest.Function]:
    """`most` items, each with as many new values as any that is left has."""
    if len(grid) <= most:
        return grid
    rest = sorted(grid, key=lambda item: zlib.crc32(item.nodeid.encode()))
    seen: set[tuple[str, int]] = set()
    for _ in range(most):
        best = max(rest, key=lambda item: len(item.callspec.indices.items() - seen))
        seen |= best.callspec.indices.items()
        rest.remove(best)
    return [item for item in grid if item not in rest]


@dataclass(frozen=True)
class Golden:
    """Compares texts with the file that belongs to the test."""

    path: Path
    update: bool

    def __call__(self, *texts: str) -> None:
        text = "\n----\n".join(t.rstrip("\n") for t in texts) + "\n"
        if self.update:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(text, encoding="utf-8")
        elif not self.path.exists():
            pytest.fail(f"{self.path} does not exist; run pytest --update-golden and review it")
        assert text == self.path.read_text(encoding="utf-8")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept from one compilation to the next, also of processes that tests start.

    In the directory that QCOMP_CACHE names, or in that of the run.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not os.environ.get("QCOMP_CACHE"):
            patch.setenv("QCOMP_CACHE", str(shared_root(tmp_path_factory) / "cache"))
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden(text, ...)`: the texts equal tests/golden/MODULE/TEST.txt."""
    module = request.path.stem.removeprefix("test_")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.node.name.removeprefix("test_")).strip("-")
    path = ROOT / "tests" / "golden" / module / f"{name}.txt"
    return Golden(path, update=bool(request.config.getoption("--update-golden")))


@pytest.fixture(scope="session")
def zoo() -> Path:
    """The directory of real networks and data; skips where it is absent."""
    path = Path(os.environ.get("QCOMP_ZOO", ROOT / ".." / "shared" / "zoo"))
    if not (path / "zoo.py").is_file():
        pytest.skip(f"no zoo at {path}; set QCOMP_ZOO")
    return path.resolve()


@pytest.fixture(scope="session")
def examples() -> Path:
    """The examples directory, with the committed digits network and its data."""
    return ROOT / "examples"


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    """The directory of the digits network, compiled once for this machine; read-only by custom."""

    def make(path: Path) -> None:
        data = examples / "digits_calibration.npz"
        qcomp.compile(examples / "digits.onnx", calibration=data, name="digits").save(path)

    return made_once(tmp_path_factory, "digits", make)


@pytest.fixture(scope="session")
def cc() -> str:
    """A C compiler; skips where there is none."""
    candidates: Sequence[str] = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    for candidate in candidates:
        if candidate and (found := shutil.which(candidate)):
            return found
    pytest.skip("no C compiler (CC, cc, gcc, clang)")
