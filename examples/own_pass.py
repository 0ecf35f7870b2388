"""A pass of one's own: small weights become zero, behind the folding of batch normalisations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

import qcomp
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Weighted
from qcomp.passes.events import PassLog

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Prune:
    """Weights below `share` of the largest of their layer become zero."""

    name: ClassVar[str] = "acme.prune"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT
    share: float = 0.02

    def run(self, graph: Graph, log: PassLog) -> None:
        for op in graph.ops():
            if not isinstance(op, Weighted):
                continue
            weight = graph.data(op.weight)
            small = (weight != 0) & (np.abs(weight) < self.share * np.abs(weight).max())
            if not small.any():
                log.skipped(op.id, f"no weight is below {self.share} of the largest")
                continue
            pruned = graph.add_constant(f"{op.weight}.pruned", np.where(small, 0, weight))
            graph.replace_op(replace(op, inputs=(op.x, pruned, op.bias)))
            log.did(f"{op.id}: {small.sum()} of {small.size} weights", op=op.id)


def main() -> None:
    net = qcomp.compile(
        HERE / "digits.onnx",
        calibration=HERE / "digits_calibration.npz",
        recipe="fast",
        passes=[Prune(share=0.02)],
        after="fold-batch-norm",
    )
    (record,) = (r for r in net.records if r.name == Prune.name)
    print(record.log.text)
    print(net.evaluate(HERE / "digits_test.npz"))
    print(net.save("build/pruned") / "digits.recipe.yaml", "names the pass")


if __name__ == "__main__":
    main()
