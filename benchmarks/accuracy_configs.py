"""The rows of the accuracy tables: which network in which configuration, and which peer on what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo_report import NETWORKS

from qcomp import QuantizationConfig

CLASSIFIERS = (
    "mobilenetv2_tf",
    "mobilenetv1_025_bn",
    "squeezenet1_1",
    "resnet20_cifar10",
    "mnist",
)

PEERS: Mapping[str, Mapping[str, str]] = {
    "float": {name: name for name in NETWORKS},
    "ort_static": {name: name for name in NETWORKS},
    "nncf": {name: name for name in NETWORKS},
    "litert": {"mobilenetv2_tf": "mobilenetv2_tf_ptq"},  # TensorFlow's own int8 file
}
"""By peer and network, the zoo's name of what the peer is given."""


@dataclass(frozen=True)
class Config:
    """qcomp's choices, and the networks that are measured with them."""

    choices: QuantizationConfig
    networks: tuple[str, ...]
    calibrated: bool = True


def per_tensor(**choices: Any) -> Config:
    """A step of the ablation: what is not named is off, and nothing is searched."""
    off: dict[str, Any] = {
        "per_channel": False,
        "recipe": "fast",
        "equalize": False,
        "absorb_bias": False,
        "bias_correction": None,
    }
    return Config(QuantizationConfig(**{**off, **choices}), ("mobilenetv2_tf",))


CONFIGS: Mapping[str, Config] = {
    "w8a8": Config(QuantizationConfig(), tuple(NETWORKS)),
    "w8a8-tensor": Config(
        QuantizationConfig(per_channel=False), ("mobilenetv2_tf", "mobilenetv1_025_bn")
    ),
    "w8a8-tensor-data-free": Config(
        QuantizationConfig(per_channel=False, recipe="data-free"),
        ("mobilenetv1_025_bn",),
        calibrated=False,
    ),
    "w4a8": Config(
        QuantizationConfig(weight_bits=4, rounding="adaround"),
        ("mobilenetv2_tf", "resnet20_cifar10", "squeezenet1_1"),
    ),
    "w8a16": Config(QuantizationConfig(activation_bits=16), CLASSIFIERS),
    "fold": per_tensor(),
    "fold-equalize": per_tensor(equalize=True),
    "fold-equalize-absorb": per_tensor(equalize=True, absorb_bias=True),
    "fold-equalize-absorb-correct": per_tensor(
        equalize=True, absorb_bias=True, bias_correction="empirical"
    ),
}
