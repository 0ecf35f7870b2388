"""`compile` takes generated code from a directory, the command line too, unless told not to."""

from __future__ import annotations

from pathlib import Path

import pytest

import qcomp
from qcomp.cli import main
from qcomp.files import user_cache
from qcomp.targets.cpu.library import kept

CHOICES = {"target": "sse4.1", "recipe": "data-free", "name": "digits"}


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `compile` keeps code in this test, empty."""
    monkeypatch.setenv("QCOMP_CACHE", str(tmp_path / "caches"))
    return tmp_path / "caches" / "objects"


def code(model: Path, **choices: object) -> bytes:
    files = qcomp.compile(model, **{**CHOICES, **choices}).artifact.files
    return files["digits.o"]


def test_the_second_compilation_generates_no_code(
    caches: Path, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = examples / "digits.onnx"
    first = code(model)
    (file,) = caches.iterdir()
    with monkeypatch.context() as patch:
        patch.delattr(kept, "object_code")
        assert code(model) == first
    file.write_bytes(b"nonsense")
    assert code(model) == first == code(model, object_cache=None)


def test_another_directory_can_be_named(caches: Path, examples: Path, tmp_path: Path) -> None:
    code(examples / "digits.onnx", object_cache=tmp_path / "own")
    assert len(list((tmp_path / "own").iterdir())) == 1
    assert not caches.exists()


@pytest.mark.parametrize(("options", "files"), [((), 1), (("--no-object-cache",), 0)])
def test_the_command_line_keeps_code_unless_told_not_to(
    options: tuple[str, ...], files: int, caches: Path, examples: Path, tmp_path: Path
) -> None:
    command = ["compile", str(examples / "digits.onnx"), "-o", str(tmp_path / "out")]
    choices = ["--recipe", "data-free", "--target", "sse4.1", *options]
    with pytest.raises(SystemExit) as exit:
        main([*command, *choices])
    assert not exit.value.code
    assert len(list(caches.glob("*.o"))) == files


def test_the_directory_is_the_first_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("QCOMP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert user_cache("objects") == Path("/home/me/.cache/qcomp/objects")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert user_cache("objects") == Path("/caches/qcomp/objects")
    monkeypatch.setenv("QCOMP_CACHE", "")
    assert user_cache("objects") == Path("/caches/qcomp/objects")
    monkeypatch.setenv("QCOMP_CACHE", "/ours")
    assert user_cache("objects") == Path("/ours/objects")


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QCOMP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert user_cache("objects") is None
