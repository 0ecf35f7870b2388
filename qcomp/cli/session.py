"""How much a run of the command line tells: progress, warnings, and the log of the package."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import typer

FLAGS = ("-q", "--quiet", "-v", "-vv", "--verbose", "--no-progress", "--version")
WITH_VALUE = "--config"
_YELLOW, _PLAIN = "\x1b[33m", "\x1b[0m"


@dataclass(frozen=True)
class Session:
    """What was asked for; kept by the context of the command."""

    quiet: bool = False
    verbose: int = 0
    hides_progress: bool = False

    @staticmethod
    def of(context: typer.Context) -> Session:
        """That of the command that runs."""
        found = context.find_root().obj
        return found if isinstance(found, Session) else Session()

    @property
    def progress(self) -> bool:
        """Whether bars are shown."""
        return not (self.quiet or self.hides_progress)

    def begin(self, context: typer.Context) -> None:
        """Hand the log of the package to standard error until the command ends."""
        context.obj = self
        logger, handler = logging.getLogger("qcomp"), _handler()
        level, propagates = logger.level, logger.propagate
        logger.addHandler(handler)
        logger.setLevel(self._level())
        logger.propagate = False

        def end() -> None:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagates

        context.call_on_close(end)

    def _level(self) -> int:
        if self.quiet:
            return logging.ERROR
        return (logging.WARNING, logging.INFO, logging.DEBUG)[min(self.verbose, 2)]


class _Lines(logging.Formatter):
    """`qcomp: warning: ...`, in colour on a terminal."""

    def __init__(self, *, coloured: bool) -> None:
        super().__init__()
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        if record.levelno < logging.WARNING:
            return f"qcomp: {record.getMessage()}"
        text = f"qcomp: {record.levelname.lower()}: {record.getMessage()}"
        return f"{_YELLOW}{text}{_PLAIN}" if self._coloured else text


def _handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    is_coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    handler.setFormatter(_Lines(coloured=is_coloured))
    return handler


def hoisted(args: Sequence[str]) -> list[str]:
    """The arguments with the options of every command in front, wherever they stood."""
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(args)
    for arg in waiting:
        if arg == "--":
            rest += [arg, *waiting]
        elif arg in FLAGS or arg.startswith(f"{WITH_VALUE}="):
            front.append(arg)
        elif arg == WITH_VALUE:
            front += [arg, *_next(waiting)]
        else:
            rest.append(arg)
    return [*front, *rest]


def _next(arguments: Iterator[str]) -> list[str]:
    return [value for value in [next(arguments, None)] if value is not None]
