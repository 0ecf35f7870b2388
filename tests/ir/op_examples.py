"""An example of each op: the operands that it takes, by mnemonic."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from qcomp.ir.ops import Activation, Function, Mask, Reduction
from qcomp.quant.fixed_point import Form, Requantize


@dataclasses.dataclass(frozen=True)
class Example:
    """Operand types that an op takes, with the attributes that they demand; others are free."""

    operands: tuple[str, ...]
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)


IMAGE, I_IMAGE = "f32[1,4,4,4]", "i8[1,4,4,4]"
I16_IMAGE, I16_RESULT = "i16[1,4,4,4]", {"bits": 16, "zero_point": 0}
LINEAR = ("f32[4,1,1,4]", "f32[4]")
I_LINEAR = ("i32[4]", "i32[4]", "i32[4]")
GATES = {"activations": (Activation(Function.SIGMOID), Activation(Function.TANH)), "clip": 3.0}
CELL = {"activations": (Activation(Function.HARD_SIGMOID, 0.2, 0.5),) * 3, "has_lengths": True}
STATES = {
    "has_lengths": False,
    "hidden": Requantize(Form.WIDE, 3),
    "result": Requantize(Form.WIDE, 0, -32768, 32767, 16),
}
QUARTERS = (*["i32[8]"] * 3, "i32[3,1025]")
EXAMPLES = {
    "conv2d": Example((IMAGE, *LINEAR), {"groups": 1, "stride": (2, 1), "padding": (1, 0, 2, 1)}),
    "dense": Example((IMAGE, "f32[4,4]", "f32[4]")),
    "matmul": Example(("f32[2,3]", "f32[3,5]")),
    "batch_norm": Example((IMAGE, *["f32[4]"] * 4)),
    "clamp": Example((IMAGE,)),
    "unary": Example((IMAGE,)),
    "prelu": Example((IMAGE, "f32[4]")),
    **dict.fromkeys(("add", "sub", "mul", "div", "minimum", "maximum"), Example((IMAGE, "f32[1]"))),
    "compare": Example((IMAGE, "f32[4]")),
    "select": Example((IMAGE, "f32[4]", "f32[1]")),
    "reshape": Example((IMAGE,), {"shape": (64,)}),
    "transpose": Example((IMAGE,), {"permutation": (0, 3, 1, 2)}),
    "concat": Example((IMAGE, IMAGE, IMAGE), {"axis": 2}),
    "slice": Example(
        (IMAGE,), {"starts": (0, 3, 0, 1), "sizes": (1, 2, 2, 3), "steps": (1, -2, 3, 1)}
    ),
    "pad": Example((IMAGE,), {"before": (0, 1, 2, 0), "after": (0, 0, 3, 0)}),
    "gather": Example((IMAGE, "i64[2]"), {"axis": 3}),
    "embedding": Example((IMAGE, "f32[9,5]")),
    "broadcast_to": Example(("f32[1]",), {"shape": (2, 3)}),
    "tile": Example(("f32[2]",), {"repeats": (3,)}),
    "resize2d": Example((IMAGE,), {"size": (8, 6), "scale": (2.0, 1.5)}),
    "depth_to_space": Example((IMAGE,), {"block": 2}),
    "space_to_depth": Example((IMAGE,), {"block": 4}),
    "zero_stuff": Example((IMAGE,), {"stride": (2, 3)}),
    "quantize": Example((IMAGE,), {"bits": 16}),
    "dequantize": Example((I_IMAGE,)),
    "fake_quant_constant": Example(("f32[8,3]", "f64[3]"), {"axis": 1}),
    "integer_constant": Example(("i8[8,3]", "f64[8]", "i8[8]"), {"axis": 0}),
    "max_pool2d": Example((I_IMAGE,), {"kernel": (2, 3), "dilation": (2, 1)}),
    "average_pool2d": Example((IMAGE,), {"kernel": (2, 3)}),
    "reduce": Example((IMAGE,), {"axes": (1, 2)}),
    "softmax": Example((IMAGE,), {"axis": 3}),
    "log_softmax": Example((IMAGE,), {"axis": 1}),
    "rnn": Example(
        ("f32[5,3,2]", "f32[2,2]", "f32[2]", "f32[3,2]", "f32[3]"),
        {"activations": (Activation(Function.ELU, 0.5),), "has_lengths": True},
    ),
    "gru": Example(
        ("f32[5,3,6]", "f32[6,2]", "f32[6]", "f32[3,2]"), {**GATES, "has_lengths": False}
    ),
    "lstm": Example(
        ("f32[5,3,8]", "f32[8,2]", "f32[8]", *["f32[3,2]"] * 2, "f32[6]", "f32[3]"), CELL
    ),
    "argmax": Example((IMAGE,), {"axis": 3}),
    "q_conv2d": Example((I_IMAGE, "i8[4,1,1,1]", *I_LINEAR), {"groups": 4}),
    "q_dense": Example((I_IMAGE, "i8[4,4]", *I_LINEAR)),
    "q_rnn": Example(
        ("i16[5,3,2]", "i8[2,2]", *["i32[2]"] * 3, "i32[1,1025]", "i16[3,2]", "i8[3]"),
        {**STATES, "fractions": (15,), "has_lengths": True},
    ),
    "q_gru": Example(
        ("i16[5,3,6]", "i8[6,2]", *["i32[6]"] * 3, "i32[2,1025]", "i8[3,2]"),
        {**STATES, "fractions": (15, 11)},
    ),
    "q_lstm": Example(
        ("i16[5,3,8]", "i8[8,2]", *QUARTERS, "i8[3,2]", "i16[3,2]", *["i32[6]"] * 2),
        {**STATES, "fractions": (15, 15, 15)},
    ),
    "abs_max": Example((IMAGE,), {"axes": (1, 3)}),
    "scale_down": Example((IMAGE, "f32[1,4,4,1]")),
    "scale_up": Example((IMAGE, "f32[1,4,4,1]", "f32[4]")),
    "q_abs_max": Example((I16_IMAGE,), {"axes": (1, 3)}),
    "q_scale_down": Example((I16_IMAGE, "i16[1,4,4,1]")),
    "q_scale_up": Example(
        (I16_IMAGE, "i16[1,4,4,1]", "i32[4]"),
        {"shift": 30, "qmin": -128, "qmax": 127, "bits": 8},
    ),
    "q_matmul": Example(("i8[2,3]", "i8[3,5]")),
    **dict.fromkeys(("q_add", "q_mul", "q_minimum", "q_maximum"), Example((I_IMAGE, "i8[4,1]"))),
    "q_add_rescaled": Example(
        (I_IMAGE, "i8[4,1]"),
        {"requantize": Requantize(Form.TFLITE, 3), "left_shift": 20, "b_sign": -1},
    ),
    **dict.fromkeys(("q_add_wide", "q_div"), Example((I_IMAGE, "i16[4,1]"), I16_RESULT)),
    "q_embedding": Example((I_IMAGE, "i16[9,5]")),
    "q_compare": Example((I_IMAGE, "i16[4]"), {"bits": 8}),
    "q_select": Example((I_IMAGE, "i16[4]", "i16[1]")),
    "pair_table": Example((I_IMAGE, "i8[4,1]", "i8[65536]")),
    "table": Example((I_IMAGE, "i16[256]")),
    "q_rescale": Example((I_IMAGE,)),
    "interpolate": Example((I16_IMAGE, "i32[513]"), {"step_bits": 7, **I16_RESULT}),
    "q_prelu": Example((I16_IMAGE, "i32[4]"), {"bits": 8}),
    "q_resize2d": Example((I_IMAGE, "i32[5,3]", "i32[6,3]")),
    "q_prelu_rescaled": Example((I_IMAGE, "i8[4]"), {"requantize": Requantize(Form.TFLITE, 3)}),
    "q_average_pool2d": Example((I_IMAGE, "i32[7]"), {"kernel": (2, 3)}),
    "q_reduce_sum": Example((I_IMAGE,), {"axes": (3,)}),
    "q_reduce_extreme": Example((I_IMAGE,), {"axes": (0, 1, 2, 3), "kind": Reduction.MIN}),
    "q_softmax": Example(
        (I_IMAGE, "i32[256]"), {"axis": 3, "finer": 0, "bits": 8, "form": Form.TFLITE}
    ),
    "normalize": Example(
        (IMAGE, "f32[4]", "f32[1]"), {"axes": (1, 2), "epsilon": 1e-5, "least": 0.0, "reach": 7.5}
    ),
    "q_normalize": Example(
        (I_IMAGE, "i32[192]", "i16[4]", "i32[4]"),
        {
            "axes": (1, 3),
            "fraction_bits": 8,
            "mean_shift": 30,
            "added": 2**40,
            "least": 1,
            "precision": 13,
            "shift": 12,
            "qmin": -128,
            "qmax": 127,
            "bits": 8,
        },
    ),
    "attention": Example(
        ("f32[2,3,4,8]", "f32[2,5,2,8]", "f32[2,5,2,6]", "f32[3,5]", "f32[2,1,1,1]"),
        {"masks": (Mask.ADDED, Mask.EXCLUDED)},
    ),
    "q_attention": Example(
        (
            "i8[2,3,4,8]",
            "i16[2,5,2,8]",
            "i8[2,5,2,6]",
            "i16[64]",
            "i16[3,5]",
            "i32[4,1,1]",
            "i8[1]",
        ),
        {
            "masks": (Mask.ADDED, Mask.SCORES, Mask.ALLOWED),
            "mask_zero_points": (0, 0, -3),
            "probability_bits": 15,
            "product_shift": 3,
            **I16_RESULT,
        },
    ),
    "interpolate_octaves": Example(("i32[4,3]", "i32[258]"), {"step_bits": 3, **I16_RESULT}),
    "log_power": Example((IMAGE, IMAGE)),
    "q_log_power": Example((I16_IMAGE, I16_IMAGE, "i64[305]"), {"bits": 8, "down": 3}),
    "q_log_softmax": Example((I16_IMAGE, "i32[512]", "i64[305]"), {"axis": 0, **I16_RESULT}),
}
