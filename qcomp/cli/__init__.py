"""The command line: `qcomp inspect | compile | evaluate | verify | bench | run | ...`."""

from __future__ import annotations

from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; always raises SystemExit, also where it is interrupted."""
    from qcomp.cli import interruptions

    with interruptions.at_once():  # nothing is there yet to be cleaned up
        from qcomp.cli.app import run
    try:
        with interruptions.never_lost():
            run(args)
    except KeyboardInterrupt:
        interruptions.ignored()  # what still ends need not be told twice
        raise SystemExit(interruptions.INTERRUPTED) from None


__all__ = ["main"]
