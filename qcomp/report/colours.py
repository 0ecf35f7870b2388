"""How bad a figure is, as one of a few classes of colour; the page says what each stands for."""

from __future__ import annotations

GOOD_DB = (60.0, 50.0, 40.0, 30.0, 20.0)
SHARES = (0.01, 0.03, 0.1, 0.2, 0.4)
UNKNOWN = "bn"


def of_db(db: float | None) -> str:
    """b0, the best, to b5."""
    return UNKNOWN if db is None else f"b{sum(db < limit for limit in GOOD_DB)}"


def of_share(share: float | None) -> str:
    """b0, the least, to b5."""
    return UNKNOWN if share is None else f"b{sum(share >= limit for limit in SHARES)}"
