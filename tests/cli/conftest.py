"""Running the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from qcomp.cli import main


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture(scope="session")
def calibration(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few of the digits' samples, where their number is not the question."""
    path = tmp_path_factory.mktemp("calibration") / "digits_calibration.npz"
    with np.load(examples / "digits_calibration.npz") as data:
        np.savez(path, image=data["image"][:8])
    return path


@pytest.fixture
def qcomp_command(capsys: pytest.CaptureFixture[str]) -> Command:
    """`qcomp_command("verify", path)` is `qcomp verify PATH`."""

    def command(*args: str | Path) -> Outcome:
        with pytest.raises(SystemExit) as exit:
            main([str(a) for a in args])
        captured = capsys.readouterr()
        status = exit.value.code
        return Outcome(status if isinstance(status, int) else 0, captured.out, captured.err)

    return command
