"""The command line: `qcomp inspect | compile | evaluate | verify | bench | run | ...`."""

from __future__ import annotations

from collections.abc import Sequence

INTERRUPTED = 130


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; always raises SystemExit, also where it is interrupted while it starts."""
    try:
        from qcomp.cli.app import run

        run(args)
    except KeyboardInterrupt:
        import signal

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what still ends need not be told twice
        raise SystemExit(INTERRUPTED) from None


__all__ = ["main"]
