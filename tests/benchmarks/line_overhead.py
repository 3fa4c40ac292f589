"""What the line costs beside inference: from the trigger to the verdict at a subscriber.

Run by hand: ``python tests/benchmarks/line_overhead.py``. A real daemon at 20 parts/s with
pictures of one megapixel, a real mosquitto, all on this machine. The time of inference, as the
record of each part has it, is taken off. The aim is a median below 3 ms.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import datetime
from pathlib import Path
from queue import Empty
from time import monotonic_ns, time_ns
from typing import Any

import numpy as np
from bench_station import Bench, bench_in, daemon, make_product

from inspectd.publishers.connection import Received

WARM_UP = 20
SIDE = 1000


def measure(bench: Bench, parts: int) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Result id to milliseconds until the verdict came, and to the stages' times."""
    offset_ns = time_ns() - monotonic_ns()
    latency: dict[str, float] = {}
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
            latency[content["result_id"]] = (event.received_ns + offset_ns) / 1e6 - captured
        else:
            stages[content["result_id"]] = content["timings_ms"]
    if undecided:
        print(f"{undecided} parts were undecided and don't count")
    return latency, stages


def main() -> None:
    """Prints a table per runtime."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=400)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--backbone", default="builtin")
    parser.add_argument("--input-size", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = arguments.input_size
        make_product(folder, side=SIDE, backbone=arguments.backbone, input_size=size, parts=20)
        for runtime in ("onnxruntime", "openvino"):
            with bench_in(folder, ("verdict", "result")) as bench:
                with daemon(bench, runtime, arguments.rate):
                    latency, stages = measure(bench, arguments.parts)
                report(runtime, latency, stages)


def report(runtime: str, latency: dict[str, float], stages: dict[str, dict[str, float]]) -> None:
    """Median and p99 of the whole, of inference, and of each stage."""
    ids = [result_id for result_id in stages if result_id in latency][WARM_UP:]
    rows = {
        "all but inference": [latency[i] - stages[i]["infer"] for i in ids],
        "trigger to verdict": [latency[i] for i in ids],
        **{stage: [stages[i].get(stage, 0.0) for i in ids] for stage in stages[ids[0]]},
        "ledger, broker, rest": [latency[i] - sum(stages[i].values()) for i in ids],
    }
    print(f"\n{runtime}, {len(ids)} parts, ms:{'median':>14}{'p99':>9}")
    for label, values in rows.items():
        print(f"  {label:28}{np.median(values):9.2f}{np.percentile(values, 99):9.2f}")


if __name__ == "__main__":
    main()
