"""The target of one compilation: found by its name, with what was asked of it."""

from __future__ import annotations

import os
from pathlib import Path

from qcomp.config import AUTO
from qcomp.files import user_cache
from qcomp.lengths import Lengths
from qcomp.targets.base import Target, lengthwise, tappable, tunable
from qcomp.targets.catalog import target as find_target


def prepared(
    target: str | Target,
    *,
    lengths: Lengths,
    tune: int = 0,
    tiles: str | os.PathLike[str] | None = None,
    taps: bool = False,
    object_cache: str | os.PathLike[str] | None = None,
) -> Target:
    """TargetError for what it has not, before any work is done; the options are `compile`'s."""
    if tune < 0:
        raise ValueError(f"tune is {tune}; expected at least 0")
    backend = find_target(target) if isinstance(target, str) else target
    if tiles is not None:
        backend = tunable(backend).following(Path(tiles).read_text(encoding="utf-8"))
    if tune:
        tunable(backend)
    if lengths:
        lengthwise(backend)
    if taps:
        backend = tappable(backend).tapped()
    kept = user_cache("objects") if object_cache == AUTO else object_cache
    return backend if kept is None else backend.keeping(Path(kept))
