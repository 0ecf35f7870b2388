"""Operators that other packages have rules for, by `DOMAIN.OPERATOR`; ONNX's own are `ai.onnx.*`.

No rule of qcomp's is replaced by one. What a rule raises is the node's problem, told by its name.
"""

from __future__ import annotations

import onnx

from qcomp.errors import ExtensionError
from qcomp.extensions import ONNX_RULES
from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.context import Node


def has_own(proto: onnx.NodeProto) -> bool:
    """Whether some package has a rule for the operator; it is not imported for that."""
    return ONNX_RULES.has(_name(proto))


def apply_own(node: Node) -> None:
    """Add what stands for a node; Refused with the rule's name for whatever goes wrong in it."""
    name = _name(node.proto)
    try:
        found = ONNX_RULES.find(name)
    except ExtensionError as error:
        raise Refused(str(error)) from error
    where = f"rule {name!r}, {found.source}"
    try:
        found.value(node)
    except Refused as error:
        raise Refused(f"{where}: {error}") from error
    except Exception as error:  # of code that is not ours, whatever it raises
        raise Refused(f"{where}: {type(error).__name__}: {error}") from error
    context = node.context
    used = [n for n in node.proto.output if n and n in context.used and n not in context.constants]
    missing = [n for n in used if context.values.get(n, "") not in context.graph]
    if missing:
        raise Refused(f"{where}: it gives no {', '.join(missing)}")
    told = f"{where}, reads {name} nodes"
    if told not in context.notes:
        context.notes.append(told)


def _name(proto: onnx.NodeProto) -> str:
    return f"{proto.domain or 'ai.onnx'}.{proto.op_type}"
