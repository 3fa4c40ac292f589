"""What sharing an engine and making batches brings on this machine's CPU.

Run by hand: ``python tests/benchmarks/batching.py [--backbone resnet18:FILE]``. One to four threads
feed pictures, once each with an engine of its own (``max_batch = 1``) and once through a `Batcher`,
in turns, round after round, so that a busy machine disturbs both alike. Two ways of feeding:

- *steady*: each thread sends its next picture as soon as it has the last result: throughput.
- *together*: all threads send one picture at the same instant, then rest: several cameras that look
  at one part. Latency is what counts.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic_ns, perf_counter, sleep

import numpy as np
import structlog
import torch

from calibration.backbones import load_backbone
from calibration.graph import ScoringGraph, export_onnx
from calibration.scorers.protoad import RewrittenHead
from inspectd.core.bundle import Graph
from inspectd.core.records import AnomalyMap, ImageArray
from inspectd.daemon.batcher import Batcher
from inspectd.daemon.batches import Limits
from inspectd.runtimes import open_runtime

Figures = tuple[list[float], float]
"""Latencies in ms, and pictures per second."""
Infer = Callable[[int, ImageArray], AnomalyMap]
DEADLINE_NS = 10**9
REST_S = 0.02


def make_graph(folder: Path, backbone_spec: str, side: int, prototypes: int) -> Graph:
    """A real scoring graph; what its prototypes are makes no difference to its speed."""
    backbone = load_backbone(backbone_spec)
    channels = backbone.network.channels
    rows = torch.rand((prototypes, sum(channels)), generator=torch.manual_seed(0))
    head = RewrittenHead(torch.nn.functional.normalize(rows), channels, 256)
    export_onnx(ScoringGraph(backbone, head, (side, side)), folder / "model.onnx")
    return Graph(folder / "model.onnx", (side, side))


@contextmanager
def own(graph: Graph, runtime: str, cores: int, lanes: int, picture: ImageArray) -> Iterator[Infer]:
    """Each lane has its engine."""
    with ExitStack() as stack:
        opened = [stack.enter_context(open_runtime(graph, runtime, cores)) for _ in range(lanes)]
        for one in opened:
            one.infer(picture)
        yield lambda lane, image: opened[lane].infer(image)


@contextmanager
def shared(graph: Graph, runtime: str, cores: int, lanes: int, wait_ms: float) -> Iterator[Infer]:
    """All lanes have one engine, and batches of as many pictures as there are lanes."""
    with open_runtime(graph, runtime, cores, lanes) as opened:
        batcher = Batcher(opened, Limits(lanes, int(wait_ms * 1e6)))  # type: ignore[arg-type]
        batcher.warm_up(graph.size)
        yield lambda lane, image: batcher.infer(lane, image, monotonic_ns() + DEADLINE_NS)


def feed(
    infer: Infer, lanes: int, parts: int, picture: ImageArray, rest_s: float | None
) -> Figures:
    """So many parts of each lane; with a rest all lanes begin each part together."""
    gate = threading.Barrier(lanes)
    taken: list[float] = []

    def run(lane: int) -> None:
        for _ in range(parts):
            if rest_s is not None:
                sleep(rest_s)
                gate.wait()
            started = perf_counter()
            infer(lane, picture)
            taken.append((perf_counter() - started) * 1e3)

    threads = [threading.Thread(target=run, args=(lane,)) for lane in range(lanes)]
    began = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken, lanes * parts / (perf_counter() - began)


def main() -> None:
    """Prints a row per runtime, number of lanes, way of feeding and way of sharing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="filterbank")
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument("--prototypes", type=int, default=1000)
    parser.add_argument("--runtimes", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--lanes", nargs="+", type=int, default=[1, 2, 3, 4])
    parser.add_argument("--cores", type=int, default=0, help="of each engine; 0: all")
    parser.add_argument("--wait", type=float, default=2.0, help="max_wait_ms")
    parser.add_argument("--parts", type=int, default=10, help="of a lane in a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("info"))
    side, cores = arguments.input_size, arguments.cores
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    with tempfile.TemporaryDirectory() as name:
        graph = make_graph(Path(name), arguments.backbone, side, arguments.prototypes)
        print("runtime      lanes  fed       engine   pictures/s     p50     p99 ms")
        for runtime in arguments.runtimes:
            for lanes in arguments.lanes:
                found: defaultdict[tuple[str, str], list[Figures]] = defaultdict(list)
                with (
                    own(graph, runtime, cores, lanes, picture) as apart,
                    shared(graph, runtime, cores, lanes, arguments.wait) as batched,
                ):
                    for _ in range(arguments.rounds):
                        for way, rest in (("steady", None), ("together", REST_S)):
                            for label, infer in (("own", apart), ("shared", batched)):
                                figures = feed(infer, lanes, arguments.parts, picture, rest)
                                found[way, label].append(figures)
                for (way, label), rounds in found.items():
                    taken = [one for times, _ in rounds for one in times]
                    rate = np.median([rate for _, rate in rounds])
                    print(
                        f"{runtime:<12} {lanes:>5}  {way:<8}  {label:<7} {rate:>11.1f}"
                        f" {np.percentile(taken, 50):>7.1f} {np.percentile(taken, 99):>7.1f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
