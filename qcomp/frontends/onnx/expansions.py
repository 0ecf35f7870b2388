"""Every operator that is read as simpler ones."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from qcomp.frontends.onnx.attention import ATTENTION, FUSED_ATTENTION
from qcomp.frontends.onnx.context import Context
from qcomp.frontends.onnx.decode import decode_node
from qcomp.frontends.onnx.einsum import einsum
from qcomp.frontends.onnx.expansion import Expansion, Nodes, Source
from qcomp.frontends.onnx.fused import FUSED
from qcomp.frontends.onnx.places import PLACES
from qcomp.frontends.onnx.quantized import BORDERS, CONTRIB, QUANTIZED
from qcomp.frontends.onnx.sequences import SEQUENCES
from qcomp.frontends.onnx.spelled import SPELLED, unless_constant
from qcomp.frontends.onnx.tables import TABLES
from qcomp.ir.merged import merged


def _checked(rules: Mapping[tuple[str, str], Expansion]) -> Mapping[tuple[str, str], Expansion]:
    """Of nodes that their schema takes."""

    def checked(expansion: Expansion) -> Expansion:
        def after(s: Source) -> Nodes:
            decode_node(s.context, s.proto)
            return expansion(s)

        return after

    return {operator: checked(expansion) for operator, expansion in rules.items()}


EXPANSIONS: Mapping[tuple[str, str], Expansion] = merged(
    QUANTIZED,
    FUSED,
    FUSED_ATTENTION,
    _checked(ATTENTION),
    _checked(SEQUENCES),
    _checked(SPELLED),
    _checked(PLACES),
    _checked(TABLES),
    _checked({("", "Einsum"): unless_constant(einsum)}),
)


def expanded(context: Context, proto: onnx.NodeProto) -> Nodes:
    """What stands for a node; itself, where it is one of floats."""
    if proto.domain == CONTRIB and proto.op_type in BORDERS:
        plain = onnx.NodeProto()
        plain.CopyFrom(proto)
        plain.domain = ""
        proto = plain
    expansion = EXPANSIONS.get((proto.domain if proto.domain == CONTRIB else "", proto.op_type))
    return [proto] if expansion is None else expansion(Source(context, proto))
