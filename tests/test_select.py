"""`.ci/select` leaves out no test that a change can affect."""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
Affected = Callable[[list[str]], list[str]]


@pytest.fixture(scope="module")
def affected() -> Affected:
    loader = SourceFileLoader("select_tests", str(ROOT / ".ci" / "select"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    found: Affected = module.affected
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "some", "none"),
    [
        ("passes/fold_batch_norm.py", {"passes", "end_to_end", "cli", "c"}, {"ir", "quant"}),
        ("targets/cpu/emit/pooling.py", {"targets", "end_to_end", "cli"}, {"passes", "quant"}),
        ("qcomp/ir/graph.py", {"ir", "passes", "targets", "exporters", "end_to_end"}, set()),
        ("tests/passes/lowered_graphs.py", {"passes"}, {"targets", "quant"}),
        ("tests/targets/conftest.py", {"targets"}, {"passes"}),
        ("examples/digits.onnx", {"c", "cli", "end_to_end"}, {"frontends"}),
    ],
)
def test_a_change_affects_what_imports_it(
    affected: Affected, changed: str, some: set[str], none: set[str]
) -> None:
    folders = {Path(path).parts[1] for path in affected([changed])}
    assert folders >= some
    assert folders.isdisjoint(none)


def test_pages_affect_the_tests_that_read_them(affected: Affected) -> None:
    assert "tests/test_docs.py" in affected(["docs/cli.md"])
    assert "tests/test_readme.py" in affected(["README.md"])
    assert "tests/targets/test_cpu_pooling.py" not in affected(["docs/cli.md", "README.md"])


@pytest.mark.parametrize("path", ["pyproject.toml", "tests/conftest.py", ".ci/select"])
def test_what_all_tests_share_affects_all(affected: Affected, path: str) -> None:
    assert affected([path, "qcomp/cli/run.py"]) == ["tests"]


def test_only_the_fixture_known_to_compile_uses_the_product() -> None:
    """The shared conftest is no dependency of every test: `digits` alone stands for it."""
    text = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    assert text.count("qcomp.compile(") == 1
    assert "from qcomp" not in text
