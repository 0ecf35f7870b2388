"""What a compilation with a dump is observed by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qcomp.calibration.evidence import Evidence
from qcomp.files import write_file
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.passes.base import Observer, PassRecord
from qcomp.passes.ledger import Ledger
from qcomp.passes.ledger_file import SUFFIX, packed
from qcomp.passes.observers import Dump
from qcomp.report.answers import output_difference, tensor_ratios


def dumping(
    directory: Path, imported: Graph, evidence: Evidence, ledger: Ledger
) -> tuple[Observer, ...]:
    """A dump of every pass, whose logs say how much each moves the outputs and all tensors."""
    measured = output_difference(imported, evidence), tensor_ratios(imported, evidence)
    return *measured, Dump(directory), ledger, LedgerFile(directory, ledger)


@dataclass(frozen=True)
class LedgerFile:
    """Keeps a directory's ledger up to date, so that it tells of a compilation that fails too."""

    directory: Path
    ledger: Ledger

    def began(self, graph: Graph, form: Form) -> None:
        """There is no entry yet."""

    def passed(self, graph: Graph, record: PassRecord) -> None:
        self.recorded(record)

    def recorded(self, record: PassRecord) -> None:
        write_file(self.directory / SUFFIX, packed(self.ledger.entries))
