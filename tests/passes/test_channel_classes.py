"""Which channels must share a factor, and which ops end it, with the reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from unequal_nets import Net

from qcomp.ir.ops import (
    NO_CLAMP,
    RELU,
    RELU6,
    Add,
    AveragePool2d,
    Clamp,
    ClampRange,
    Concat,
    Function,
    Gather,
    MaxPool2d,
    Mul,
    Op,
    Pad,
    PRelu,
    Reduce,
    Reduction,
    Reshape,
    Slice,
    Softmax,
    Unary,
)
from qcomp.passes.lib.channel_classes import ChannelClasses, channel_classes


def classes_of(net: Net, *opened: str) -> ChannelClasses:
    """Of a net that goes on with a convolution, so that its last value can be scaled."""
    return channel_classes(net.conv("last", 2, kernel=1).returning(), opened)


BETWEEN: dict[str, Callable[[Net], Op]] = {
    "leaky relu": lambda n: Unary(inputs=("a",), output="f", function=Function.LEAKY_RELU),
    "prelu": lambda n: PRelu(inputs=("a", n.constant("p", [0.1, 2, -1, 0])), output="f"),
    "relu": lambda n: Clamp(inputs=("a",), output="f", clamp=RELU),
    "relu6": lambda n: Clamp(inputs=("a",), output="f", clamp=RELU6),
    "max pool": lambda n: MaxPool2d(inputs=("a",), output="f", kernel=(2, 2)),
    "average pool": lambda n: AveragePool2d(inputs=("a",), output="f", kernel=(2, 2)),
    "mean": lambda n: Reduce(inputs=("a",), output="f", kind=Reduction.MEAN, axes=(1, 2)),
    "pad": lambda n: Pad(inputs=("a",), output="f", before=(0, 1, 2, 0), after=(0, 1, 0, 0)),
    "scale": lambda n: Unary(inputs=("a",), output="f", function=Function.AFFINE, alpha=-2.0),
    "pixels": lambda n: Reshape(inputs=("a",), output="f", shape=(1, 1, 36, 4)),
    "constant": lambda n: Add(inputs=("a", n.constant("k", [1, 2, 3, 4])), output="f"),
    "factors": lambda n: Mul(inputs=("a", n.constant("k", [1, 2, 3, 4])), output="f"),
}


@pytest.mark.parametrize("between", BETWEEN)
def test_a_homogeneous_op_ties_each_channel_to_itself(between: str) -> None:
    net = Net().conv("a", 4, clamp=NO_CLAMP)
    found = classes_of(net.then(BETWEEN[between](net)))
    assert_array_equal(found.of["f"], found.of["a"])
    assert len(set(found.of["a"])) == 4
    assert 0 not in found.of["a"]


ENDING: dict[str, tuple[Callable[[Net], Op], str]] = {
    "sigmoid": (
        lambda n: Unary(inputs=("a",), output="f", function=Function.SIGMOID),
        "%f (unary) is not positive-homogeneous per channel",
    ),
    "shift": (
        lambda n: Unary(inputs=("a",), output="f", function=Function.AFFINE, beta=1.0),
        "%f (unary) is not positive-homogeneous per channel",
    ),
    "softmax": (
        lambda n: Softmax(inputs=("a",), output="f", axis=3),
        "%f (softmax) is not positive-homogeneous per channel",
    ),
    "square": (
        lambda n: Mul(inputs=("a", "a"), output="f"),
        "%f (mul) is not positive-homogeneous per channel",
    ),
    "mean of channels": (
        lambda n: Reduce(inputs=("a",), output="f", kind=Reduction.MEAN, axes=(3,)),
        "%f (reduce) is not positive-homogeneous per channel",
    ),
    "sum with an input": (
        lambda n: Add(inputs=("a", "x"), output="f"),
        "%x is an input of the graph",
    ),
    "pad": (
        lambda n: Pad(
            inputs=("a",), output="f", before=(0, 1, 1, 0), after=(0, 0, 0, 0), value=1.0
        ),
        "%f (pad) is not positive-homogeneous per channel",
    ),
    "clamp": (
        lambda n: Clamp(inputs=("a",), output="f", clamp=ClampRange(-1.0, 1.0)),
        "%f clamps to (-1.0, 1.0)",
    ),
}


@pytest.mark.parametrize("name", ENDING)
def test_an_op_that_is_not_homogeneous_fixes_what_it_reads(name: str) -> None:
    make, reason = ENDING[name]
    net = Net().conv("a", 4, clamp=NO_CLAMP)
    found = classes_of(net.then(make(net)))
    assert_array_equal(found.of["a"], 0)
    assert found.why_fixed("a") == reason


def test_an_output_of_the_graph_is_fixed() -> None:
    found = channel_classes(Net().conv("a", 4).conv("b", 4).returning("a"), ())
    assert_array_equal(found.of["a"], 0)
    assert found.why_fixed("a") == "%a is an output of the graph"


def test_both_sides_of_a_sum_have_the_same_factors() -> None:
    net = Net().conv("a", 4).conv("b", 4)
    found = classes_of(net.then(Add(inputs=("a", "b"), output="sum")))
    assert_array_equal(found.of["a"], found.of["b"])
    assert 0 not in found.of["a"]


def test_a_concatenation_keeps_the_factors_of_its_parts() -> None:
    net = Net().conv("a", 4).conv("b", 3)
    found = classes_of(net.then(Concat(inputs=("b", "a"), output="f", axis=3)))
    assert_array_equal(found.of["f"], [*found.of["b"], *found.of["a"]])
    assert len(set(found.of["f"])) == 7


def test_a_part_beside_an_input_can_be_scaled_by_itself() -> None:
    net = Net().conv("a", 4)
    found = classes_of(net.then(Concat(inputs=("a", "x"), output="f", axis=3)))
    assert_array_equal(found.of["f"], [*found.of["a"], 0, 0, 0, 0])
    assert 0 not in found.of["a"]


def test_channels_are_followed_through_slices_gathers_and_a_flatten() -> None:
    net = Net().conv("a", 4)
    part = Slice(
        inputs=("a",), output="s", starts=(0, 0, 0, 1), sizes=(1, 6, 6, 3), steps=(1, 1, 1, 1)
    )
    net.then(part)
    indices = net.graph.add_constant("indices", np.array([2, 0, 0], np.int64))
    net.then(Gather(inputs=("s", indices), output="g", axis=3))
    net.then(Reshape(inputs=("g",), output="flat", shape=(1, 108))).dense("last", 2)
    found = channel_classes(net.returning(), ())
    assert_array_equal(found.of["s"], found.of["a"][1:])
    assert_array_equal(found.of["g"], found.of["a"][[3, 1, 1]])
    assert_array_equal(found.of["flat"], np.tile(found.of["g"], 36))


def test_a_shuffle_of_channels_is_followed() -> None:
    net = Net().conv("a", 4)
    net.then(Reshape(inputs=("a",), output="pairs", shape=(1, 6, 6, 2, 2)))
    found = classes_of(net.then(Reshape(inputs=("pairs",), output="f", shape=(1, 6, 6, 4))))
    assert found.of["f"][0] == found.of["f"][2] == found.of["pairs"][0]
    assert found.of["f"][1] == found.of["f"][3] == found.of["pairs"][1]


def test_a_product_hands_on_the_factors_of_the_operand_that_is_no_gate() -> None:
    net = Net().conv("a", 4)
    net.then(Unary(inputs=("x",), output="gate", function=Function.SIGMOID))
    found = classes_of(net.then(Mul(inputs=("gate", "a"), output="f")))
    assert_array_equal(found.of["f"], found.of["a"])
    assert 0 not in found.of["a"]
    assert_array_equal(found.of["gate"], 0)


def test_an_opened_gate_hands_factors_on_and_a_closed_one_does_not() -> None:
    def net() -> Net:
        silu = Unary(inputs=("a",), output="f", function=Function.SILU)
        return Net().conv("a", 4, clamp=NO_CLAMP).then(silu)

    assert_array_equal(classes_of(net()).of["a"], 0)
    opened = classes_of(net(), "f")
    assert_array_equal(opened.of["f"], opened.of["a"])
    assert 0 not in opened.of["a"]
