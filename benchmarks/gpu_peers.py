"""Times of what is installed on a machine, on ONNX files; gpu.py copies it beside its networks.

    python3 peers.py model.onnx ...

onnxruntime with each of its providers, TensorRT by trtexec (fp16, and its best with int8), torch by
onnx2torch (fp16 on CUDA). It needs no qcomp, and says of each peer that is not there why.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

Run = Callable[[], Any]
SECONDS = 2.0


def median_us(run: Run) -> float:
    """Of runs after ten, for some seconds."""
    for _ in range(10):
        run()
    times: list[float] = []
    until = time.perf_counter() + SECONDS
    while len(times) < 20 or time.perf_counter() < until:
        began = time.perf_counter()
        run()
        times.append(1e6 * (time.perf_counter() - began))
    return statistics.median(times)


def feeds_of(session: Any) -> dict[str, Any]:
    """Noise for every input; extents that are not given are 1."""
    import numpy as np

    random = np.random.default_rng(0)
    return {
        i.name: random.normal(size=[e if isinstance(e, int) else 1 for e in i.shape]).astype("f4")
        for i in session.get_inputs()
    }


def onnxruntime(model: str) -> Iterator[tuple[str, float]]:
    import onnxruntime as ort

    for provider in ort.get_available_providers():
        if provider not in ("CUDAExecutionProvider", "TensorrtExecutionProvider",
                            "CPUExecutionProvider"):  # fmt: skip
            continue
        options = [{"trt_fp16_enable": True}] if provider.startswith("Tensorrt") else [{}]
        session = ort.InferenceSession(model, providers=[provider], provider_options=options)
        feeds = feeds_of(session)
        name = provider.removesuffix("ExecutionProvider")
        yield f"onnxruntime {ort.__version__} {name}", median_us(lambda: session.run(None, feeds))  # noqa: B023


def tensorrt(model: str) -> Iterator[tuple[str, float]]:
    program = shutil.which("trtexec")
    if program is None:
        raise ImportError("no trtexec")
    for name in ("fp16", "best"):
        command = [program, f"--onnx={model}", f"--{name}", "--useSpinWait"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = re.search(r"Latency:.*median = ([\d.]+) ms", done.stdout)
        if found is None:
            raise ValueError("trtexec prints no median")
        yield f"TensorRT {name}", 1e3 * float(found[1])


def torch(model: str) -> Iterator[tuple[str, float]]:
    import torch as t
    from onnx2torch import convert

    if not t.cuda.is_available():
        raise ImportError("torch has no CUDA")
    import onnx

    network = convert(model).eval().half().cuda()
    shapes = [
        [d.dim_value or 1 for d in i.type.tensor_type.shape.dim]
        for i in onnx.load(model).graph.input
    ]
    inputs = [t.randn(*shape, device="cuda", dtype=t.float16) for shape in shapes]

    def run() -> None:
        with t.inference_mode():
            network(*inputs)
        t.cuda.synchronize()

    yield f"torch {t.__version__} fp16", median_us(run)


PEERS = (onnxruntime, tensorrt, torch)


def main(models: list[str]) -> None:
    for model in models:
        print(f"== {model}", flush=True)
        for peer in PEERS:
            try:
                for name, value in peer(model):
                    print(f"{name}: {value:.1f} us a run", flush=True)
            except Exception as error:  # of any peer, which is not the others' concern
                print(f"{peer.__name__}: {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
