"""Which version of a TensorFlow Lite operator has kernels for 8 and for 16 bits.

As of tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc; an operator that is not here has
what qcomp writes since version 1. Tools that read files look at it before they look at types.
"""

from __future__ import annotations

from collections.abc import Mapping

VERSIONS: Mapping[str, tuple[int, int]] = {
    "ADD": (2, 3),
    "ARG_MAX": (2, 2),
    "AVERAGE_POOL_2D": (2, 3),
    "BATCH_MATMUL": (2, 3),
    "BROADCAST_TO": (2, 2),
    "CAST": (1, 1),
    "CONCATENATION": (2, 3),
    "CONV_2D": (3, 4),
    "DEPTHWISE_CONV_2D": (3, 5),
    "DEPTH_TO_SPACE": (1, 1),
    "EQUAL": (2, 2),
    "FULLY_CONNECTED": (5, 7),
    "GATHER": (2, 4),
    "LEAKY_RELU": (2, 2),
    "LESS": (2, 2),
    "LESS_EQUAL": (2, 2),
    "LOGISTIC": (2, 3),
    "LOG_SOFTMAX": (2, 2),
    "MAXIMUM": (2, 3),
    "MAX_POOL_2D": (2, 3),
    "MEAN": (2, 3),
    "MINIMUM": (2, 3),
    "MIRROR_PAD": (2, 3),
    "MUL": (2, 4),
    "NOT_EQUAL": (2, 2),
    "PADV2": (2, 3),
    "QUANTIZE": (2, 3),
    "REDUCE_MAX": (2, 3),
    "REDUCE_MIN": (2, 3),
    "RELU": (2, 3),
    "RESIZE_BILINEAR": (2, 3),
    "RESIZE_NEAREST_NEIGHBOR": (2, 3),
    "SOFTMAX": (2, 3),
    "SPACE_TO_DEPTH": (2, 2),
    "STRIDED_SLICE": (2, 4),
    "SUB": (2, 5),
    "TANH": (2, 3),
    "TILE": (1, 1),
    "TRANSPOSE": (2, 4),
    "TRANSPOSE_CONV": (3, 4),
}


def version_of(operator: str, bits: int) -> int:
    """The one that has kernels for activations of these bits."""
    narrow, wide = VERSIONS.get(operator, (1, 1))
    return narrow if bits == 8 else wide
