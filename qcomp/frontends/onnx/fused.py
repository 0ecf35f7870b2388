"""Normalisations as ONNX Runtime's optimizer fuses them, in ONNX's own operators.

SkipLayerNormalization and SkipSimplifiedLayerNormalization add a residual, and a bias, before;
SimplifiedLayerNormalization is RMSNormalization, in ONNX's domain though ONNX does not know it.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx.helper import make_node

from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.expansion import Expansion, Nodes, Source
from qcomp.frontends.onnx.quantized import CONTRIB

_EPSILON = 1e-12  # of the operators with a residual
_SUM = 3  # the result that is the sum itself


def _of_a_sum(operator: str, parameters: tuple[int, ...], bias: int) -> Expansion:
    """(input, skip, gamma, beta or not, bias or not); statistics are no results here."""

    def expansion(s: Source) -> Nodes:
        if any(i < len(s.proto.output) and s.result(i) for i in (1, 2)):
            raise Refused("the mean and the deviation are results", "only the values and their sum")
        total = s.result(_SUM) if len(s.proto.output) > _SUM and s.result(_SUM) else s.name("sum")
        nodes, biased = [], s.input(0)
        if s.input(bias):
            biased = s.name("biased")
            nodes.append(make_node("Add", [s.input(0), s.input(bias)], [biased]))
        nodes.append(make_node("Add", [biased, s.input(1)], [total]))
        operands = [total, *(s.input(i) for i in parameters if s.input(i))]
        normalized = make_node(operator, operands, [s.output], axis=-1, epsilon=_EPSILON)
        for given in s.proto.attribute:
            for a in normalized.attribute:
                if a.name == given.name:
                    a.CopyFrom(given)
        return [*nodes, normalized]

    return expansion


def _simplified(s: Source) -> Nodes:
    if len(s.proto.output) > 1 and s.result(1):
        raise Refused("the deviation is a result", "only the values")
    return [s.node("RMSNormalization", [s.input(0), s.input(1)], s.output)]


FUSED: Mapping[tuple[str, str], Expansion] = {
    ("", "SimplifiedLayerNormalization"): _simplified,
    (CONTRIB, "SimplifiedLayerNormalization"): _simplified,
    (CONTRIB, "SkipLayerNormalization"): _of_a_sum("LayerNormalization", (2, 3), 4),
    (CONTRIB, "SkipSimplifiedLayerNormalization"): _of_a_sum("RMSNormalization", (2,), 3),
}
