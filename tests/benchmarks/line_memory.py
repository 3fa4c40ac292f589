"""The daemon's memory over many parts.

Run by hand: ``python tests/benchmarks/line_memory.py``. Prints the resident memory every 1000
parts, for each runtime. The aim is below 600 MiB and no growth over 10,000 parts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from queue import Empty
from time import monotonic

import psutil
from bench_station import Bench, bench_in, daemon, make_product

from inspectd.publishers.connection import Received


def watch(bench: Bench, process: psutil.Process, parts: int, every: int) -> list[float]:
    """MiB after each so many parts."""
    found: list[float] = []
    words: Counter[str] = Counter()
    started = monotonic()
    while words.total() < parts:
        try:
            event = bench.events.get(timeout=60)
        except Empty:
            raise SystemExit("the daemon fell silent") from None
        if not isinstance(event, Received):
            continue
        words[json.loads(event.payload)["verdict"]] += 1
        if words.total() % every == 0:
            found.append(process.memory_info().rss / 2**20)
            rate = words.total() / (monotonic() - started)
            print(f"  {words.total():6} parts  {found[-1]:7.1f} MiB  {rate:5.1f}/s  {dict(words)}")
    return found


def main() -> None:
    """Prints a table per runtime."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--backbone", default="filterbank")
    parser.add_argument("--input-size", type=int, default=64)
    parser.add_argument("--side", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_product(
            folder,
            side=arguments.side,
            backbone=arguments.backbone,
            input_size=arguments.input_size,
            parts=20,
        )
        for runtime in ("onnxruntime", "openvino"):
            print(f"\n{runtime}")
            with (
                bench_in(folder, ("verdict",)) as bench,
                daemon(bench, runtime, arguments.rate) as process,
            ):
                every = min(1000, arguments.parts)
                found = watch(bench, psutil.Process(process.pid), arguments.parts, every)
            print(f"  highest {max(found):.0f} MiB, last minus first {found[-1] - found[0]:+.1f}")


if __name__ == "__main__":
    main()
