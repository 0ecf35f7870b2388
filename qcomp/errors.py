"""Errors that a user can meet. Each message says what, where, and what would be accepted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def did_you_mean(given: object, accepted: Iterable[object]) -> str:
    """`; did you mean 'x86-64'?` for what is nearly one of the accepted texts, else nothing."""
    import difflib

    texts = [text for text in accepted if isinstance(text, str)]
    near = difflib.get_close_matches(str(given).lower(), texts, 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


class CompileError(Exception):
    """Any failure to turn a model into a library that is not a defect of qcomp."""


class UnsupportedOp(CompileError):
    """Operators or forms of operators that qcomp does not take; all of a model at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class ModelError(CompileError):
    """The model file is broken, unsafe or inconsistent."""


class CalibrationError(CompileError):
    """Calibration data is missing, malformed or does not fit the model."""


class RecipeError(CompileError):
    """A recipe is unknown, or its file can't be read or says something impossible."""


class ExtensionError(CompileError):
    """What another package adds isn't there, can't be imported, or isn't of its kind."""


class VerifyError(CompileError):
    """A graph breaks an invariant of its form."""


class PassError(CompileError):
    """A pass can't do its work; names the pass and the passes already run."""


class TargetError(CompileError):
    """A target can't be built, or lacks something the graph needs."""


class OutputError(CompileError):
    """The output directory can't be written; nothing was left behind."""


class FindingsError(CompileError):
    """The network is compiled, but less accurate or less certain than was demanded."""
