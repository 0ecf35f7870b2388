"""`python -m qcomp` is the command."""

from __future__ import annotations

from qcomp.cli import main

main()
