"""Find activation functions that an exporter wrote out in parts, and make each one op again.

    x * sigmoid(x), x * clamp(x + 3, 0, 6) / 6, 0.5 * x * (1 + erf(x / sqrt(2))), max(x, x / 10) ...
A connected region of elementwise ops whose one input is the tensor x is a function of one real
variable, however its parts are ordered. So the region is evaluated on a grid and compared with the
functions that have a name: operand order, and constants before or behind, do not matter.

Parameters follow from single values. With y the region's function:
    silu          y(1) = sigmoid(alpha)                    alpha = log(y(1) / (1 - y(1)))
    leaky_relu    y(-1) = -alpha                           elu   y(-1) = alpha * (1/e - 1)
    hard_sigmoid  y(0) = beta, and alpha is the slope at 0
Silu with alpha = 1.702 is the "quick gelu" of Hendrycks and Gimpel, 2016, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.unary import FUNCTIONS
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Function, Op, Unary
from qcomp.ir.tensor import TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.scalar_region import ScalarRegion, scalar_regions

F64 = NDArray[np.float64]
Curve = Callable[[F64], F64]
Parameters = tuple[float, float]  # alpha, beta

# Dense around the bends, wide enough to tell a bounded function from one that grows.
GRID: F64 = np.concatenate([np.linspace(-12, 12, 769), np.array([-60, -25, -17, 17, 25, 60])])
GRID.flags.writeable = False
TOLERANCE = 1e-5  # of max(1, |y|): exporters write constants with 5 digits or more
_STEP = 2.0**-5


@dataclass(frozen=True)
class RecomposeActivations:
    """Visit ops from the inputs on: a function found early is a single op of later regions.

    The largest region that ends in an op and computes a known function is replaced. `rounds`: parts
    that have scales of their own are rounded to them, and stay.
    """

    name: ClassVar[str] = "recompose-activations"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    rounds: bool = False

    def run(self, graph: Graph, log: PassLog) -> None:
        ops = graph.ops()
        position = {op.id: i for i, op in enumerate(ops)}
        for op in ops:
            regions = [
                r
                for r in scalar_regions(graph, op, position)
                if len(r.ops) > 1 and not (self.rounds and _is_rounded(graph, r))
            ]
            _recompose(graph, op, regions, log)


def _recompose(graph: Graph, op: Op, regions: list[ScalarRegion], log: PassLog) -> None:
    declined: list[str] = []
    for region in reversed(regions):
        named = _named(region, op)
        if named is None:
            continue
        if shared := _shared(graph, region):
            declined.append(f"{_text(named)} of %{region.x}, but %{shared} has other users")
            continue
        graph.replace_op(named)
        for part in reversed(region.ops[:-1]):
            graph.erase(part.id)
        log.did(f"{op.id} is {_text(named)} of %{region.x}", op=op.id)
        return
    if joins := [r for r in regions if r.joins]:
        declined.append(f"a function of %{joins[0].x} alone, but none that has a name")
    if declined:
        log.skipped(op.id, declined[0])


def _is_rounded(graph: Graph, region: ScalarRegion) -> bool:
    """Whether a value inside the region has a scale of its own."""
    return any(graph.tensor(part.id).qparams is not None for part in region.ops[:-1])


def _shared(graph: Graph, region: ScalarRegion) -> TensorId | None:
    """A value inside the region that something outside reads."""
    inside = {op.id for op in region.ops}
    for part in region.ops[:-1]:
        if graph.is_output(part.id) or any(r.id not in inside for r in graph.consumers(part.id)):
            return part.id
    return None


def _text(op: Unary) -> str:
    return f"{op.function.value}(alpha={op.alpha:.6g}, beta={op.beta:.6g})"


def _named(region: ScalarRegion, op: Op) -> Unary | None:
    """The region as one op, or None."""
    y = region.evaluate(GRID)
    if not np.isfinite(y).all():
        return None
    for function, (alpha, beta) in _candidates(region.evaluate):
        with np.errstate(all="ignore"):
            error = np.abs(FUNCTIONS[function](GRID, alpha, beta) - y)
        if (error <= TOLERANCE * np.maximum(1.0, np.abs(y))).all():
            return Unary(
                inputs=(region.x,), output=op.id, function=function, alpha=alpha, beta=beta
            )
    return None


def _candidates(curve: Curve) -> Iterator[tuple[Function, Parameters]]:
    """Named functions with the parameters that the curve's own values ask for."""
    at = {x: float(curve(np.array([x]))[0]) for x in (-1.0, 0.0, _STEP, 1.0)}
    for function in _WITHOUT_PARAMETERS:
        yield function, (1.0, 0.0)
    if 0.0 < at[1.0] < 1.0:
        yield Function.SILU, (_plain(np.log(at[1.0] / (1.0 - at[1.0]))), 0.0)
    if 0.0 < at[0.0] < 1.0:
        slope = (at[_STEP] - at[0.0]) / _STEP
        yield Function.HARD_SIGMOID, (_plain(slope), _plain(at[0.0]))
    if -1.0 < at[-1.0] < 0.0:
        yield Function.LEAKY_RELU, (_plain(-at[-1.0]), 0.0)
        yield Function.ELU, (_plain(at[-1.0] / np.expm1(-1.0)), 0.0)


def _plain(value: float) -> float:
    """The simple fraction that float32 rounding blurred (1/6, 1.702), or the value itself."""
    simple = float(Fraction(float(value)).limit_denominator(1000))
    return simple if abs(simple - value) <= 1e-6 * abs(value) else float(value)


_WITHOUT_PARAMETERS = (
    Function.HARD_SWISH,
    Function.GELU,
    Function.GELU_TANH,
    Function.MISH,
    Function.SIGMOID,
    Function.TANH,
    Function.SOFTPLUS,
    Function.SOFTSIGN,
)
