"""Which operators have the bits of LiteRT's reference kernels with arithmetic="tflite"."""

from __future__ import annotations

from collections.abc import Mapping

from operator_cases import BOTH, FLOATS, Case

_MORE = (
    "ABS", "BATCH_MATMUL", "BATCH_MATMUL, adjoint", "BROADCAST_TO", "EXP", "GELU",
    "GELU, approximate", "LOG", "RELU_0_TO_1", "RESIZE_BILINEAR", "RESIZE_BILINEAR, centers",
    "RESIZE_BILINEAR, corners", "RESIZE_NEAREST_NEIGHBOR, centers",
    "RESIZE_NEAREST_NEIGHBOR, corners", "RSQRT", "SQRT", "SUM",
)  # fmt: skip
EXACT: Mapping[str, Case] = {**BOTH, **{name: FLOATS[name] for name in _MORE}}

ONE_SCALE = ("CONCATENATION", "MAXIMUM", "MINIMUM", "PACK")
"""Operators whose operands have one scale."""

_NO_KERNEL = "LiteRT has no such kernel"
LACKING: Mapping[tuple[str, str], str] = {
    **{(name, "uint8"): _NO_KERNEL for name in ("ABS", "EXP", "LOG", "RSQRT", "SQRT")},
    ("BATCH_MATMUL", "uint8"): _NO_KERNEL,
    **{
        (name, "int16"): _NO_KERNEL
        for name in ("DEPTH_TO_SPACE", "HARD_SWISH", "RELU_0_TO_1", "RELU_N1_TO_1",
                     "SPACE_TO_DEPTH")
    },
    ("SUM", "int8"): "LiteRT takes its bytes for some without a sign",
    ("SUM", "int16"): "LiteRT takes its integers for bytes",
    ("GELU", "int16"): "its table has the last bits of the C library's erfc and tanh",
}  # fmt: skip
"""Where there is nothing to be equal to, by operator and type."""

REFUSED: Mapping[tuple[str, str], str] = {
    ("FULLY_CONNECTED", "int16"): "a dense layer of 16 bits multiplies by float64",
    ("PRELU", "int16"): "a PReLU of 16 bits has no kernel",
    ("RESIZE_BILINEAR", "uint8"): "a bilinear resize of bytes without a sign is one of floats",
}
"""What qcomp refuses with this arithmetic, and how it says so."""


def operator_of(case: str) -> str:
    return case.split(",")[0].split(" ")[0]
