"""What the line costs beside inference: from the trigger to publishing, and to a subscriber.

Run by hand: ``python tests/benchmarks/line_overhead.py``. A real daemon at 20 parts/s with
pictures of one megapixel, a real mosquitto, all on this machine. The time of inference, as the
record of each part has it, is taken off. The instant of publishing, when the verdict is in the
client's hands, is taken from the daemon's log. The aim is a median below 3 ms.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from queue import Empty
from time import monotonic_ns, time_ns
from typing import Any

import numpy as np
from bench_station import LOG, Bench, bench_in, daemon, make_product

from inspectd.publishers.connection import Received

WARM_UP = 20
SIDE = 1000


@dataclass
class Measured:
    """Of each part, by result id."""

    captured_ms: dict[str, float]
    """The trigger, UTC."""
    received_ms: dict[str, float]
    """The verdict at the subscriber, UTC."""
    stages: dict[str, dict[str, float]]
    """Milliseconds."""


def measure(bench: Bench, parts: int) -> Measured:
    """Collects verdicts and records of so many parts."""
    offset_ns = time_ns() - monotonic_ns()
    captured_ms: dict[str, float] = {}
    received_ms: dict[str, float] = {}
    stages: dict[str, dict[str, float]] = {}
    undecided = 0
    while len(stages) < parts + WARM_UP:
        try:
            event = bench.events.get(timeout=60)
        except Empty:
            raise SystemExit("the daemon fell silent") from None
        if not isinstance(event, Received):
            continue
        content: dict[str, Any] = json.loads(event.payload)
        if content["verdict"] == "undecided":  # an overrun on a machine that is busy otherwise
            undecided += event.topic.endswith("/verdict")
            continue
        if event.topic.endswith("/verdict"):
            captured = datetime.fromisoformat(content["captured_at"]).timestamp() * 1e3
            captured_ms[content["result_id"]] = captured
            received_ms[content["result_id"]] = (event.received_ns + offset_ns) / 1e6
        else:
            stages[content["result_id"]] = content["timings_ms"]
    if undecided:
        print(f"{undecided} parts were undecided and don't count")
    return Measured(captured_ms, received_ms, stages)


def published_ms(log: Path) -> dict[str, float]:
    """Result id to the instant of publishing, UTC, as the daemon's log has it."""
    offset_ns = time_ns() - monotonic_ns()
    lines = (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))
    return {
        line["result_id"]: (line["monotonic_ns"] + offset_ns) / 1e6
        for line in lines
        if line["event"] == "verdict_published"
    }


def main() -> None:
    """Prints a table per runtime."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=400)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--backbone", default="filterbank")
    parser.add_argument("--input-size", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = arguments.input_size
        make_product(folder, side=SIDE, backbone=arguments.backbone, input_size=size, parts=20)
        for runtime in ("onnxruntime", "openvino"):
            with bench_in(folder, ("verdict", "result")) as bench:
                with daemon(bench, runtime, arguments.rate, "debug"):
                    found = measure(bench, arguments.parts)
                report(runtime, found, published_ms(folder / LOG))


def report(runtime: str, found: Measured, published: dict[str, float]) -> None:
    """Median and p99 of the whole, of inference, and of each stage."""
    stages = found.stages
    ids = [i for i in stages if i in found.received_ms and i in published][WARM_UP:]
    sent = {i: published[i] - found.captured_ms[i] for i in ids}
    latency = {i: found.received_ms[i] - found.captured_ms[i] for i in ids}
    rows = {
        "to publishing, no inference": [sent[i] - stages[i]["infer"] for i in ids],
        "to subscriber, no inference": [latency[i] - stages[i]["infer"] for i in ids],
        "trigger to subscriber": [latency[i] for i in ids],
        **{stage: [stages[i].get(stage, 0.0) for i in ids] for stage in stages[ids[0]]},
        "ledger, broker, rest": [latency[i] - sum(stages[i].values()) for i in ids],
    }
    print(f"\n{runtime}, {len(ids)} parts, ms:{'median':>14}{'p99':>9}")
    for label, values in rows.items():
        print(f"  {label:28}{np.median(values):9.2f}{np.percentile(values, 99):9.2f}")


if __name__ == "__main__":
    main()
