"""Scale the channels that dense layers read, so that 8-bit integers put least noise on results.

    y = W x = (W C) (C^-1 x),   C = diag(c), c > 0

In transformers a few channels of x are far larger than the others, at every position, and one scale
leaves these with a few steps. Xiao et al., "SmoothQuant", ICML 2023, divide x by c, which the
parameters of a normalisation take for nothing, and multiply the weights, whose scales are those of
output channels. c is chosen for each site, by the noise that is expected of rounded values and
rounded weights together (lib/input_noise.py).

What takes c up, for all dense layers that read one tensor:

    a normalisation     gamma / c and beta / c; where others read its result too, as a residual
                        stream, the layers have one of their own
    a layer             its weights and biases, where attention averages its results: V
    anything else       a factor per channel behind it, where that spares enough noise; it has
                        16 bits then (qcomp/recipes/streams.py)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Dense, Normalize, Op
from qcomp.ir.tensor import Mark, TensorId
from qcomp.ir.transformer import normalizes_channels
from qcomp.passes.events import PassLog
from qcomp.passes.lib.averaged_layers import AveragedLayer, averaged_layer
from qcomp.passes.lib.channel_affine import ChannelAffine
from qcomp.passes.lib.depthwise import depthwise_of
from qcomp.passes.lib.input_noise import InputNoise, Reading, least_noise
from qcomp.passes.lib.linear_weights import F64, weight_and_bias, with_numbers
from qcomp.passes.lib.quantization_noise import Precision
from qcomp.passes.lib.relative_rows import MomentsOfSome, RelativeRows
from qcomp.passes.lib.streams import Site, sites

_WORTHWHILE_DB = 0.1
_WORTH_AN_OP_DB = 1.0


@dataclass(frozen=True)
class SmoothChannels:
    """`moments` measures the moments of some f32 activations of a float graph.

    Without any (None) all factors are 1, and layers get normalisations of their own.
    """

    name: ClassVar[str] = "smooth-channels"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    moments: MomentsOfSome | None
    precision: Precision

    def run(self, graph: Graph, log: PassLog) -> None:
        found = sites(graph)
        if not found:
            return
        if self.moments is None:
            for site in found:
                _separate(graph, site)
            return
        rows = RelativeRows(graph, found, self.moments)
        for site in found:
            self._smooth(graph, site, rows, log)

    def _smooth(self, graph: Graph, site: Site, rows: RelativeRows, log: PassLog) -> None:
        source, producer = site.source, graph.producer(site.source)
        averaged = averaged_layer(graph, source) if site.is_all_of(graph) else None
        noise = self._noise(graph, site, rows)
        found = least_noise(noise, None if averaged is None else averaged.channels)
        is_free = normalizes_channels(graph, producer) or averaged is not None
        if found.gain < (_WORTHWHILE_DB if is_free else _WORTH_AN_OP_DB):
            log.skipped(source, f"{found.gain:.2f} dB less noise expected")
            _separate(graph, site)
            return
        if averaged is not None:
            _into_layer(graph, averaged, found.factors)
        elif isinstance(producer, Normalize) and is_free:
            _into_parameters(graph, producer, site, found.factors)
        else:
            _behind(graph, site, found.factors)
        for layer in site.layers:
            _multiply_inputs(graph, layer, found.factors)
        log.did(f"%{source}: {found}", tensor=source, gain_db=found.gain)

    def _noise(self, graph: Graph, site: Site, rows: RelativeRows) -> InputNoise:
        readings = []
        for layer in site.layers:
            weight: F64 = graph.data(layer.weight).astype(np.float64)
            x, inverse = rows.of_rows(layer), rows.of_inverse(layer)
            power = x.mean**2 + x.std**2
            of_one = float(inverse.mean[0] ** 2 + inverse.std[0] ** 2)
            readings.append(Reading(weight, power, of_one))
        bounds = rows.of_source(site)
        low, high = np.minimum(bounds.low, 0.0), np.maximum(bounds.high, 0.0)
        return InputNoise(low, high, tuple(readings), self.precision)


def _separate(graph: Graph, site: Site) -> None:
    """A normalisation of their own for layers beside other readers, whose result has 16 bits."""
    producer = graph.producer(site.source)
    if isinstance(producer, Normalize) and not site.is_all_of(graph):
        site.read(graph, graph.add_op(replace(producer, output=_beside(graph, site))))


def _beside(graph: Graph, site: Site) -> TensorId:
    return graph.fresh_id(f"{site.source}.smooth")


def _into_parameters(graph: Graph, op: Normalize, site: Site, c: F64) -> None:
    """The layers read a normalisation with parameters of its own, or the only one."""
    parameters = [
        graph.add_constant(id, (graph.data(id).astype(np.float64) / c).astype(np.float32))
        for id in (op.gamma, op.beta)
    ]
    scaled = replace(op, inputs=(op.x, *parameters))
    if site.is_all_of(graph):
        graph.replace_op(scaled)
    else:
        site.read(graph, graph.add_op(replace(scaled, output=_beside(graph, site))))


def _into_layer(graph: Graph, averaged: AveragedLayer, c: F64) -> None:
    """Of channels that have one number, the factors are the same."""
    layer = averaged.layer
    assert isinstance(layer, Dense)
    weight, bias = weight_and_bias(graph, layer)
    factors = np.ones(len(bias))
    factors[averaged.channels] = c
    numbers = with_numbers(graph, layer, weight / factors[:, None], bias / factors, Mark.EQUALIZED)
    graph.set_inputs(layer, numbers)


def _behind(graph: Graph, site: Site, c: F64) -> None:
    affine = ChannelAffine(site.source, 1.0 / c, np.zeros_like(c))
    site.read(graph, graph.add_op(depthwise_of(graph, affine, _beside(graph, site))))


def _multiply_inputs(graph: Graph, layer: Dense, c: F64) -> None:
    op: Op = graph.op(layer.id)
    assert isinstance(op, Dense)
    weight, bias = weight_and_bias(graph, op)
    graph.set_inputs(op, with_numbers(graph, op, weight * c, bias, Mark.EQUALIZED))
