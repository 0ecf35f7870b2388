"""Graphviz text of a graph: ops as boxes, activations as edges, constants left out."""

from __future__ import annotations

from qcomp.ir.graph import Graph


def to_dot(graph: Graph) -> str:
    """A digraph; render with `dot -Tsvg`."""
    lines = [f'digraph "{_label(graph.name)}" {{', "  node [shape=box, fontname=monospace];"]
    lines += [
        f'  "%{id}" [label="{_label(name)}\\n{graph.type(id)}", shape=ellipse];'
        for name, id in graph.inputs.items()
    ]
    for op in graph.ops():
        lines.append(f'  "%{op.output}" [label="{op.mnemonic}\\n%{op.output}"];')
        for t in dict.fromkeys(graph.activations(op)):
            lines.append(f'  "%{t}" -> "%{op.output}" [label="{graph.type(t)}"];')
    for name, id in graph.outputs.items():
        lines.append(f'  "return {_label(name)}" [shape=ellipse];')
        lines.append(f'  "%{id}" -> "return {_label(name)}" [label="{graph.type(id)}"];')
    return "\n".join([*lines, "}"])


def _label(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')
