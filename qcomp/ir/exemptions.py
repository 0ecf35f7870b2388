"""Which op types a table that is keyed by op type does without, and why.

Beside each such table stands its literal of exemptions, so that a missing row is a decision that
someone wrote down. A line is for one op type, or for a domain: a table of integer ops says once
that floats never reach it. `tests/test_op_tables.py` holds every op against every table.
"""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.ir.ops.base import Domain, Op

Exemptions = Mapping[type[Op] | Domain, str]


def exemption(exempt: Exemptions, cls: type[Op]) -> str | None:
    """The reason why an op type needs no row: of the type itself, else of its domain."""
    return exempt[cls] if cls in exempt else exempt.get(cls.domain)
