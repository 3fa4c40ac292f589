"""What a contender's process does, in this process and in its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from types import SimpleNamespace

import numpy as np
import pytest

import inspectd.daemon.line
from inspectd.bench.contenders import OWN, Contender
from inspectd.bench.host import Worker
from inspectd.bench.requests import (
    KEEP_WARM_S,
    AtCadence,
    BackToBack,
    InBatches,
    Peak,
    Rate,
    Scores,
)
from inspectd.bench.subject import Subject
from inspectd.bench.worker import Bench, peak_mib, resident_mib
from inspectd.core.bundle import Graph
from inspectd.core.errors import InferenceError, RuntimeUnavailableError
from inspectd.core.records import AnomalyMap, ImageArray
from inspectd.runtimes import open_runtime

PICTURES = [np.full((4, 4, 3), value, np.uint8) for value in (1, 2, 3)]


class Slow:
    """A runtime that takes a while, and cools down."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seen: list[int] = []
        self.warmed = 0
        self._seconds = seconds

    def infer(self, image: ImageArray) -> AnomalyMap:
        self.seen.append(int(image[0, 0, 0]))
        sleep(self._seconds)
        return AnomalyMap(np.zeros((4, 4), np.float32), float(image[0, 0, 0]))

    def keep_warm(self) -> None:
        self.warmed += 1


class SlowBatches(Slow):
    """The same, which takes two at a time."""

    largest_batch = 2

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[int]] = []

    def infer_batch(self, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        self.batches.append([int(image[0, 0, 0]) for image in images])
        return [self.infer(image) for image in images]


def bench_of(runtime: object, batch: int = 1) -> Bench:
    bench = Bench(SimpleNamespace(), 1, PICTURES, batch)  # type: ignore[arg-type]
    bench._runtime = runtime  # type: ignore[assignment]
    return bench


def test_it_keeps_warm_as_often_as_the_daemon() -> None:
    """Or the figures after a stand-still would be another line's."""
    assert KEEP_WARM_S == inspectd.daemon.line.TICK_S


def test_back_to_back_leaves_the_first_out() -> None:
    """At least as many as asked for are counted, in the pictures' order, and one more is run."""
    runtime = Slow()
    assert len(BackToBack(0.0, least=4).run(bench_of(runtime))) == 4
    assert runtime.seen == [1, 2, 3, 1, 2]


def test_batches_are_whole() -> None:
    """The next pictures each, the first batch not counted."""
    runtime = SlowBatches()
    bench = bench_of(runtime, batch=2)
    assert len(InBatches(0.0, least=2).run(bench)) == 2
    assert runtime.batches == [[1, 2], [3, 1], [2, 3]]


def test_one_that_takes_no_batches_says_so() -> None:
    """It isn't asked for any; if it were, that would be an error, not a figure."""
    with pytest.raises(InferenceError, match="one picture at a time"):
        InBatches(0.0).run(bench_of(Slow(), batch=2))


def test_latency_counts_from_the_due_instant() -> None:
    """A part that waits for the one before it is late: the tenth of 10 ms parts every 2 ms."""
    beat = AtCadence(0.002, 10).run(bench_of(Slow(0.01)))
    assert beat.first is None
    assert beat.others[0] >= 10
    assert beat.others[9] >= 10 * 10 - 9 * 2


def test_a_stand_still_is_kept_warm() -> None:
    """The first part after it is told apart, and comes no earlier."""
    runtime = Slow()
    started = monotonic()
    beat = AtCadence(0.001, 3, gap_s=2.5 * KEEP_WARM_S).run(bench_of(runtime))
    assert monotonic() - started >= 2.5 * KEEP_WARM_S
    assert beat.first is not None
    assert len(beat.others) == 3
    assert 1 <= runtime.warmed <= 2


def test_scores_are_every_pictures() -> None:
    """In order, wherever the turns have stopped."""
    bench = bench_of(Slow())
    bench.picture()
    assert Scores(tuple(bench.pictures)).run(bench) == [1.0, 2.0, 3.0]


def test_memory_is_this_process_s() -> None:
    """The peak is no less than what is held now."""
    block = np.ones(30 * 2**20, np.uint8)
    assert 30 < resident_mib() <= peak_mib() + 1
    assert block.all()


def test_a_process_of_its_own(runnable: Subject) -> None:
    """It loads, answers, survives Ctrl-C (the host ends it), and is gone afterwards."""
    graph = runnable.graph
    with open_runtime(graph, "onnxruntime", 1) as runtime:
        expected = [runtime.infer(picture).score for picture in runnable.pictures]
    contender = Contender("onnxruntime", graph, OWN, "onnxruntime")
    with Worker(contender, 1, runnable.pictures, batch=2) as worker:
        assert worker.loaded.label.startswith("onnxruntime-")
        assert worker.loaded.resident_mib > worker.loaded.before_mib > 1
        process = worker._process
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
        assert worker.ask(Scores(runnable.pictures)) == pytest.approx(expected, rel=1e-4)
        assert worker.ask(Peak()) >= worker.loaded.resident_mib - 1
        with pytest.raises(InferenceError, match=r"absent\.onnx"):
            worker.ask(Rate(Graph(Path("absent.onnx"), (32, 32)), 1))
        assert len(worker.ask(BackToBack(0.0, 2))) == 2
        assert worker.loaded.largest_batch == 2
        assert len(worker.ask(InBatches(0.0, 2))) == 2
        assert worker.ask(Rate(graph, 1_000_000)) > 0
    assert _is_gone(process)


def _is_gone(process: object) -> bool:
    try:
        process.is_alive()  # type: ignore[attr-defined]
    except ValueError:  # closed, which a living one can't be
        return True
    return False


def test_one_that_cannot_load_says_why() -> None:
    """The model is missing."""
    contender = Contender("a", Graph(Path("absent.onnx"), (8, 8)), OWN, "onnxruntime")
    with pytest.raises(RuntimeUnavailableError, match=r"absent\.onnx"):
        Worker(contender, 1, PICTURES).__enter__()


def test_one_that_is_not_installed_says_so() -> None:
    """By the package's name."""
    contender = Contender("a", Graph(Path("absent.onnx"), (8, 8)), "no_such_package:run", "a")
    with pytest.raises(RuntimeUnavailableError, match="no_such_package isn't installed"):
        Worker(contender, 1, PICTURES).__enter__()


def test_one_that_crashes_takes_nobody_along() -> None:
    """It is an error with the exit status, not a hang."""
    contender = Contender("a", Graph(Path("absent.onnx"), (8, 8)), "builtins:print", "a")
    with pytest.raises(RuntimeUnavailableError, match="ended by itself, status 1"):
        Worker(contender, 1, PICTURES).__enter__()
