"""Integers of quantized ONNX models, arithmetic="onnx", beside those of ONNX Runtime's kernels.

    python benchmarks/onnx_bits.py MODEL... [--samples N] [--data FILE.npz]

Every result of a quantized operator that both have is compared on N samples of FILE.npz, or on
noise: the results of the operators that ONNX Runtime makes of the model, with its own
optimizations, against the specification of the compiled network, which its code equals. Operators
that ONNX Runtime leaves in floats have no integers; what comes behind them is compared all the
same.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

import qcomp
from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.tensor import Mark
from qcomp.quant.qparams import QParams

Array = np.ndarray[Any, Any]


def session(model: bytes, level: Any, written: str = "") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.optimized_model_filepath = written
    options.add_session_config_entry("session.x64quantprecision", "1")  # exact without VNNI too
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model, options, providers=providers)


def optimized(path: Path) -> onnx.ModelProto:
    """The operators that ONNX Runtime makes of a model, every one of whose results is an output."""
    with tempfile.TemporaryDirectory() as folder:
        written = str(Path(folder) / "optimized.onnx")
        levels = onnxruntime.GraphOptimizationLevel
        session(path.read_bytes(), levels.ORT_ENABLE_EXTENDED, written)
        model = onnx.load(written)
    known = {output.name for output in model.graph.output}
    for name in (t for node in model.graph.node for t in node.output if t not in known):
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    return model


def quantized(values: Array, q: QParams) -> Array:
    steps = np.rint(values / np.float32(q.scale)) + q.zero_point
    return np.clip(steps, q.qmin, q.qmax).astype(np.int8)


def in_order_of_model(graph: Graph, op: Op, values: Array) -> Array:
    """With channels where the model has them: images that it has no name for are NHWC."""
    origin = graph.tensor(op.output).origin
    if origin is not None and origin.permutation is not None:
        return values.transpose(np.argsort(origin.permutation))
    named = origin is not None and origin.name is not None
    return values if named or values.ndim != 4 else values.transpose(0, 3, 1, 2)


def pairs(
    model: onnx.ModelProto, graph: Graph, theirs: Mapping[str, Array], ours: Mapping[str, Array]
) -> Iterator[tuple[str, Array, Array]]:
    """(name, our integers, theirs without a sign less 128), where names and shapes say the same."""
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    written = {
        (n.input[0], float(constants[n.input[1]].reshape(-1)[0])): n.output[0]
        for n in model.graph.node
        if n.op_type == "QuantizeLinear" and n.input[1] in constants
    }
    for op in graph.ops():
        if Mark.REORDERED in graph.tensor(op.output).marks:
            continue
        origin = graph.tensor(op.output).origin
        named = "" if origin is None else origin.name or ""
        bases = (op.output.removesuffix(".q").removesuffix(".range"), named)
        qparams = graph.tensor(op.output).qparams
        scale = 0.0 if qparams is None else qparams.scale
        names = [n for base in bases for n in (base, written.get((base, scale), ""))]
        for name in (n for n in names if n in theirs and theirs[n].dtype in (np.int8, np.uint8)):
            values = theirs[name].astype(np.int64) - (128 if theirs[name].dtype == np.uint8 else 0)
            mine = in_order_of_model(graph, op, ours[op.output])
            if mine.shape == values.shape:
                yield name, mine.astype(np.int64), values
                break


def compare(path: Path, samples: Sequence[Array]) -> str:
    source, model = onnx.load(path), optimized(path)
    levels = onnxruntime.GraphOptimizationLevel
    runtime = session(model.SerializeToString(), levels.ORT_DISABLE_ALL)
    names = [output.name for output in runtime.get_outputs()]
    config = qcomp.QuantizationConfig(arithmetic="onnx")
    graph = qcomp.compile(path, "native", calibration=samples, config=config).graph
    ((name, x),) = graph.inputs.items()
    q = graph.tensor(x).qparams
    assert q is not None
    compared, differing, operators = 0, 0, set()
    for sample in samples:
        theirs = dict(zip(names, runtime.run(names, {name: sample}), strict=True))
        ours = evaluate_all(graph, {name: quantized(sample, q)})
        for operator, mine, values in pairs(source, graph, theirs, ours):
            operators.add(operator)
            compared += values.size
            differing += int(np.count_nonzero(mine != values))
    floats = Counter(n.op_type for n in model.graph.node if n.op_type in ("Conv", "FusedConv"))
    left = f", {sum(floats.values())} convolutions in floats" if floats else ""
    return f"{differing} of {compared:,} integers of {len(operators)} results differ{left}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    for path in arguments.models:
        shapes = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
        shape = [d.dim_value or 1 for d in shapes]
        if arguments.data is None:
            samples = [
                random.normal(size=shape).astype(np.float32) for _ in range(arguments.samples)
            ]
        else:
            data = next(iter(np.load(arguments.data).values()))[: arguments.samples]
            samples = [x.reshape(shape).astype(np.float32) for x in data]
        print(f"{path.name}: {compare(path, samples)}", flush=True)


if __name__ == "__main__":
    main()
