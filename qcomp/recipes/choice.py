"""A configuration in the making: what was taken, and what there is to tell of what was tried."""

from __future__ import annotations

from dataclasses import dataclass, field

from qcomp.config import QuantizationConfig
from qcomp.passes.events import PassLog
from qcomp.recipes.judge import Trial, decided

WORTHWHILE_DB = 0.05  # less is chance
_GOOD_DB = 30.0  # of each part: leaves nothing to wish for at 8 bits
_GOOD_AGREEMENT = 0.98  # of a classifier's answers, expected
_NEAR_DB = 3.0  # by which the ratio on the first samples may be off


@dataclass
class Choice:
    """A configuration, and how it was found: an event for each decision.

    is_fitted: whether layers of its trial are fitted one after the other.
    """

    config: QuantizationConfig
    trial: Trial
    is_fitted: bool = False
    log: PassLog = field(default_factory=PassLog)
    gain: str = ""

    def consider(self, what: str, config: QuantizationConfig, trial: Trial) -> None:
        """Take another configuration if it is better."""
        after, before = decided(trial, self.trial, WORTHWHILE_DB)
        told = f"{before.db:.2f} to {after.db:.2f} dB"
        if after.is_better(before, WORTHWHILE_DB):
            self.log.did(f"{what}: {told}", before_db=before.db, after_db=after.db)
            self.config, self.trial = config, trial
        else:
            self.log.declined(what, told, before_db=before.db, after_db=after.db)

    def is_good_without(self, what: str) -> bool:
        """Whether every part is good enough, and nearly all classes stay what they are; then the
        log says that something is not tried.
        """
        least = self.trial.now.least_db
        if abs(least - _GOOD_DB) < _NEAR_DB:
            least = self.trial.whole.least_db
        if least < _GOOD_DB:
            return False
        kept = self.trial.agreement
        if kept < _GOOD_AGREEMENT:
            return False
        self.log.declined(what, f"no part is below {least:.1f} dB")
        return True
