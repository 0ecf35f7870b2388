"""Normalisation: sums in 64 bits, an inverse root from a table, products of 16 bits."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from qcomp.ir import ops
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.sums import BoundSums, Sums
from qcomp.quant import normalize_constants
from qcomp.quant.inverse_root import inverse_root_table


def normalize(site: Site, op: ops.Normalize) -> ops.Op:
    x_id, x = site.operand(op.x)
    graph, y = site.graph, site.qparams
    gamma, beta = (graph.data(t).astype(np.float64) for t in (op.gamma, op.beta))
    count = math.prod(graph.type(x_id).shape[a] for a in op.axes)
    power = normalize_constants.power_constants(
        x, count, epsilon=op.epsilon, least=op.least, centered=op.centered
    )
    seen = normalize_constants.reach_within(y, gamma, beta, op.clamp.low, op.clamp.high)
    precision = normalize_constants.precision_of(count, min(op.reach, seen))
    shape = np.broadcast_shapes(gamma.shape, beta.shape)
    g, b, shift = normalize_constants.output_constants(
        y, count, precision, np.broadcast_to(gamma, shape), np.broadcast_to(beta, shape)
    )
    qmin, qmax = site.saturation(op.clamp)
    constants: dict[str, Array] = {"roots": inverse_root_table(), "gamma": g, "beta": b}
    return ops.QNormalize(
        inputs=(x_id, *(site.constant(f"{op.id}.{k}", v) for k, v in constants.items())),
        output=site.output,
        axes=op.axes,
        centered=op.centered,
        x_zero_point=0 if op.centered else x.zero_point,
        fraction_bits=power.fraction_bits,
        mean_multiplier=power.mean_multiplier,
        mean_shift=power.mean_shift,
        added=power.added,
        least=power.least,
        precision=precision,
        shift=shift,
        qmin=qmin,
        qmax=qmax,
        bits=y.bits,
    )


def normalize_sums(graph: Graph, op: ops.QNormalize) -> Sums:
    """V and the product that the mean is rounded from, in 64 bits; d with its rounding, t before it
    saturates and w * gamma + beta, in 32 bits, which count 2^32 times here.

    |d| <= sqrt(V) < 2^(32 - n), so that a shift of d to the left ends below 2^(precision + 1).
    """
    x = graph.tensor(op.x)
    assert x.qparams is not None, "the INTEGER form gives every activation qparams"
    count = math.prod(x.type.shape[a] for a in op.axes)
    ends = (x.qparams.qmin, x.qparams.qmax)
    if op.centered:
        product = count * max(map(abs, ends)) * op.mean_multiplier + (1 << op.mean_shift >> 1)
        largest = (ends[1] - ends[0] << op.fraction_bits) + 2  # the mean is rounded twice
    else:
        product = 0
        largest = max(abs(e - op.x_zero_point) for e in ends) << op.fraction_bits
    power = max(count * largest**2 + op.added, op.least)
    d = max(largest + (1 << max(30 - op.precision, 0)), 1 << op.precision + 1)
    gamma, beta = (np.abs(graph.data(t).astype(np.int64)) for t in (op.gamma, op.beta))
    result = (gamma.astype(object) * 2**16 + beta.astype(object)).ravel()
    narrow = np.maximum(result, d) * 2**32
    return Sums(np.maximum(narrow, max(power, product)), bits=63)


RULES: Mapping[type[ops.Op], IntegerRule] = {ops.Normalize: normalize}

SUMS: Mapping[type[ops.Op], BoundSums] = {ops.QNormalize: normalize_sums}
