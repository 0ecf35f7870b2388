"""The options that say how pictures become inputs, which several commands take."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from qcomp.preprocessing import LAYOUTS, Preprocessing, Size

_OPTIONS: dict[str, Any] = {
    "mean": Annotated[
        str | None,
        typer.Option(
            "--mean", metavar="M,M,M", help="Of pictures, for each channel; after --white."
        ),
    ],
    "std": Annotated[
        str | None, typer.Option("--std", metavar="S,S,S", help="The deviation, likewise.")
    ],
    "white": Annotated[
        float | None,
        typer.Option("--white", metavar="W", help="What 255 is before --mean: 1 (default) or 255."),
    ],
    "resize": Annotated[
        str | None,
        typer.Option("--resize", metavar="S", help="The shorter side of a picture, or HxW."),
    ],
    "crop": Annotated[
        str | None, typer.Option("--crop", metavar="S", help="The middle of it, S or HxW.")
    ],
    "rgb": Annotated[
        bool | None,
        typer.Option("--rgb/--bgr", help="The order of colours; --rgb unless given."),
    ],
    "layout": Annotated[
        str | None,
        typer.Option("--layout", help=f"{' or '.join(LAYOUTS)}; default: as the input's shape is."),
    ],
}


def takes_pictures(command: Callable[..., None]) -> Callable[..., None]:
    """The command with these options, which it gets as `preprocessing`: a record, or None."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name != "preprocessing"]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=type)
        for name, type in _OPTIONS.items()
    ]
    keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        values = {name: given.pop(name) for name in _OPTIONS}
        command(**given, preprocessing=parsed(**values))

    wrapper.__signature__ = signature.replace(parameters=[*keywords, *more])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in [*keywords, *more]}
    return wrapper


def parsed(
    *,
    mean: str | None,
    std: str | None,
    white: float | None,
    resize: str | None,
    crop: str | None,
    rgb: bool | None,
    layout: str | None,
) -> Preprocessing | None:
    """The record of these texts; None where none is given, a usage error for one that is wrong."""
    given = {
        "mean": _numbers("--mean", mean),
        "std": _numbers("--std", std),
        "white": white,
        "resize": _size("--resize", resize),
        "crop": _size("--crop", crop),
        "channels": None if rgb is None else "rgb" if rgb else "bgr",
        "layout": None if layout is None else layout.lower(),
    }
    fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Preprocessing(**fields) if fields else None


def over(given: Preprocessing | None, kept: Preprocessing | None) -> Preprocessing | None:
    """What options say, over what a recipe kept."""
    if given is None or kept is None:
        return given or kept
    own = {f.name for f in dataclasses.fields(Preprocessing)}
    said = {n: getattr(given, n) for n in own if getattr(given, n) != getattr(Preprocessing(), n)}
    return dataclasses.replace(kept, **said)


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: expected a number, or one for each channel with commas between",
            param_hint=option,
        ) from None


def _size(option: str, text: str | None) -> Size | None:
    if text is None:
        return None
    sides = text.lower().split("x")
    if not (len(sides) in (1, 2) and all(s.isascii() and s.isdigit() and int(s) for s in sides)):
        raise typer.BadParameter(
            f"{text!r}: expected pixels, as in 256, or height and width, as in 240x320",
            param_hint=option,
        )
    numbers = [int(side) for side in sides]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
