"""`net.errors(data)`: errors of every tensor, with their causes and their share at the outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from qcomp.calibration.data import Source
from qcomp.calibration.samples import ConvertedSamples, Samples
from qcomp.errors import CompileError
from qcomp.evaluation.labelled import labelled
from qcomp.frontends import ModelLike
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.progress import bar, tracked
from qcomp.quant.noise import Noise
from qcomp.report.alone import TensorError
from qcomp.report.errors import Measurement
from qcomp.report.integer_counts import IntegerCounts
from qcomp.report.network import Network, Tensor
from qcomp.report.pairs import Pairs, unrounded
from qcomp.report.replay import Replay, expect_alike, replayed
from qcomp.report.shares import OutputShares, Share


@dataclass(frozen=True)
class Errors:
    """Of every integer tensor that stands for floats, over `samples` samples.

    shares: of the error at the outputs, the largest first, on the first `shared_samples` of them.
    notes: what was assumed or left out.
    """

    name: str
    tensors: tuple[TensorError, ...]
    shares: tuple[Share, ...]
    samples: int
    shared_samples: int
    outputs: tuple[TensorId, ...]
    notes: tuple[str, ...]

    @staticmethod
    def summed(
        found: Subject,
        measurement: Measurement,
        shares: OutputShares,
        batch: int,
        told: Callable[[], None],
    ) -> Errors:
        """Of what was measured; `told` is called after each op's share."""
        ranked = tuple(shares.found(told))
        return Errors(
            found.net.name,
            tuple(measurement.found),
            ranked,
            measurement.samples * batch,
            shares.samples * batch,
            tuple(dict.fromkeys(found.net.graph.outputs.values())),
            (*found.notes, *measurement.notes),
        )

    @cached_property
    def of(self) -> Mapping[TensorId, TensorError]:
        """By integer tensor."""
        return {error.id: error for error in self.tensors}

    @property
    def output_noise(self) -> Noise:
        """Of the integer network at all outputs together."""
        measured = [self.of[id].cumulative for id in self.outputs if id in self.of]
        return sum((figures.noise for figures in measured if figures), Noise())

    @property
    def explained(self) -> Noise:
        """The noises of all ops alone: about that of the integer network, on fewer samples."""
        noise = sum(share.noise.noise for share in self.shares)
        return Noise(self.shares[0].noise.signal if self.shares else 0.0, noise)


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with what its errors are taken against; `replay` where the model was given."""

    net: Network
    pairs: Pairs
    replay: Replay | None
    notes: tuple[str, ...]

    def measurement(self, integers: IntegerCounts | None = None) -> Measurement:
        """Of this network."""
        return Measurement(self.pairs, self.net.config.bias_correction, integers=integers)

    def samples(self, source: Source, count: int | None) -> Samples:
        """Data in the units of the float graph's inputs; labels among them are left out."""
        found = labelled(source, None, [i.name for i in self.net.inputs], count)
        source, count = found.source, None if found.names else count  # files are chosen already
        if self.replay is not None:
            return self.replay.samples(source, count)
        inputs = inputs_of(self.net)
        how = self.net.config.preprocessing
        given = Samples(source, inputs, preprocessing=how, samples=count)
        return ConvertedSamples(given, self.net.graph.conversions)


def subject(
    net: Network,
    model: ModelLike | None,
    calibration: Source | None,
    *,
    samples: int | None = None,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Subject:
    """Against the model's floats where it is given, and fits; else against unrounded activations.

    CompileError for a network that came in integers.
    """
    if net.qdq is None:
        raise CompileError(
            f"{net.name} came in integers, or an earlier version saved it: there are no floats to "
            "compare it with"
        )
    if model is None:
        told = "errors are against the network with rounded weights and no other rounding: give "
        return Subject(
            net, Pairs(unrounded(net.qdq), net.qdq, net.graph), None, (f"{told}the model",)
        )
    replay = replayed(
        model,
        calibration,
        net.config,
        samples=samples,
        bind=bind,
        bind_values=bind_values,
        progress=progress,
    )
    if replay.is_quantized:
        told = "the model is quantized already: errors are against it without rounded activations"
        return Subject(net, Pairs(unrounded(net.qdq), net.qdq, net.graph), replay, (told,))
    try:
        expect_alike(replay.graph, net.qdq)
    except CompileError as error:
        told = f"errors are against the network with rounded weights, as {error}"
        return Subject(net, Pairs(unrounded(net.qdq), net.qdq, net.graph), replay, (told,))
    return Subject(net, Pairs(replay.graph, net.qdq, net.graph), replay, ())


def errors(found: Subject, samples: Samples, *, progress: bool = False) -> Errors:
    """Both ways, with causes and shares."""
    measurement, shares = found.measurement(), OutputShares(found.pairs)
    for sample in tracked(samples, "errors of tensors", samples.expected, shown=progress):
        shares.add(*measurement.add(sample))
    with bar("shares of ops", shown=progress) as done:
        return Errors.summed(found, measurement, shares, samples.batch, done.advance)


def inputs_of(net: Network) -> Mapping[str, TensorType]:
    """The types of a network's inputs, in the caller's units."""
    return {i.name: _type(i) for i in net.inputs}


def _type(tensor: Tensor) -> TensorType:
    dtype = DType.F32 if tensor.is_quantized else next(d for d in DType if d.numpy == tensor.real)
    return TensorType(dtype, tensor.shape)
