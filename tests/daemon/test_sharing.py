"""Lanes that share an engine: real threads on real runtimes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import monotonic_ns

import numpy as np
import pytest

from inspectd.core.bundle import Bundle
from inspectd.core.config import BatchingSection
from inspectd.core.contracts import Batched, Runtime, Sharing
from inspectd.core.errors import InferenceError
from inspectd.core.records import AnomalyMap, ImageArray
from inspectd.core.store import ProductStore
from inspectd.daemon.changeover import Choice, prepare
from inspectd.daemon.sharing import Engines, Share
from inspectd.runtimes import installed, open_runtime
from inspectd.runtimes.simulated import FaultPlan

LANES, PICTURES = 4, 200
SOON_NS = 60 * 10**9
PATIENT = BatchingSection(max_batch=LANES, max_wait_ms=1000)
"""Long enough that lanes that are to meet do meet."""


@pytest.fixture
def bundle(tiny_store: ProductStore) -> Bundle:
    """A real product of (96, 96)."""
    return tiny_store.open("tiny")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultPlan:
    """What goes wrong in runtime `simulated`."""
    plan = FaultPlan(tmp_path / "faults")
    for name, value in plan.environment().items():
        monkeypatch.setenv(name, value)
    return plan


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that ONNX Runtime ran, in order."""
    from inspectd.runtimes.onnxruntime import OnnxRuntime

    ran: list[int] = []
    inner = OnnxRuntime.infer_batch

    def infer_batch(self: OnnxRuntime, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        ran.append(len(images))
        return inner(self, images)

    monkeypatch.setattr(OnnxRuntime, "infer_batch", infer_batch)
    return ran


def pictures(count: int, seed: int = 0) -> list[ImageArray]:
    """Noise, no two alike: each has a score of its own."""
    rng = np.random.default_rng(seed)
    return [
        (rng.integers(0, 256, (96, 96, 3)) * rng.uniform(0.2, 1)).astype(np.uint8)
        for _ in range(count)
    ]


def together(works: Sequence[Callable[[], object]]) -> list[object]:
    """What functions give, each in a thread of its own, all begun at once."""
    gate = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        gate.wait()
        try:
            return work()
        except InferenceError as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def by(lane: Runtime, image: ImageArray) -> Callable[[], AnomalyMap]:
    """A lane's work on a part that has time."""
    assert isinstance(lane, Sharing)
    return lambda: lane.infer_by(image, monotonic_ns() + SOON_NS)


@pytest.fixture
def lanes(bundle: Bundle, plan: FaultPlan) -> Iterator[list[Share]]:
    """Four lanes on one engine, in which faults can be put."""
    engines = Engines(PATIENT)
    with ExitStack() as stack:
        found = [engines.open(bundle, "simulated", 1) for _ in range(LANES)]
        yield [stack.enter_context(one) for one in found if isinstance(one, Share)]


def test_every_answer_belongs_to_its_picture(bundle: Bundle, sizes: list[int]) -> None:
    """Four threads with 200 pictures each: every score is what the picture has by itself."""
    images = pictures(PICTURES)
    with open_runtime(bundle.graph, "onnxruntime", 1) as alone:
        expected = [alone.infer(image).score for image in images]
    assert len({round(score, 5) for score in expected}) > PICTURES // 2
    engines = Engines(BatchingSection(max_batch=LANES, max_wait_ms=2))
    sizes.clear()

    def work(lane: int) -> Callable[[], list[float]]:
        def run() -> list[float]:
            with engines.open(bundle, "onnxruntime", 1) as share:
                order = np.roll(np.arange(PICTURES), lane * 37)
                found = {int(at): by(share, images[at])().score for at in order}
            return [found[at] for at in range(PICTURES)]

        return run

    for scores in together([work(lane) for lane in range(LANES)]):
        np.testing.assert_allclose(scores, expected, atol=1e-5)  # type: ignore[call-overload]
    assert sum(sizes) >= LANES * PICTURES
    assert max(sizes) > 1


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_batch_scores_as_its_pictures_do(bundle: Bundle, name: str, count: int) -> None:
    """Scores and maps to 1e-5, also for a size that isn't one of those prepared."""
    if name not in installed():
        pytest.skip(f"{name} is not installed")
    images = pictures(count)
    with open_runtime(bundle.graph, name, 1, 4) as runtime:
        assert isinstance(runtime, Batched)
        batch = runtime.infer_batch(images)
        alone = [runtime.infer(image) for image in images]
    assert len(batch) == count
    for one, other in zip(batch, alone, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        np.testing.assert_allclose(one.values, other.values, atol=1e-5)


def test_lanes_meet_in_one_batch(lanes: list[Share], sizes: list[int]) -> None:
    """As soon as every lane that has parts is there the batch goes: nobody waits a minute."""
    image = pictures(1)[0]
    for _ in range(3):
        together([by(lane, image) for lane in lanes])
    assert LANES in sizes


def test_a_lane_alone_waits_for_nobody(lanes: list[Share], sizes: list[int]) -> None:
    """Others that have a share and no parts don't count: each picture goes by itself."""
    began = monotonic_ns()
    for image in pictures(20):
        by(lanes[0], image)()
    assert sizes == [1] * 20
    assert monotonic_ns() - began < PATIENT.max_wait_ms * 1e6 * 20


def test_a_part_that_is_due_takes_nobody_along(lanes: list[Share], sizes: list[int]) -> None:
    """A lane that had parts just now is not waited for where the deadline doesn't allow it."""
    image = pictures(1)[0]
    together([by(lane, image) for lane in lanes])
    sizes.clear()
    assert lanes[0].infer_by(image, monotonic_ns()).score > 0
    assert sizes == [1]


def test_a_bad_picture_fails_alone(lanes: list[Share]) -> None:
    """One of a wrong shape is its own lane's error; the others get their scores."""
    good, other, third = pictures(3)
    bad = np.zeros((64, 96, 3), np.uint8)
    expected = [lanes[0].infer(image).score for image in (good, other, third)]
    found = together(
        [by(lane, image) for lane, image in zip(lanes, (good, bad, other, third), strict=True)]
    )
    assert isinstance(found[1], InferenceError)
    scores = [one.score for one in (found[0], *found[2:]) if isinstance(one, AnomalyMap)]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_batch_that_fails_is_tried_one_by_one(lanes: list[Share], plan: FaultPlan) -> None:
    """A failure of the runtime that doesn't come again costs no part its score."""
    images = pictures(LANES)
    together([by(lane, images[0]) for lane in lanes])  # from now on they know of each other
    plan.fail(1)
    found = together([by(lane, image) for lane, image in zip(lanes, images, strict=True)])
    assert plan.pending == 0
    assert all(isinstance(one, AnomalyMap) for one in found)


def test_a_runtime_that_fails_for_good_fails_each(lanes: list[Share], plan: FaultPlan) -> None:
    """Every lane hears of it and counts it; when the runtime is well again all work."""
    image = pictures(1)[0]
    plan.fail(100)
    found = together([by(lane, image) for lane in lanes])
    assert all(isinstance(one, InferenceError) for one in found)
    plan.fail(-plan.pending)
    assert all(isinstance(one, AnomalyMap) for one in together([by(x, image) for x in lanes]))


def test_a_bug_in_a_runtime_leaves_nobody_waiting(
    lanes: list[Share], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no runtime may raise ends the thread that met it, and is an error to the others."""
    from inspectd.runtimes.simulated import SimulatedRuntime

    image = pictures(1)[0]
    together([by(lane, image) for lane in lanes])

    def broken(self: SimulatedRuntime, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        raise ZeroDivisionError

    monkeypatch.setattr(SimulatedRuntime, "infer_batch", broken)
    raised = []

    def work(lane: Share) -> Callable[[], object]:
        def run() -> object:
            try:
                return by(lane, image)()
            except ZeroDivisionError as error:
                raised.append(error)
                return error

        return run

    found = together([work(lane) for lane in lanes])
    assert len(raised) == 1
    assert sum(isinstance(one, InferenceError) for one in found) == LANES - 1


def test_a_hang_ends_for_all_or_none(lanes: list[Share], plan: FaultPlan) -> None:
    """All that wait go on waiting, which the watchdog sees, and go on when the runtime does."""
    image = pictures(1)[0]
    plan.hang()
    with ThreadPoolExecutor(LANES) as pool:
        waiting = [pool.submit(by(lane, image)) for lane in lanes]
        threading.Event().wait(0.2)
        assert not any(one.done() for one in waiting)
        plan.resume()
        assert all(one.result(10).score > 0 for one in waiting)


def test_leaving_leaves_the_engine_to_the_others(bundle: Bundle, sizes: list[int]) -> None:
    """A lane may go while others run, and come again; the last one closes the engine."""
    engines = Engines(BatchingSection(max_batch=LANES, max_wait_ms=2))
    image = pictures(1)[0]
    stay = engines.open(bundle, "onnxruntime", 1)
    done = threading.Event()

    def come_and_go() -> int:
        try:
            for _ in range(10):
                with engines.open(bundle, "onnxruntime", 1) as share:
                    by(share, image)()
        finally:
            done.set()
        return 10

    def run() -> int:
        count = 0
        while not done.is_set():
            by(stay, image)()
            count += 1
        return count

    with stay:
        warm_ups = len(sizes)
        assert all(together([run, come_and_go, ]))  # fmt: skip
        assert sizes[:warm_ups].count(LANES) == 2  # opened once, whoever came
        assert sizes[warm_ups:].count(LANES) == 0
    with pytest.raises(InferenceError, match="not entered"):
        stay.infer(image)
    assert engines._engines == {}


def test_lanes_of_one_product_share_and_prove_it(
    bundle: Bundle, tiny_store: ProductStore, tmp_path: Path, sizes: list[int]
) -> None:
    """As the daemon prepares them: one engine, golden pictures reproduced alone and in batches."""
    engines = Engines(BatchingSection(max_batch=2))
    choice = Choice("tiny", None, "onnxruntime", 1)
    setups = [prepare(choice, tiny_store, tmp_path / "none.toml", engines.open) for _ in range(2)]
    (engine,) = engines._engines.values()
    assert engine.users == 2
    assert max(sizes) == 2
    names = {setup.inspector.runtime.name for setup in setups}
    assert names == {open_runtime(bundle.graph, "onnxruntime").name}
    image = pictures(1)[0]
    decisions = together(
        [lambda one=one: one.inspector.inspect(image, 0)[0].score for one in setups]  # type: ignore[misc]
    )
    assert len(set(decisions)) == 1
    for setup in setups:
        setup.lifetime.close()
    assert engines._engines == {}


def test_without_batches_each_has_its_own(bundle: Bundle) -> None:
    """The default: no share, no engine in common."""
    engines = Engines(BatchingSection())
    assert not isinstance(engines.open(bundle, "onnxruntime", 1), Share)


def test_other_threads_or_runtimes_do_not_share(bundle: Bundle) -> None:
    """Only what is the same in all that counts is shared."""
    engines = Engines(BatchingSection(max_batch=2))
    with (
        engines.open(bundle, "onnxruntime", 1),
        engines.open(bundle, "onnxruntime", 2),
        engines.open(bundle, "simulated", 1),
        engines.open(bundle, "onnxruntime", 1),
    ):
        assert sorted(engine.users for engine in engines._engines.values()) == [1, 1, 2]


def test_an_engine_that_does_not_open_is_forgotten(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error reaches who wanted it, and the next one tries anew."""
    from inspectd.runtimes.onnxruntime import OnnxRuntime

    engines = Engines(BatchingSection(max_batch=2))
    with monkeypatch.context() as patch:
        patch.setattr(OnnxRuntime, "infer_batch", lambda self, images: images[99])
        with pytest.raises(IndexError):
            engines.open(bundle, "onnxruntime", 1).__enter__()
    assert engines._engines == {}
    with engines.open(bundle, "onnxruntime", 1) as share:
        assert share.infer(pictures(1)[0]).score > 0
