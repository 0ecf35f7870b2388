"""The command line in this process, as the tests of the commands have it."""

from __future__ import annotations

from tests.cli.conftest import calibration, qcomp_command

__all__ = ["calibration", "qcomp_command"]
