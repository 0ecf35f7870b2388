"""The directory that is carried to a GPU, on what runs here: PoCL."""

from __future__ import annotations

import subprocess
from pathlib import Path

import gpu
import gpu_peers
import pytest
from on_tvm import expect_driver, needs_tvm


@needs_tvm
def test_a_directory_runs_by_itself_and_says_bits_and_times(tmp_path: Path, examples: Path) -> None:
    expect_driver("opencl:cpu")
    data = str(examples / "digits_calibration.npz")
    model = str(examples / "digits.onnx")
    gpu.main([str(tmp_path), model, "--targets", "opencl:cpu", "--calibration", data])
    (tmp_path / "peers.py").write_text("print('no peers')\n")
    done = subprocess.run(
        [tmp_path / "run.sh"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout == (tmp_path / "results.txt").read_text()
    assert "== digits-opencl-cpu" in done.stdout
    assert "0 differing bits" in done.stdout
    assert "us a run, median of" in done.stdout
    assert "no peers" in done.stdout


def test_a_peer_that_is_not_there_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], examples: Path
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(gpu_peers, "SECONDS", 0.0)
    gpu_peers.main([str(examples / "digits.onnx")])
    told = capsys.readouterr().out
    assert "CPU: " in told
    assert "tensorrt: ImportError: no trtexec" in told
