"""Accuracy beside other quantizers, on real networks: docs/accuracy.md's tables.

    QCOMP_ZOO=... python benchmarks/accuracy.py --peers-python ~/.cache/peers/bin/python
    python benchmarks/accuracy.py --networks mnist,squeezenet1_1 --configs w8a8,w4a8 --again
    python benchmarks/accuracy.py --write                       # only docs/accuracy.md, anew

A row is one network in one configuration (accuracy_configs.py) or by one peer
(accuracy_peers.py): top-1 and output SQNR against the float network over the evaluation data,
calibrated on 100 images, of the integer code as this machine runs it; the bits in which that
differs from the specification on some samples; seconds and peak memory of the compilation, each
in a process of its own. A row is kept as --out/NETWORK.CONFIG.json and not measured twice, unless
--again; the peers' outputs stay in --cache. Rows that fail say why and do not end the run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from accuracy_configs import CONFIGS, PEERS, Config
from accuracy_costs import COST_NETWORK, COSTS, peak_megabytes
from accuracy_table import Row, tables, written
from zoo_report import CALIBRATION_SAMPLES, NETWORKS, all_outputs, load_zoo

import qcomp
from qcomp.quant.metrics import sqnr_db

ROOT = Path(__file__).resolve().parent.parent
PEERS_SCRIPT = ROOT / "benchmarks/accuracy_peers.py"
CHECKED_SAMPLES = 4


@dataclass(frozen=True)
class Bench:
    """What all rows share; `samples` limits the evaluation data."""

    peers_python: Path
    cache: Path
    samples: int | None

    def row(self, name: str, config: str) -> Row:
        if config in COSTS:
            return COSTS[config](load_zoo(), name)
        if config in PEERS:
            return self.peer_row(load_zoo(), name, config)
        return self.qcomp_row(load_zoo(), name, CONFIGS[config])

    def qcomp_row(self, zoo: ModuleType, name: str, config: Config) -> Row:
        network = zoo.load(name)
        data = network.data("calibration", CALIBRATION_SAMPLES)[0] if config.calibrated else None
        start = time.perf_counter()
        net = qcomp.compile(str(network.model), calibration=data, config=config.choices)
        spent = {"seconds": time.perf_counter() - start, "peak_mb": peak_megabytes()}
        x, labels = network.data("evaluation", self.samples)
        q = net.quantized(x)
        answer = flattened(net(x))
        few = q[:CHECKED_SAMPLES]
        checked = {
            "differing_bits": differing_bits(net.run_integer(few), net.specification_integer(few)),
            "checked_samples": len(few),
        }
        accuracy = self.judged(zoo, name, answer, labels)
        return {**accuracy, **spent, **checked, "weights_bytes": net.weights_bytes}

    def peer_row(self, zoo: ModuleType, name: str, peer: str) -> Row:
        with np.load(self.outputs(zoo, name, peer)) as found:
            answer, seconds = found["outputs"], float(found["seconds"])
        _, labels = zoo.load(name).data("evaluation", self.samples)
        return {**self.judged(zoo, name, answer, labels), "seconds": seconds}

    def judged(self, zoo: ModuleType, name: str, answer: np.ndarray, labels: np.ndarray) -> Row:
        """Top-1 where there are labels; SQNR, which says nothing where a file ends in a softmax."""
        with np.load(self.outputs(zoo, name, "float")) as found:
            reference = found["outputs"]
        row: Row = {"samples": len(answer)}
        if (labels >= 0).all():
            row["top1"] = zoo.load(name).accuracy(answer, labels)
        row["sqnr_db"] = finite(sqnr_db(reference, answer))
        return row

    def outputs(self, zoo: ModuleType, name: str, peer: str) -> Path:
        """The file of a peer's outputs; made where it is not there yet."""
        count = "" if self.samples is None else f".{self.samples}"
        kept = self.cache / f"{name}.{peer}{count}.npz"
        if not kept.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            network = zoo.load(PEERS[peer][name])
            with tempfile.TemporaryDirectory() as folder:
                arguments = [peer, str(network.model)]
                for split, samples in (
                    ("calibration", CALIBRATION_SAMPLES),
                    ("evaluation", self.samples),
                ):
                    np.save(Path(folder) / split, network.data(split, samples)[0])
                    arguments.append(f"{folder}/{split}.npy")
                made = kept.with_suffix(f".{multiprocessing.current_process().pid}.npz")
                command = [str(self.peers_python), str(PEERS_SCRIPT), *arguments, str(made)]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode != 0:
                    last = done.stderr.strip().rpartition("\n")[2]
                    raise RuntimeError(f"{peer} ended with {done.returncode}: {last}")
                made.rename(kept)
        return kept


def flattened(answer: Any) -> np.ndarray:
    """One row a sample: all outputs, one after the other."""
    arrays = [np.asarray(a, np.float32) for a in all_outputs(answer)]
    return np.concatenate([a.reshape(len(a), -1) for a in arrays], axis=1)


def differing_bits(a: Any, b: Any) -> int:
    pairs = zip(all_outputs(a), all_outputs(b), strict=True)
    return sum(int(np.unpackbits((x ^ y).view(np.uint8)).sum()) for x, y in pairs)


def finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if np.isfinite(value) else None


def measured(bench: Bench, name: str, config: str, file: Path) -> None:
    """In a process of its own: one row, or the reason that there is none, into a file."""
    row: Row = {"network": name, "config": config}
    try:
        row |= bench.row(name, config)
    except (qcomp.CompileError, RuntimeError, MemoryError) as error:
        row["error"] = f"{type(error).__name__}: {error}"
    file.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def wanted(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Networks and configurations that were asked for and that a table has, peers first."""
    for config in every_config():
        for name in networks_of(config):
            if name in options.networks and config in options.configs:
                yield name, config


def every_config() -> list[str]:
    return [*PEERS, *CONFIGS, *COSTS]


def networks_of(config: str) -> Iterable[str]:
    if config in PEERS:
        return PEERS[config]
    return CONFIGS[config].networks if config in CONFIGS else [COST_NETWORK]


def rows_of(folder: Path) -> list[Row]:
    files = sorted(folder.glob("*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def arguments() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    every = every_config()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", type=names, default=list(NETWORKS))
    parser.add_argument("--configs", type=names, default=every, help=", ".join(every))
    parser.add_argument("--peers-python", type=Path, default="~/.cache/peers/bin/python")
    parser.add_argument("--cache", type=Path, default="~/.cache/qcomp-accuracy")
    parser.add_argument("--out", type=Path, default=ROOT / "build/accuracy")
    parser.add_argument("--samples", type=int, default=None, help="of the evaluation data")
    parser.add_argument("--again", action="store_true", help="also rows that are there")
    parser.add_argument("--write", action="store_true", help="measure nothing, write the page")
    options = parser.parse_args()
    if unknown := set(options.configs) - set(every):
        parser.error(f"no configuration {', '.join(sorted(unknown))}")
    return options


def main() -> None:
    options = arguments()
    page = ROOT / "docs/accuracy.md"
    if options.write:
        text = written(page.read_text(encoding="utf-8"), tables(rows_of(options.out)))
        page.write_text(text, encoding="utf-8")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.peers_python.expanduser(), options.cache.expanduser(), options.samples)
    spawn = multiprocessing.get_context("spawn")
    for name, config in wanted(options):
        file = options.out / f"{name}.{config}.json"
        if file.exists() and not options.again:
            continue
        process = spawn.Process(target=measured, args=(bench, name, config, file))
        process.start()
        process.join()
        if process.exitcode != 0:
            print(f"{name}.{config}: the process ended with {process.exitcode}", file=sys.stderr)
            continue
        print(file.read_text(encoding="utf-8"), flush=True)
    for title, table in tables(rows_of(options.out)).items():
        print(f"## {title}\n\n{table}\n")


if __name__ == "__main__":
    main()
