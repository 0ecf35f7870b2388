"""Passes of the caller, at their places among the house's.

They see what the house's passes see, a verified graph, and are held to more: whatever they raise
is a PassError with their name, and the inputs and outputs of the graph stay as they are, as
calibration data and comparisons go by them.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qcomp.errors import CompileError, ExtensionError, PassError
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorType
from qcomp.passes.base import Pass
from qcomp.passes.events import PassLog

_HOUSE = Path(__file__).parent.parent


@dataclass(frozen=True)
class OwnPass:
    """A pass, and the name of the house's that it comes behind."""

    inner: Pass
    after: str

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def needs(self) -> Form:
        return self.inner.needs

    @property
    def gives(self) -> Form:
        return self.inner.gives

    def run(self, graph: Graph, log: PassLog) -> None:
        before = _interface(graph)
        try:
            self.inner.run(graph, log)
        except CompileError:
            raise
        except Exception as error:  # of code that is not ours, whatever it raises
            told = [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]
            raise PassError(f"{'; '.join(told)} ({_place(error)})") from error
        after = _interface(graph)
        changed = {end: after.get(end, "gone") for end in {**before, **after}}
        changed = {end: what for end, what in changed.items() if before.get(end) != what}
        if changed:
            now = ", ".join(f"{end} is {what}" for end, what in changed.items())
            raise PassError(f"it changed what the graph takes or gives: {now}")


def _place(error: Exception) -> str:
    """Where the pass was: the last line that is not qcomp's."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if _HOUSE not in Path(f.filename).parents] or frames
    return f"{Path(theirs[-1].filename).name}, line {theirs[-1].lineno}"


def _interface(graph: Graph) -> dict[str, TensorType | str]:
    """The type of each input and output; a tensor that isn't there is for the verifier."""
    ends = {f"input {name}": id for name, id in graph.inputs.items()}
    ends |= {f"output {name}": id for name, id in graph.outputs.items()}
    return {end: graph.type(id) if id in graph else "nothing" for end, id in ends.items()}


def check_pass(p: object, name: str) -> None:
    """ExtensionError for what is no pass."""
    lacking = [a for a in ("name", "needs", "gives", "run") if not hasattr(p, a)]
    if lacking or not callable(p.run):  # type: ignore[attr-defined]
        raise ExtensionError(
            f"pass {name}: {', '.join(lacking) or 'a run to call'} is missing; expected name, "
            "needs, gives and run(graph, log), as qcomp.passes.base.Pass has it"
        )
    forms = p.needs, p.gives  # type: ignore[attr-defined]
    if not all(isinstance(form, Form) for form in forms) or forms[0] is not forms[1]:
        raise ExtensionError(
            f"pass {name}: it needs {forms[0]} and gives {forms[1]}; expected the same form of "
            "qcomp.ir.form.Form twice, as passes from one to another are the house's"
        )


def placed(
    passes: Sequence[Pass], order: Sequence[str], own: Sequence[OwnPass], form: Form
) -> list[Pass]:
    """The house's passes with those of the caller behind the places that these name.

    `order` has every pass that may be among `passes`: a place is there whether or not its pass
    runs. `form` is that of the graph before. PassError for a pass of another form than its place.
    """
    waiting = sorted((p for p in own if p.after in order), key=lambda p: order.index(p.after))
    result: list[Pass] = []
    for p in passes:
        here = order.index(p.name)
        result += [_fitting(o, form) for o in waiting if order.index(o.after) < here]
        waiting = [o for o in waiting if order.index(o.after) >= here]
        result.append(p)
        form = p.gives
    return [*result, *(_fitting(o, form) for o in waiting)]


def _fitting(p: OwnPass, form: Form) -> OwnPass:
    if p.needs is not form:
        raise PassError(
            f"pass {p.name} needs form {p.needs.value}, and behind {p.after} the graph has form "
            f"{form.value}; expected another place, or a pass of that form"
        )
    return p
