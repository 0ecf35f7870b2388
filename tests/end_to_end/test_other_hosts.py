"""Compiling on Windows and macOS: nothing on the way asks for what only Linux has.

The system is a fake: Python says that it is another one, and lacks the modules and functions that
are missing there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import importlib.util, json, os, platform, sys
import onnxruntime  # which asks the true system for its libraries

system, machine, target, folder = sys.argv[1:]
platform.system, platform.machine = lambda: system, lambda: machine
os.environ["PATH"], find = "", importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "ziglang" else find(name, *rest)
del os.sched_getaffinity
if system == "Windows":
    sys.modules["fcntl"] = None
    del os.geteuid, os.getuid

import qcomp

net = qcomp.compile(
    "examples/digits.onnx", target, calibration="examples/digits_calibration.npz", recipe="fast"
)
for _ in range(2):  # into a new directory, and into one that is there
    net.save(folder)
loaded = qcomp.load(folder)
print(json.dumps([loaded.lacking, sorted(f for f in os.listdir(folder) if "digits.l" in f or
                                         "lib" in f)]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "machine", "target", "library"),
    [
        ("Windows", "AMD64", "x86-64-windows", "digits.lib"),
        ("Darwin", "arm64", "arm64-macos", "libdigits.a"),
        ("Darwin", "x86_64", "x86-64", "libdigits.a"),
    ],
)
def test_a_network_is_compiled_there(
    system: str, machine: str, target: str, library: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PROGRAM, system, machine, target, str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lacking, libraries = json.loads(done.stdout)
    assert libraries == [library]
    assert f"can't run on {machine}, {system}" in lacking
