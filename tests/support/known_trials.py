"""Trials whose outcome a test knows."""

from __future__ import annotations

from qcomp.recipes.judge import Judgement, Trial


class KnownTrial(Trial):
    """Of one sample."""

    def __init__(self, judgement: Judgement) -> None:
        self._judgement = judgement

    @property
    def available(self) -> int:
        return 1

    @property
    def now(self) -> Judgement:
        return self._judgement

    def on(self, count: int) -> Judgement:
        return self._judgement
