"""A layer's squared error before its activation function, as a quadratic form of its weights.

Over rows x with targets t,  mean ||W~ x - t||^2 = tr(W~ H W~') - 2 tr(W~ C') + const  with
H = mean(x x') and C = mean(t x'). What is asked of that error can be asked of these two, at a cost
that does not depend on the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qcomp.reconstruction.problem import FLOAT_SHARE, Problem
from qcomp.reconstruction.rows import row_means

F64 = NDArray[np.float64]

DAMPING = 0.01
_TOGETHER = 1 << 20  # numbers of rows that are multiplied at once


@dataclass(frozen=True, eq=False)
class Moments:
    """`inputs` is H [G, K, K], `products` is C [G, O / G, K]."""

    inputs: F64
    products: F64

    @staticmethod
    def of(problem: Problem) -> Moments:
        """Of a few groups and rows at a time, so that centred ones are never all there."""
        (groups, count, size), outputs = problem.rows.x.shape, problem.rows.target.shape[2]
        inputs, products = np.zeros((groups, size, size)), np.zeros((groups, outputs, size))
        for at in _parts(groups, count * size):
            for some in _parts(count, size):
                x, target = problem.part(at, some)
                inputs[at] += np.matmul(x.swapaxes(1, 2), x)
                products[at] += np.matmul(target.swapaxes(1, 2), x)
                if problem.mean is None:  # else their sum is 0
                    total = row_means(x) * x.shape[1]
                    products[at] -= problem.bias[at, :, None] * total[:, None]
        return Moments(inputs / count, products / count)

    def eased(self, weight: F64) -> Moments:
        """Those of the problem with eased targets (problem.py); `weight` is what it is to round."""
        own = np.matmul(weight, self.inputs)
        return Moments(self.inputs, (1 - FLOAT_SHARE) * own + FLOAT_SHARE * self.products)

    def damped(self, weight: F64) -> Moments:
        """With a pull towards `weight`, of DAMPING times the mean power of an input.

        Weights whose inputs hardly vary stay where they were, and H becomes positive definite.
        """
        size = self.inputs.shape[-1]
        power = np.trace(self.inputs, axis1=1, axis2=2)[:, None, None] / size
        pull = DAMPING * np.where(power > 0, power, 1.0)
        return Moments(self.inputs + pull * np.eye(size), self.products + pull * weight)

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """The inputs by falling power [G, K]."""
        power = np.diagonal(self.inputs, axis1=1, axis2=2)
        return np.argsort(-power, axis=1, kind="stable")

    @cached_property
    def inverse(self) -> F64:
        """That of H, which must be positive definite."""
        return np.asarray(np.linalg.inv(self.inputs))

    @cached_property
    def factor(self) -> F64:
        """The upper Cholesky factor of the inverse of H, whose inputs are in that order."""
        rows, columns = self.order[:, :, None], self.order[:, None, :]
        inverse = np.take_along_axis(np.take_along_axis(self.inverse, rows, 1), columns, 2)
        return np.ascontiguousarray(np.linalg.cholesky(inverse).swapaxes(1, 2))

    def solution(self) -> F64:
        """The weights [G, O / G, K] with the least error."""
        return np.asarray(np.matmul(self.products, self.inverse.swapaxes(1, 2)))

    def errors(self, weight: F64) -> F64:
        """The error of each output channel [G, O / G], less what no weight changes."""
        slope = np.matmul(weight, self.inputs) - 2 * self.products
        return np.asarray(np.einsum("gok,gok->go", slope, weight))

    def gains(self, weight: F64) -> F64:
        """The factors [G, O / G] on the weights of a channel that leave the least error."""
        along = np.einsum("gok,gok->go", self.products, weight)
        power = np.einsum("gok,gok->go", np.matmul(weight, self.inputs), weight)
        useful = (along > 0) & (power > 0)
        return np.where(useful, along / np.where(useful, power, 1.0), 1.0)


def _parts(count: int, size: int) -> list[slice]:
    """Of so many things of that size, as many at a time as are multiplied at once."""
    step = max(_TOGETHER // size, 1)
    return [slice(first, first + step) for first in range(0, count, step)]
