"""What other quantizers make of the zoo's networks: their outputs on the evaluation data, cached.

Runs in the environment of the peers (benchmarks/against_peers.py says what to install), which needs
nothing of qcomp: accuracy.py starts it, with the data as .npy files, and reads the outputs:

    ~/.cache/peers/bin/python benchmarks/accuracy_peers.py PEER MODEL CALIBRATION EVALUATION OUT.npz

PEER is float (the network itself, by onnxruntime), ort_static (onnxruntime's quantize_static:
QDQ, min-max, int8 weights per channel, int8 activations, everything else at its default),
nncf (nncf.quantize at its defaults on the OpenVINO model, what is not quantized in float32) or
litert (an int8 TFLite file, run as it is). Answers are float32, one row a sample, whatever the
network's outputs are, one after the other; the samples go in one by one. They use one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Run = Callable[[Samples], Sequence[NDArray[Any]]]  # of one sample [1, ...], all outputs
PER_CHANNEL_OPSET = 13


def ort_session(model: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0].name
    return lambda x: session.run(None, {feed: x})


def prepare_float(model: Path, calibration: Samples) -> Run:
    return ort_session(model)


def prepare_ort_static(model: Path, calibration: Samples) -> Run:
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    with preprocessed(model) as prepared:
        name = onnx.load(prepared).graph.input[0].name
        batches = iter([{name: x} for x in one_by_one(calibration)])

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            """One sample after the other."""

            def get_next(self) -> Mapping[str, Samples] | None:
                return next(batches, None)

        quantized = prepared.with_name("quantized.onnx")
        quantize_static(
            str(prepared),
            str(quantized),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return ort_session(quantized)


def prepare_nncf(model: Path, calibration: Samples) -> Run:
    import nncf
    import openvino

    dataset = nncf.Dataset(list(one_by_one(calibration)))
    with preprocessed(model) as prepared:
        network = openvino.Core().read_model(prepared)
        quantized = nncf.quantize(network, dataset, subset_size=len(calibration))
    properties = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(quantized, "CPU", properties)
    return lambda x: [compiled([x])[output] for output in compiled.outputs]


@contextmanager
def preprocessed(model: Path) -> Iterator[Path]:
    """The network after onnxruntime's quant_pre_process, made fit for either quantizer.

    Of the zoo's networks only mnist needs that: onnxruntime quantizes per channel from opset 13
    on, and takes a Gemm's bias of shape [1, N] for one of one channel; NNCF fails on weights that
    are reshaped.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        newer, prepared = Path(folder) / "newer.onnx", Path(folder) / "prepared.onnx"
        loaded = onnx.load(model)
        if loaded.opset_import[0].version < PER_CHANNEL_OPSET:
            loaded = onnx.version_converter.convert_version(loaded, PER_CHANNEL_OPSET)
        onnx.save(loaded, newer)
        quant_pre_process(str(newer), str(prepared))
        loaded = onnx.load(prepared)
        biases = {node.input[2] for node in loaded.graph.node if node.op_type == "Gemm"}
        for constant in loaded.graph.initializer:
            if constant.name in biases and len(constant.dims) == 2 and constant.dims[0] == 1:
                del constant.dims[0]
        constants = {constant.name for constant in loaded.graph.initializer}
        inputs = [value for value in loaded.graph.input if value.name not in constants]
        del loaded.graph.input[:]
        loaded.graph.input.extend(inputs)
        onnx.save(loaded, prepared)
        yield prepared


def prepare_litert(model: Path, calibration: Samples) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model), num_threads=1)
    interpreter.allocate_tensors()
    source, *_ = interpreter.get_input_details()

    def run(x: Samples) -> list[NDArray[Any]]:
        interpreter.set_tensor(source["index"], quantized_as(source, x))
        interpreter.invoke()
        sinks = interpreter.get_output_details()
        return [dequantized_as(sink, interpreter.get_tensor(sink["index"])) for sink in sinks]

    return run


def quantized_as(tensor: Mapping[str, Any], x: Samples) -> NDArray[Any]:
    if tensor["dtype"] is np.float32:
        return x
    scale, zero_point = tensor["quantization"]
    info = np.iinfo(tensor["dtype"])
    real: NDArray[Any] = np.clip(np.rint(x / scale) + zero_point, info.min, info.max)
    return real.astype(tensor["dtype"])


def dequantized_as(tensor: Mapping[str, Any], q: NDArray[Any]) -> NDArray[Any]:
    if tensor["dtype"] is np.float32:
        return q
    scale, zero_point = tensor["quantization"]
    real: Samples = (q.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    return real


PEERS: Mapping[str, Callable[[Path, Samples], Run]] = {
    "float": prepare_float,
    "ort_static": prepare_ort_static,
    "nncf": prepare_nncf,
    "litert": prepare_litert,
}


def one_by_one(x: Samples) -> Iterator[Samples]:
    return (x[i : i + 1] for i in range(len(x)))


def answers(run: Run, x: Samples) -> Samples:
    """One row a sample: all outputs, one after the other."""
    rows = [[np.ravel(output) for output in run(sample)] for sample in one_by_one(x)]
    return np.stack([np.concatenate(row) for row in rows]).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peer", choices=PEERS)
    for name in ("model", "calibration", "evaluation", "out"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    start = time.perf_counter()
    run = PEERS[options.peer](options.model, np.load(options.calibration))
    seconds = time.perf_counter() - start
    outputs = answers(run, np.load(options.evaluation))
    np.savez(options.out, outputs=outputs, seconds=seconds)


if __name__ == "__main__":
    main()
