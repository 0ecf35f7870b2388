"""Fixtures and options that all tests share."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import qcomp

# The same examples on each run, and no test fails because a machine is slow.
settings.register_profile(
    "qcomp", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("qcomp")

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files anew; review the diff"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests are left out, and counted as such, unless --slow is given."""
    if config.getoption("--slow"):
        return
    slow = [item for item in items if item.get_closest_marker("slow") is not None]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


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
    net = qcomp.compile(
        examples / "digits.onnx", calibration=examples / "digits_calibration.npz", name="digits"
    )
    return net.save(tmp_path_factory.mktemp("compiled") / "digits")


@pytest.fixture(scope="session")
def cc() -> str:
    """A C compiler; skips where there is none."""
    candidates: Sequence[str] = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    for candidate in candidates:
        if candidate and (found := shutil.which(candidate)):
            return found
    pytest.skip("no C compiler (CC, cc, gcc, clang)")
