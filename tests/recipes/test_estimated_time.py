"""What 16 bits are estimated to cost: more for what goes element by element, nothing for copies."""

from __future__ import annotations

from qcomp.ir.parse import parse
from qcomp.recipes.estimated_time import network_ns, op_ns
from qcomp.targets.catalog import target

COST = target("avx512-vnni").cost
GRAPH = parse(
    """graph @g(%x: f32[1,20,20,64]) {
  %w = constant : f32[64,1,1,64]
  %b = constant : f32[64]
  %c = conv2d(%x, %w, %b) : f32[1,20,20,64]
  %d = constant : f32[64,3,3,1]
  %e = conv2d(%c, %d, %b) {padding=(1, 1, 1, 1), groups=64} : f32[1,20,20,64]
  %u = unary(%e) {function=silu} : f32[1,20,20,64]
  %a = add(%u, %c) : f32[1,20,20,64]
  %r = reshape(%a) {shape=(1, 400, 64)} : f32[1,400,64]
  %s = softmax(%r) {axis=2} : f32[1,400,64]
  return s=%s
}"""
)


def extra(id: str, *wide: str) -> float:
    """Nanoseconds that an op takes beyond those with 8 bits everywhere."""
    op = GRAPH.op(id)
    return op_ns(GRAPH, op, wide, COST) - op_ns(GRAPH, op, (), COST)


def test_either_side_of_an_op_costs() -> None:
    assert 0.0 < extra("c", "c") < extra("c", "x", "c"), "products of 16 bits are slower"
    assert extra("e", "c", "e") > extra("e", "e") > 0.0


def test_a_depthwise_layer_waits_for_its_operands_rather_than_for_products() -> None:
    bytes_of_c = COST(0, 0, 400 * 64, 8)
    assert extra("e", "c", "e") - extra("e", "e") < 1.001 * bytes_of_c


def test_functions_sums_and_softmaxes_take_the_time_of_several_results() -> None:
    layer = extra("c", "c")
    assert extra("a", "a") > layer
    assert extra("u", "e") > extra("a", "a")
    assert extra("s", "r") > 3 * extra("s", "s"), "of 8 bits it is looked up"


def test_copies_cost_their_bytes_and_a_network_its_calls() -> None:
    assert extra("r", "a", "r") == COST(0, 0, 2 * 400 * 64, 8)
    assert network_ns(GRAPH, COST) > sum(op_ns(GRAPH, op, (), COST) for op in GRAPH.ops())
