"""Movements: integers are copied; a resize that weighs its neighbours is none."""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.errors import PassError
from qcomp.ir import ops
from qcomp.passes.lib.integer_rules import movement
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.quant.tflite_resize import bilinear_table


def resize2d(site: Site, op: ops.Resize2d) -> ops.Op:
    if op.mode is ops.ResizeMode.NEAREST:
        return movement.movement(site, op)
    if site.is_unsigned(site.output):
        raise PassError(
            f"{op.id}: a bilinear resize of bytes without a sign is one of floats in TensorFlow "
            "Lite; expected integers with a sign, or arithmetic='native'"
        )
    x_id, _ = site.operand(op.x)
    image = site.graph.type(x_id).shape
    tables = [
        site.constant(
            f"{op.id}.{name}",
            bilinear_table(
                extent,
                results,
                aligned=op.coordinates is ops.Coordinates.ALIGN_CORNERS,
                centers=op.coordinates is ops.Coordinates.HALF_PIXEL,
            ),
        )
        for name, extent, results in zip(("rows", "columns"), image[1:3], op.size, strict=True)
    ]
    return ops.QResize2d(inputs=(x_id, *tables), output=site.output)


RULES: Mapping[type[ops.Op], IntegerRule] = {**movement.RULES, ops.Resize2d: resize2d}
