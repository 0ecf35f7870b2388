"""The layers where a network begins and ends."""

from __future__ import annotations

from qcomp.ir import parse
from qcomp.passes.lib.edge_layers import edge_layers


def dense(*lines: str) -> str:
    head = "graph @g(%x: f32[1,4]) {\n  %w = constant : f32[4,4]\n  %b = constant : f32[4]\n"
    return head + "\n".join(lines) + "\n}"


def layer(name: str, x: str) -> str:
    return f"  %{name} = dense(%{x}, %w, %b) : f32[1,4]"


def test_a_chain_has_a_first_and_a_last() -> None:
    text = dense(layer("p", "x"), layer("q", "p"), layer("r", "q"), "  return y=%r")
    assert edge_layers(parse(text)) == {"p", "r"}


def test_a_single_layer_is_both() -> None:
    assert edge_layers(parse(dense(layer("p", "x"), "  return y=%p"))) == {"p"}


def test_every_branch_has_its_own_edges_but_a_skip_connection_is_none() -> None:
    text = dense(
        layer("first", "x"),
        layer("side", "x"),
        layer("inner", "first"),
        "  %sum = add(%first, %inner) : f32[1,4]",
        "  %both = add(%sum, %side) : f32[1,4]",
        layer("middle", "both"),
        layer("head", "middle"),
        layer("other", "middle"),
        "  return y=%head, z=%other, early=%inner",
    )
    assert edge_layers(parse(text)) == {"first", "side", "head", "other"}
