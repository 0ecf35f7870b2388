"""Movements: integers are copied; a resize that weighs its neighbours is none."""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.errors import PassError
from qcomp.ir import ops
from qcomp.passes.lib.integer_rules import movement
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site


def resize2d(site: Site, op: ops.Resize2d) -> ops.Op:
    if op.mode is not ops.ResizeMode.NEAREST:
        raise PassError(
            f"{op.id}: a resize of mode {op.mode.value} has no arithmetic of TensorFlow Lite; "
            "expected nearest, or arithmetic='native'"
        )
    return movement.movement(site, op)


RULES: Mapping[type[ops.Op], IntegerRule] = {**movement.RULES, ops.Resize2d: resize2d}
