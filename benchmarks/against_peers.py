"""qcomp beside onnxruntime, OpenVINO and LiteRT: rounds of all of them in turn, medians as a table.

    python benchmarks/against_peers.py --bench DIR --peers-python ~/.cache/peers/bin/python
    python benchmarks/against_peers.py ... --isa avx512_vnni
    python benchmarks/against_peers.py ... --isa avx2 --models mobilenet_v2,resnet50
    python benchmarks/against_peers.py ... --threads 2 --models mobilenet_v2,resnet50
    python benchmarks/against_peers.py --print                  # the rounds that were recorded

DIR (or QCOMP_BENCH) holds bench_peers.py and build_models.py. The peers come from PyPI, into an
environment of their own; the last line writes the networks that DIR/models does not hold:

    python3.11 -m venv ~/.cache/peers && . ~/.cache/peers/bin/activate
    pip install numpy onnx onnxscript torch==2.13.0
    pip install onnxruntime==1.31.*             # ort_fp32, ort_u8s8
    pip install openvino==2026.4.* nncf==3.4.*  # openvino_fp32, _bf16, _int8, _int8_bf16rest
    pip install ai-edge-litert==2.3.*           # litert_xnn_int8
    opt_in_out --opt_out                        # NNCF's telemetry can hang without a network
    python DIR/build_models.py

qcomp is compiled anew in the first round, by this checkout's .venv or QCOMP_PYTHON. With --isa the
peers that can be limited are; the others run as they are and are listed apart. Every round is kept
as bench_peers.py wrote it, in --out/ISA-tTHREADS/round-N.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peer_table import NATIVE_BARS, NULL, OURS, OURS_FLOAT, Row, table

HERE = Path(__file__).resolve().parent
ADAPTER = HERE / "peer_qcomp.py"
PEERS = (
    "ort_fp32",
    "ort_u8s8",
    "openvino_fp32",
    "openvino_bf16",
    "openvino_int8",
    "openvino_int8_bf16rest",
    "litert_xnn_int8",
)
ISAS = ("native", "avx512_vnni", "avx2_vnni", "avx2")


@dataclass(frozen=True)
class Bench:
    """bench_peers.py, run by the interpreter that has the peers."""

    script: Path
    python: Path

    def run(
        self, out: Path, model: str, peers: Sequence[str], isa: str, threads: Sequence[int]
    ) -> None:
        """Add one row to `out` for each peer and number of threads."""
        options = {
            "--models": model,
            "--peers": ",".join(peers),
            "--isa": isa,
            "--threads": ",".join(map(str, threads)),
            "--out": str(out),
        }
        words = [text for pair in options.items() for text in pair]
        command = [str(self.python), str(self.script), *words]
        environment = {**os.environ, "QCOMP_BENCH_ADAPTERS": str(ADAPTER)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{self.script}: {done.stderr.strip()}")
        rows = [line for line in done.stdout.splitlines() if not line.startswith("|")]
        print("\n".join(rows), file=sys.stderr, flush=True)


def measure_round(bench: Bench, out: Path, options: argparse.Namespace) -> None:
    """Every peer and qcomp on one network after the other."""
    threads = sorted({1, options.threads})
    for model in [NULL, *options.models]:
        bench.run(out, model, options.peers, options.isa, [options.threads])
        if options.isa != "native":
            limited = {row["peer"] for row in rows_of(out) if row["model"] == model}
            free = [peer for peer in options.peers if peer not in limited]
            if free:
                bench.run(out, model, free, "native", [options.threads])
        bench.run(out, model, [OURS, OURS_FLOAT], options.isa, threads)


def rows_of(file: Path) -> list[Row]:
    rows: list[Row] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return rows


def forget_builds() -> None:
    """bench_peers.py would time the library that an earlier qcomp built."""
    work = Path(os.environ.get("QCOMP_BENCH_WORK", Path.home() / ".cache/qcomp-bench"))
    for ours in (OURS, OURS_FLOAT):
        shutil.rmtree(work / ours, ignore_errors=True)


def arguments() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bench", type=Path, default=os.environ.get("QCOMP_BENCH"))
    parser.add_argument("--peers-python", type=Path, default="~/.cache/peers/bin/python")
    parser.add_argument("--models", type=names, default=list(NATIVE_BARS))
    parser.add_argument("--peers", type=names, default=list(PEERS))
    parser.add_argument("--isa", choices=ISAS, default="native")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE.parent / "build/peers")
    parser.add_argument("--print", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.print:
        if options.bench is None or not (options.bench / "bench_peers.py").is_file():
            parser.error(f"no bench_peers.py in {options.bench}; give --bench or QCOMP_BENCH")
        options.peers_python = options.peers_python.expanduser()
        if not options.peers_python.is_file():
            parser.error(f"no interpreter {options.peers_python}; give --peers-python")
    return options


def main() -> None:
    options = arguments()
    folder = options.out / f"{options.isa}-t{options.threads}"
    if not options.print:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        forget_builds()
        bench = Bench(options.bench / "bench_peers.py", options.peers_python)
        for i in range(options.rounds):
            measure_round(bench, folder / f"round-{i}.json", options)
    files = sorted(folder.glob("round-*.json"))
    if not files:
        sys.exit(f"{folder} holds no rounds")
    print(table([rows_of(file) for file in files], options.isa, options.threads))


if __name__ == "__main__":
    main()
