"""Options from a file: `qcomp.toml`, or `[tool.qcomp]` of `pyproject.toml`.

    recipe = "fast"             # of every command that has such an option

    [compile]
    calibration = "photos/"
    mean = [0.485, 0.456, 0.406]
    bind = ["N=1"]
    strict = true

What the command line says comes first. Paths are from where the command runs.
"""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from qcomp.cli.session import Session
from qcomp.errors import CompileError, did_you_mean

OWN, SHARED = Path("qcomp.toml"), Path("pyproject.toml")
_LOG = logging.getLogger(__name__)


class Parameter(Protocol):
    """An option or argument of a command."""

    @property
    def name(self) -> str | None: ...
    @property
    def opts(self) -> Sequence[str]: ...
    @property
    def secondary_opts(self) -> Sequence[str]: ...
    @property
    def nargs(self) -> int: ...


Commands = Mapping[str, Sequence[Parameter]]


def defaults(config: Path | None, commands: Commands, session: Session) -> dict[str, Any]:
    """By command and name of the parameter; CompileError for what no command has."""
    table, where = _table(config)
    if table and not session.quiet:
        _LOG.info("options of %s", where)
    shared = {name: value for name, value in table.items() if name not in commands}
    own = {name: value for name, value in table.items() if name in commands}
    names = {command: _names(parameters) for command, parameters in commands.items()}
    everywhere = dict.fromkeys(name for known in names.values() for name in known)
    for name in shared:
        if name not in everywhere:
            raise _unknown(where, name, [*everywhere, *commands])
    found: dict[str, Any] = {}
    for command, known in names.items():
        values = own.get(command, {})
        if not isinstance(values, Mapping):
            raise CompileError(f"{where}: {command}: expected a table of options")
        for name in values:
            if name not in known:
                raise _unknown(f"{where}, [{command}]", name, known)
        said = {**{n: v for n, v in shared.items() if n in known}, **values}
        found[command] = {
            parameter.name: _value(parameter, name, said[name])
            for name in said
            for parameter in [known[name]]
        }
    return found


def _table(config: Path | None) -> tuple[Mapping[str, Any], str]:
    """The options of the file that is given, or of one that is there."""
    if config is not None:
        table = _read(config)
        is_shared = config.name == SHARED.name
        return (_tool(table) if is_shared else table), str(config)
    if OWN.is_file():
        return _read(OWN), str(OWN)
    if SHARED.is_file():
        return _tool(_read(SHARED)), f"[tool.qcomp] of {SHARED}"
    return {}, ""


def _read(file: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CompileError(f"{file} can't be read as TOML: {error}") from error


def _tool(table: Mapping[str, Any]) -> Mapping[str, Any]:
    tool = table.get("tool", {})
    found = tool.get("qcomp", {}) if isinstance(tool, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def _names(parameters: Sequence[Parameter]) -> dict[str, Parameter]:
    """Parameters by what a file may call them: the option without dashes, or the argument."""
    found: dict[str, Parameter] = {}
    for parameter in parameters:
        if parameter.name is not None and parameter.name != "help":
            found[parameter.name.replace("_", "-")] = parameter
            for option in [*parameter.opts, *parameter.secondary_opts]:
                if option.startswith("--"):
                    found[option.removeprefix("--")] = parameter
    return found


def _value(parameter: Parameter, name: str, value: Any) -> Any:
    """As the command line would give it: texts, of lists where one text stands for several."""
    if f"--{name}" in parameter.secondary_opts and isinstance(value, bool):
        return not value
    is_several = parameter.nargs != 1 or getattr(parameter, "multiple", False)
    if isinstance(value, list):
        texts = [item if isinstance(item, bool) else str(item) for item in value]
        return texts if is_several else ",".join(map(str, texts))
    plain = value if isinstance(value, bool) else str(value)
    return [plain] if getattr(parameter, "multiple", False) else plain


def _unknown(where: str, name: str, known: Sequence[str] | Mapping[str, Parameter]) -> CompileError:
    hint = did_you_mean(name, known)
    return CompileError(f"{where}: {name!r} is no option of a command{hint}")
