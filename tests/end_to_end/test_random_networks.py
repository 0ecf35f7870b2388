"""Random ONNX networks: the generated code equals the specification in every bit, on two ISAs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import qcomp
from qcomp.targets.catalog import target
from qcomp.targets.cpu.process.jit import load_objects

Shape = tuple[int, ...]
Array = NDArray[Any]
Pick = Callable[[Sequence[Any]], Any]

MAX_SIZE = 6000
UNARIES = ("Relu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "Softplus", "Abs", "Neg", "Elu")


class Grower:
    """Adds ONNX nodes; `values` are the tensors so far, with their shapes."""

    def __init__(self, pick: Pick, seed: int) -> None:
        self.pick = pick
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: dict[str, Shape] = {}
        self.values: dict[str, Shape] = {}

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, *shape: int) -> str:
        fan = max(1, int(np.prod(shape[1:])))
        values = self.random.normal(size=shape) / np.sqrt(fan)
        return self.constant(values.astype(np.float32))

    def add(self, op: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.values[name] = tuple(int(e) for e in shape)
        return name

    # Each step reads a tensor and adds nodes, or leaves the tensor where it does not fit.

    def conv(self, x: str) -> None:
        n, c, h, w = self.values[x]
        groups = self.pick([g for g in (1, 1, 2, c) if c % g == 0])
        out = groups * self.pick([1, 1, 2, 3, 17] if groups < 4 else [1, 1, 2])
        kernel = self.pick([(1, 1), (3, 3), (3, 3), (2, 3), (5, 1)])
        dilation, stride = self.pick([1, 1, 1, 2]), self.pick([1, 1, 2, 3])
        pads = [self.pick([0, 1, 2]) for _ in range(4)]
        extents = [
            (e + pads[i] + pads[i + 2] - dilation * (kernel[i] - 1) - 1) // stride + 1
            for i, e in enumerate((h, w))
        ]
        if min(extents) < 1 or n * out * extents[0] * extents[1] > MAX_SIZE:
            return
        operands = [x, self.normal(out, c // groups, *kernel)]
        if self.pick([True, False]):
            operands.append(self.normal(out))
        y = self.add(
            "Conv", operands, (n, out, *extents), group=groups, pads=pads,
            strides=[stride] * 2, dilations=[dilation] * 2, kernel_shape=kernel,
        )  # fmt: skip
        if self.pick([True, False]):
            parameters = [self.random.uniform(0.5, 1.5, out).astype(np.float32) for _ in range(4)]
            names = [self.constant(p) for p in parameters]
            y = self.add("BatchNormalization", [y, *names], self.values[y])
        if self.pick([True, False]):
            self.add("Relu", [y], self.values[y])

    def conv_transpose(self, x: str) -> None:
        n, c, h, w = self.values[x]
        out, k, stride = self.pick([1, 3]), self.pick([2, 3]), self.pick([1, 2])
        extents = [(e - 1) * stride + k for e in (h, w)]
        if n * out * extents[0] * extents[1] <= MAX_SIZE:
            weight = self.normal(c, out, k, k)
            self.add("ConvTranspose", [x, weight], (n, out, *extents), strides=[stride] * 2)

    def pool(self, x: str) -> None:
        n, c, h, w = self.values[x]
        k, stride, pad = self.pick([(2, 2), (3, 3), (3, 2)]), self.pick([1, 2]), self.pick([0, 1])
        extents = [(e + 2 * pad - a) // stride + 1 for e, a in zip((h, w), k, strict=True)]
        if min(extents) < 1:
            return
        op = self.pick(["MaxPool", "AveragePool"])
        extra = {"count_include_pad": self.pick([0, 1])} if op == "AveragePool" else {}
        attributes = {"kernel_shape": k, "strides": [stride] * 2, "pads": [pad] * 4}
        self.add(op, [x], (n, c, *extents), **attributes, **extra)

    def global_pool(self, x: str) -> None:
        n, c, _, _ = self.values[x]
        pooled = self.add(self.pick(["GlobalAveragePool", "GlobalMaxPool"]), [x], (n, c, 1, 1))
        if self.pick([True, False]):  # squeeze and excite
            gate = self.add("Sigmoid", [pooled], self.values[pooled])
            self.add("Mul", [x, gate], self.values[x])

    def resize(self, x: str) -> None:
        n, c, h, w = self.values[x]
        size = (n, c, self.pick([h, 2 * h, h + 1]), self.pick([w, 2 * w, 3 * w]))
        if np.prod(size) > MAX_SIZE:
            return
        sizes = self.constant(np.array(size, np.int64))
        mode = self.pick(["nearest", "linear"])
        how = self.pick(["half_pixel", "asymmetric", "align_corners"])
        attributes = {"mode": mode, "coordinate_transformation_mode": how}
        self.add("Resize", [x, "", "", sizes], size, **attributes)

    def depth_to_space(self, x: str) -> None:
        n, c, h, w = self.values[x]
        if c % 4 == 0:
            self.add("DepthToSpace", [x], (n, c // 4, 2 * h, 2 * w), blocksize=2)
        elif h % 2 == 0 and w % 2 == 0:
            self.add("SpaceToDepth", [x], (n, 4 * c, h // 2, w // 2), blocksize=2)

    def unary(self, x: str) -> None:
        self.add(self.pick(UNARIES), [x], self.values[x])

    def clip(self, x: str) -> None:
        bounds = [self.constant(np.array(v, np.float32)) for v in (0.0, self.pick([1.0, 6.0]))]
        self.add("Clip", [x, *bounds], self.values[x])

    def binary(self, x: str) -> None:
        shape = self.values[x]
        partners = [v for v, s in self.values.items() if s == shape]
        kind = self.pick(["same", "channel", "full"])
        if kind == "same":
            other = self.pick(partners)
        else:
            extents = [e if kind == "full" or i == 1 else 1 for i, e in enumerate(shape)]
            other = self.constant(self.random.normal(size=extents).astype(np.float32))
        operands = [x, other] if self.pick([True, False]) else [other, x]
        self.add(self.pick(["Add", "Add", "Sub", "Mul", "Max", "Min"]), operands, shape)

    def concat(self, x: str) -> None:
        shape = list(self.values[x])
        axis = self.pick(range(len(shape)))
        other = self.pick([v for v, s in self.values.items() if list(s) == shape])
        shape[axis] *= 2
        if np.prod(shape) <= MAX_SIZE:
            self.add("Concat", [x, other], shape, axis=axis)

    def cut(self, x: str) -> None:
        shape = list(self.values[x])
        axis = self.pick(range(len(shape)))
        start, step = self.pick(range(shape[axis])), self.pick([1, 2])
        numbers = [start, shape[axis], axis, step]
        operands = [self.constant(np.array([v], np.int64)) for v in numbers]
        shape[axis] = -(-(shape[axis] - start) // step)
        self.add("Slice", [x, *operands], shape)

    def pad(self, x: str) -> None:
        shape = list(self.values[x])
        axis, mode = self.pick(range(len(shape))), self.pick(["constant", "reflect", "edge"])
        if shape[axis] < 2:
            return
        amounts = np.zeros(2 * len(shape), np.int64)
        amounts[axis], amounts[axis + len(shape)] = 1, self.pick([0, 1])
        shape[axis] += int(amounts.sum())
        if np.prod(shape) <= MAX_SIZE:
            self.add("Pad", [x, self.constant(amounts)], shape, mode=mode)

    def transpose(self, x: str) -> None:
        order = self.pick(list(itertools.permutations(range(len(self.values[x])))))
        self.add("Transpose", [x], [self.values[x][i] for i in order], perm=order)

    def shuffle(self, x: str) -> None:
        n, c, h, w = self.values[x]
        if c % 2:
            return
        grouped = self.reshape(x, (n, 2, c // 2, h, w))
        turned = self.add("Transpose", [grouped], (n, c // 2, 2, h, w), perm=[0, 2, 1, 3, 4])
        self.reshape(turned, (n, c, h, w))

    def reshape(self, x: str, shape: Shape) -> str:
        return self.add("Reshape", [x, self.constant(np.array(shape, np.int64))], shape)

    def softmax(self, x: str) -> None:
        axis = self.pick(range(len(self.values[x])))
        self.add(self.pick(["Softmax", "LogSoftmax"]), [x], self.values[x], axis=axis)

    def reduce(self, x: str) -> None:
        shape, axis = list(self.values[x]), self.pick(range(len(self.values[x])))
        shape[axis] = 1
        self.add(self.pick(["ReduceMean", "ReduceMax"]), [x], shape, axes=[axis], keepdims=1)

    def dense(self, x: str) -> None:
        shape = self.values[x]
        rows = shape[0]
        flat = self.reshape(x, (rows, int(np.prod(shape)) // rows))
        out = self.pick([1, 5, 18])
        operands = [flat, self.normal(out, self.values[flat][1]), self.normal(out)]
        self.add("Gemm", operands, (rows, out), transB=1)

    def attention(self, x: str) -> None:
        shape = self.values[x]
        turned = (*shape[:-2], shape[-1], shape[-2])
        if len(shape) < 3 or np.prod(shape[:-1]) * shape[-2] > MAX_SIZE:
            return
        order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        keys = self.add("Transpose", [x], turned, perm=order)
        scores = self.add("MatMul", [x, keys], (*shape[:-1], shape[-2]))
        weights = self.add("Softmax", [scores], self.values[scores], axis=-1)
        self.add("MatMul", [weights, x], shape)

    IMAGE = (conv, conv, conv, conv, pool, global_pool, resize, depth_to_space, shuffle,
             conv_transpose)  # fmt: skip
    ANY = (unary, clip, binary, binary, concat, cut, pad, transpose, softmax, reduce, dense,
           attention)  # fmt: skip

    def grow(self) -> onnx.ModelProto:
        extents = [
            self.pick([1, 1, 2]),
            self.pick([1, 2, 3, 4, 8, 16]),
            *[self.pick([4, 5, 8, 9])] * 2,
        ]
        for name in ("x", "y")[: self.pick([1, 1, 2])]:
            self.inputs[name] = self.values[name] = tuple(extents)
        for _ in range(self.pick(range(1, 9))):
            x = self.pick(list(self.values)[-4:])
            steps: list[Callable[[Grower, str], None]] = list(self.ANY)
            if len(self.values[x]) == 4:
                steps += self.IMAGE * 2
            self.pick(steps)(self, x)
        if not self.nodes:
            self.unary("x")
        read = {name for node in self.nodes for name in node.input}
        made = [node.output[0] for node in self.nodes]
        ends = [v for v in made if v not in read]
        outputs = dict.fromkeys([*ends, self.pick(made)])
        graph = helper.make_graph(
            self.nodes,
            "random",
            [
                helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
                for n, s in self.inputs.items()
            ],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, self.values[n]) for n in outputs],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def check(grower: Grower) -> qcomp.CompiledNetwork:
    """The network, of which every answer was the specification's."""
    model = grower.grow()
    random = grower.random
    samples = [
        {
            name: random.normal(size=shape).astype(np.float32)
            for name, shape in grower.inputs.items()
        }
        for _ in range(3)
    ]
    config = qcomp.QuantizationConfig(recipe="fast", range="minmax")
    net = qcomp.compile(model, calibration=samples, config=config, name="random")
    baseline = target("sse4.1").emit(net.graph, "random")
    for kind in ("data", "random", "extremes"):
        if kind == "data":
            inputs = net.quantized(samples[0])
        else:
            values = np.arange(-128, 128) if kind == "random" else np.array([-128, 127])
            inputs = {i.name: random.choice(values.astype(np.int8), i.shape) for i in net.inputs}
        expected = net.specification_integer(inputs)
        for name, answer in net.run_integer(inputs).items():
            assert_array_equal(answer, expected[name], err_msg=f"{name} on {net.isa}\n{net.graph}")
        if net.artifact.requires.triple == baseline.requires.triple:
            assert_baseline(net, baseline, inputs, expected)
    return net


def assert_baseline(net: Any, artifact: Any, inputs: Any, expected: Any) -> None:
    """The code for SSE4.1 gives the same bits."""
    entry = load_objects(artifact.files.values(), "random", len(inputs) + len(expected) + 1)
    results = {name: np.empty(a.shape, a.dtype) for name, a in expected.items()}
    entry([np.ascontiguousarray(inputs[i.name]) for i in net.inputs], list(results.values()),
          artifact.memory.allocated())  # fmt: skip
    for name, answer in results.items():
        assert_array_equal(answer, expected[name], err_msg=f"{name} on SSE4.1\n{net.graph}")


def seeded(seed: int) -> Grower:
    random = np.random.default_rng([seed, 1])
    return Grower(lambda choices: choices[random.integers(len(choices))], seed)


def drawn(data: st.DataObject) -> Grower:
    """Every choice is hypothesis's, which makes failures small."""
    seed = data.draw(st.integers(0, 2**16))
    return Grower(lambda choices: data.draw(st.sampled_from(choices)), seed)


def check_seeded(seed: int) -> None:
    net = check(seeded(seed))
    assert net.sqnr_db_output is None or net.sqnr_db_output > 15, net.graph


@pytest.mark.parametrize("seed", range(40))
def test_generated_code_is_exact_and_near_the_float_network(seed: int) -> None:
    check_seeded(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40, 600))
def test_generated_code_is_exact_and_near_many_float_networks(seed: int) -> None:
    check_seeded(seed)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_generated_code_equals_the_specification(data: st.DataObject) -> None:
    check(drawn(data))
