"""What is asked of the weights of one layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qcomp.reconstruction.activation import Activation
from qcomp.reconstruction.rows import Rows, row_means

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


# How much of the earlier layers' error is to be taken back; the rows are too few to learn it all.
FLOAT_SHARE = 0.3
_LEAST = 1e-30  # power of a row


@dataclass(frozen=True, eq=False)
class Problem:
    """Levels for `weight` [G, O / G, K] such that activation(x w' + bias) is the float result.

    `rows` has x and, as target, the float result before the activation; `bias` is [G, O / G].
    `mean` [G, 1, K], if there is one, is that of all x, and still to be taken from each.
    """

    weight: F64
    bias: F64
    rows: Rows
    activation: Activation
    mean: F32 | None = None

    def part(self, groups: slice, rows: slice) -> tuple[F32, F32]:
        """Some x, and the targets beside them, of some groups."""
        x, target = self.rows.x[groups, rows], self.rows.target[groups, rows]
        return (x if self.mean is None else x - self.mean[groups]), target


def corrected_later(problem: Problem) -> Problem:
    """The same, with a bias that is corrected after rounding: rows are centred, and the bias is the
    targets' mean, which is what the correction will make of it whatever the weights are.
    """
    mean = row_means(problem.rows.x).astype(np.float32)[:, None]
    return replace(problem, bias=row_means(problem.rows.target), mean=mean)


def centred(problem: Problem) -> Problem:
    """The same with the mean taken from every row, which copies all of them."""
    if problem.mean is None:
        return problem
    rows = Rows(problem.rows.x - problem.mean, problem.rows.target)
    return replace(problem, rows=rows, mean=None)


def evened(problem: Problem) -> Problem:
    """The same with each row over the size of its result, where no activation function follows.

    In transformers a few rows are hundreds of times as large as the others, and all count alike
    behind the normalisation that reads them.
    """
    if not problem.activation.is_identity:
        return problem
    problem = centred(problem)
    rows = problem.rows
    target = rows.target - problem.bias[:, None].astype(np.float32)
    power = np.mean(rows.target.astype(np.float64) ** 2, axis=(0, 2))
    weight = (1.0 / np.sqrt(power + np.median(power) + _LEAST)).astype(np.float32)[:, None]
    even = Rows(rows.x * weight, target * weight)
    return replace(problem, bias=np.zeros_like(problem.bias), rows=even)


def eased(problem: Problem) -> Problem:
    """Move the targets towards what the float weights give for the quantized inputs.

    target = FLOAT_SHARE * float network's result + (1 - FLOAT_SHARE) * float weights * x: a layer
    that had to undo all of the error before it would overfit the few rows it is fitted to.
    """
    problem = centred(problem)
    rows = problem.rows
    weight = problem.weight.swapaxes(1, 2).astype(np.float32)
    target = np.matmul(rows.x, weight)
    target += problem.bias[:, None].astype(np.float32)
    target *= 1 - FLOAT_SHARE
    target += FLOAT_SHARE * rows.target
    return replace(problem, rows=Rows(rows.x, target))
