"""Every choice of a compilation, in one frozen record."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qcomp.errors import CompileError, did_you_mean
from qcomp.extensions import is_own
from qcomp.input_forms import check_outputs, input_forms
from qcomp.preprocessing import Preprocessing

AUTO = "auto"
RECIPES = ("auto", "fast", "data-free", "best")
RANGES = (
    "mse",
    "minmax",
    "ema",
    "percentile",
    "kl",
    "aciq",
    "cross-entropy",
    "batchnorm",
)
WEIGHT_RANGES = ("minmax", "mse", "seqmse")
ROUNDINGS = ("nearest", "adaround", "gptq", "seqmse")
CORRECTIONS = ("empirical", "analytic", None)
WEIGHT_BITS = (8, 4, 3, 2, 1)
ACTIVATION_BITS = (8, 16)
NATIVE, TFLITE, TFLM, ONNX = "native", "tflite", "tflm", "onnx"
ARITHMETICS = (NATIVE, TFLITE, TFLM, ONNX)
STATIC, DYNAMIC = "static", "dynamic"
ACTIVATIONS = (STATIC, DYNAMIC)

_CHOICES: Mapping[str, tuple[Any, ...]] = {
    "weight_bits": WEIGHT_BITS,
    "first_last_weight_bits": WEIGHT_BITS,
    "activations": ACTIVATIONS,
    "activation_bits": (AUTO, *ACTIVATION_BITS, 32),
    "range": (AUTO, *RANGES),
    "weight_range": (AUTO, *WEIGHT_RANGES),
    "rounding": (AUTO, *ROUNDINGS),
    "bias_correction": (AUTO, *CORRECTIONS),
    "equalize": (AUTO, "gates", True, False),
    "smooth": (AUTO, True, False),
    "absorb_bias": (AUTO, True, False),
    "arithmetic": ARITHMETICS,
}
OVERRIDABLE = (
    "weight_bits",
    "activations",
    "activation_bits",
    "per_channel",
    "group_size",
    "symmetric_activations",
    "range",
    "weight_range",
    "rounding",
)

_PASS = ("name", "after", "fields")

Overrides = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class QuantizationConfig:
    """Choices of quantization; the command line's options have the same names.

    A field that is "auto" is for the recipe to decide.

    recipe: "auto" (tries what the data at hand allows and keeps what gives the best outputs),
        "fast" (no trials), "data-free" (batch-norm statistics only), "best" (also learns the
        rounding of weights), or the path of a recipe file (YAML).
    weight_bits: 8, 4, 3, 2 (ternary) or 1 (binary).
    first_last_weight_bits: the least bits of the first and the last layer with weights.
    group_size: neighbouring weights of an output channel that share a step; 0: all of them.
    activations: "static", or "dynamic": what a layer reads has 16 bits, and is rounded to 8 by a
        scale that is found in each run, for each row of a dense layer (a token), for each image of
        a convolution.
    activation_bits: 8, 16 (symmetric), or "auto": 8, and 16 for single activations where 8 bits
        fall short and `max_slowdown` allows. In an override 32 as well, of sums that steep
        functions read.
    max_slowdown: the time of a run, over that with 8 bits everywhere, that 16 bits may take where
        "auto" chooses them, by the target's estimate.
    per_channel: one weight scale for each output channel; False: one for each tensor.
    symmetric_activations: activation zero points are 0.
    power_of_two_scales: all scales are powers of two, so that requantization only shifts.
    range: how activation ranges are estimated (docs/calibration.md), or the interval itself in an
        override: "mse", "minmax", "ema", "percentile", "kl", "aciq", "cross-entropy", "batchnorm",
        or an estimator of another package, such as "acme.trimmed".
    weight_range: "minmax", "mse" (least squared error of the weights) or "seqmse" (of the layer's
        results, on the inputs that the quantized network gives it).
    input_range: the interval of the model's inputs, where there is no calibration data.
    equalize: cross-layer equalization before quantization (Nagel et al. 2019); "gates": also
        through SiLU, hard-swish and GELU where that spares noise, at the cost of time.
    smooth: channels of what the dense layers of a transformer read are scaled, and weights
        inversely (SmoothQuant, Xiao et al. 2023).
    absorb_bias: high biases are absorbed by the next layer (same paper).
    bias_correction: "empirical" (on calibration data, layer by layer), "analytic" (from channel
        means of the float network, measured or implied by batch normalisation) or None.
    rounding: how weights are rounded: "nearest", "adaround", "gptq"; "seqmse" is short for
        weight_range="seqmse" with rounding="nearest".
    rounding_iterations: steps of AdaRound for each layer.
    snap_scales: move weight scales by up to 0.1 % so that requantize multipliers are exact.
    float_tail: leave the sigmoid or softmax by which an output ends to the floats outside.
    preprocessing: how pictures become the input; None where nobody said, and none were read.
    inputs: how the caller has inputs, by name or "*" for every other one: {"type": "uint8",
        "mean": 127.5, "std": (58.4, 57.1, 57.4), "layout": "NHWC"}, each of which may be left out.
        The model gets (x - mean) / std, with channels where it has them.
    outputs: {name: "argmax"}: the index of the largest value along the last axis, not the values.
    states: {"h_in": "h_out"}: an input has in the next run what an output has in this one, or the
        rows that it has there are added. Both have the same integers, so nothing is rounded
        between; "auto" takes what looks like a state by name and type; see docs/c-interface.md.
    arithmetic: how results are rounded to integers: "native"; "tflite", the bits of TensorFlow
        Lite's reference kernels, of TFLite files whose activations are integers; "tflm", those of
        TensorFlow Lite Micro and CMSIS-NN, of the same files; or "onnx", those of ONNX Runtime's
        quantized kernels, of ONNX models that are quantized.
    passes: of other packages, in the order in which they run: {"name": "acme.prune", "after":
        "fold-batch-norm", "fields": {"share": 0.1}}, of which the last may be left out, and
        is None where only the caller has the pass (docs/extending.md).
    overrides: other values of some fields for some tensors and layers. A key is the id of a layer
        or tensor, the mnemonic of an operator ("conv2d") or a regular expression that matches a
        whole id; of several that match, the last one wins, field by field.
    """

    recipe: str = AUTO
    weight_bits: int = 8
    first_last_weight_bits: int = 8
    group_size: int = 0
    activations: str = STATIC
    activation_bits: int | str = AUTO
    max_slowdown: float = 1.1
    per_channel: bool = True
    symmetric_activations: bool = False
    power_of_two_scales: bool = False
    range: str | tuple[float, float] = AUTO
    weight_range: str = AUTO
    input_range: tuple[float, float] = (-1.0, 1.0)
    equalize: bool | str = AUTO
    smooth: bool | str = AUTO
    absorb_bias: bool | str = AUTO
    bias_correction: str | None = AUTO
    rounding: str = AUTO
    rounding_iterations: int = 1000
    snap_scales: bool = True
    float_tail: bool = False
    preprocessing: Preprocessing | None = None
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, str] | str = field(default_factory=dict)
    arithmetic: str = NATIVE
    passes: tuple[Mapping[str, Any], ...] = ()
    overrides: Overrides = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rounding == "seqmse":
            object.__setattr__(self, "rounding", "nearest")
            object.__setattr__(self, "weight_range", "seqmse")
        for name, accepted in _CHOICES.items():
            _check_choice(name, getattr(self, name), accepted)
        _check_interval("input_range", self.input_range)
        if not 1.0 <= self.max_slowdown < math.inf:
            raise CompileError(f"max_slowdown={self.max_slowdown}: expected 1 or more")
        if self.group_size < 0:
            raise CompileError(f"group_size={self.group_size}: expected 0 or more weights")
        if self.rounding_iterations < 1:
            raise CompileError(
                f"rounding_iterations={self.rounding_iterations}: expected 1 or more"
            )
        input_forms(self.inputs)
        check_outputs(self.outputs)
        if isinstance(self.states, str):
            _check_choice("states", self.states, (AUTO,))
        for p in self.passes:
            _check_pass(p)
        for key, fields in self.overrides.items():
            _check_override(key, fields)

    @property
    def is_dynamic(self) -> bool:
        """Whether some layer's scale is to be found in each run."""
        return DYNAMIC in (self.activations, *dict(self.own_activations).values())

    @property
    def own_activations(self) -> tuple[tuple[str, str], ...]:
        """The overrides of `activations`."""
        found = ((key, fields.get("activations")) for key, fields in self.overrides.items())
        return tuple((key, value) for key, value in found if value is not None)

    @property
    def decided_activation_bits(self) -> int:
        """`activation_bits` of a configuration in which nothing is left to decide."""
        assert isinstance(self.activation_bits, int), self.activation_bits
        return self.activation_bits

    def at(self, id: str, mnemonic: str | None = None) -> QuantizationConfig:
        """The choices for one layer or tensor; `mnemonic` of the op whose result it is."""
        chosen: dict[str, Any] = {}
        for key, fields in self.overrides.items():
            if matches(key, id, mnemonic):
                chosen |= fields
        return dataclasses.replace(self, **chosen, overrides={}) if chosen else self

    def unmatched(self, names: Iterable[tuple[str, str | None]]) -> list[str]:
        """The override keys that match none of (id, mnemonic)."""
        known = list(names)
        return [k for k in self.overrides if not any(matches(k, id, m) for id, m in known)]


def matches(key: str, id: str, mnemonic: str | None) -> bool:
    """Whether an override's key speaks of a layer or tensor."""
    if key in (id, mnemonic):
        return True
    pattern = _pattern(key)
    return pattern is not None and pattern.fullmatch(id) is not None


@functools.cache
def _pattern(key: str) -> re.Pattern[str] | None:
    """None for a name that is no regular expression, as one with brackets."""
    try:
        return re.compile(key)
    except re.error:
        return None


def _check_choice(name: str, value: object, accepted: tuple[Any, ...]) -> None:
    if isinstance(value, tuple) and name == "range":
        _check_interval(name, value)
    elif name == "range" and is_own(value):
        pass  # an estimator of another package, which is looked for when it is used
    elif not any(value is a or (type(value) is type(a) and value == a) for a in accepted):
        listed = ", ".join(map(repr, accepted))
        raise CompileError(
            f"{name}={value!r}: expected one of {listed}{did_you_mean(value, accepted)}"
        )


def _check_pass(p: object) -> None:
    if not isinstance(p, Mapping) or not {"name", "after"} <= p.keys() <= {*_PASS}:
        raise CompileError(f"passes: {p!r}: expected a mapping of {', '.join(_PASS)}")
    if not (is_own(p["name"]) and isinstance(p["after"], str)):
        raise CompileError(
            f"passes: {p['name']!r} after {p['after']!r}: expected names, of which that of the "
            "pass has a dot, such as 'acme.prune'"
        )
    fields = p.get("fields", {})
    plain = isinstance(fields, Mapping) and all(
        isinstance(name, str) and is_plain(value) for name, value in fields.items()
    )
    if fields is not None and not plain:
        raise CompileError(
            f"passes: {p['name']}: fields are {fields!r}; expected names with numbers, texts, "
            "None, or lists of these"
        )


def is_plain(value: object) -> bool:
    """Whether files of any kind can hold it: numbers that are finite, texts, None, lists of these.

    >>> is_plain([1, 0.5, "low"])
    True
    """
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, int | str)


def _check_interval(name: str, interval: tuple[float, ...]) -> None:
    if len(interval) != 2 or not -math.inf < interval[0] < interval[1] < math.inf:
        raise CompileError(f"{name}={interval}: expected (low, high), low < high")


def _check_override(key: str, fields: Mapping[str, Any]) -> None:
    where = f"overrides: {key!r}"
    if not isinstance(fields, Mapping):
        raise CompileError(f"{where}: expected fields with their values, got {fields!r}")
    if unknown := [str(name) for name in fields if name not in OVERRIDABLE]:
        raise CompileError(
            f"{where}: can't override {', '.join(unknown)}; expected some of "
            f"{', '.join(OVERRIDABLE)}"
        )
    try:
        QuantizationConfig(**fields)
    except CompileError as error:
        raise CompileError(f"{where}: {error}") from error
