"""An operator of one's own: a rule says of which ops of qcomp's it is made."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import qcomp
from qcomp.extensions import ONNX_RULES
from qcomp.frontends.onnx.context import Node
from qcomp.ir.ops import Function, Mul, Unary


def gated(node: Node) -> None:
    """acme.Gated(x, g) = x * sigmoid(alpha * g), whose attribute alpha is 1 unless given."""
    node.require(node.arity == 2, f"{node.arity} operands", "2")
    alpha = node.new_constant("alpha", np.float32(node.number("alpha", 1.0)))
    steep = node.add(Mul(inputs=(node.x(1), alpha), output=node.part("steep")))
    gate = node.add(Unary(inputs=(steep,), output=node.part("gate"), function=Function.SIGMOID))
    node.add(Mul(inputs=(node.x(0), gate), output=node.out()))


def model() -> bytes:
    """A dense layer whose eight results are gated by eight others."""
    weights = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32) / 3
    tensors = [numpy_helper.from_array(w, n) for w, n in zip(weights, ("a", "b"), strict=True)]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["value"]),
        helper.make_node("MatMul", ["x", "b"], ["gate"]),
        helper.make_node("Gated", ["value", "gate"], ["y"], domain="acme", alpha=1.7),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 8]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "gated", ends[:1], ends[1:], tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]
    data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return data


def main() -> None:
    ONNX_RULES.add("acme.Gated", gated)  # a package has an entry point instead
    samples = np.random.default_rng(1).normal(size=(64, 8)).astype(np.float32)
    net = qcomp.compile(model(), calibration=samples, name="gated", recipe="fast")
    print(net.summary())
    np.testing.assert_array_equal(net(samples), net.specification(samples))
    print("library and specification agree in every bit")


if __name__ == "__main__":
    main()
