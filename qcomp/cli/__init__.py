"""The command line: `qcomp inspect | compile | verify | bench | run | sensitivity | search`."""

from qcomp.cli.app import main

__all__ = ["main"]
