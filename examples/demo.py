"""The main job from end to end: the trained digits network becomes a C program that is measured.

Run by `make demo`. Compiles examples/digits.onnx, links examples/c_app against the library, runs it
on the real test digits and compares its answers, bit for bit, with the numpy specification.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import qcomp
from qcomp.runtime.benchmark import bench_directory

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"


def float_answers(images: NDArray[np.float32]) -> NDArray[np.int64]:
    session = onnxruntime.InferenceSession(HERE / "digits.onnx")
    (logits,) = session.run(None, {"image": images})
    answers: NDArray[np.int64] = np.asarray(logits).argmax(1)
    return answers


def build_c_program(network: Path) -> Path:
    """Compile examples/c_app; a machine without make or a C compiler can't run the demo."""
    if not (shutil.which("make") and shutil.which(os.environ.get("CC", "cc"))):
        sys.exit("the demo builds a C program: it needs make and a C compiler (cc, or CC=...)")
    variables = [f"NETWORK={network}", f"BUILD={BUILD / 'c_app'}"]
    subprocess.run(["make", "--silent", "-B", "-C", HERE / "c_app", *variables], check=True)
    return BUILD / "c_app" / "digits_app"


def run_c_program(program: Path, images: NDArray[np.int8], classes: int) -> NDArray[np.int8]:
    """The program's logits; it prints its own speed."""
    given, taken = BUILD / "c_app" / "images.i8", BUILD / "c_app" / "logits.i8"
    images.tofile(given)
    subprocess.run([program, given, taken], check=True, capture_output=True)
    return np.fromfile(taken, np.int8).reshape(-1, classes)


def main() -> None:
    with np.load(HERE / "digits_test.npz") as data:
        images, labels = data["images"], data["labels"]
    net = qcomp.compile(HERE / "digits.onnx", calibration=HERE / "digits_calibration.npz")
    network = net.save(BUILD / "digits")
    program = build_c_program(network)

    quantized = net.quantized(images)
    logits = run_c_program(program, quantized, net.outputs[0].shape[-1])
    expected = net.specification_integer(quantized)
    bits = np.unpackbits(logits.view(np.uint8) ^ expected.view(np.uint8))
    bench = bench_directory(network)

    print(f"test digits        {len(labels)}")
    print(f"top-1 float        {np.mean(float_answers(images) == labels):.4f}  (onnxruntime)")
    print(f"top-1 integer      {np.mean(logits.argmax(1) == labels):.4f}  (the C program)")
    print(f"differing bits     {np.count_nonzero(bits)} of {bits.size}")
    print(f"arena              {net.arena_bytes} bytes")
    print(f"latency            {bench.median_us:.1f} us  ({', '.join(net.isa)}, one thread)")
    print(f"library and header {os.path.relpath(network)}")
    print(f"C program          {os.path.relpath(program)}")
    if bits.any():
        sys.exit("the C program and the specification differ")


if __name__ == "__main__":
    main()
