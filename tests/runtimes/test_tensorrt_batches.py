"""Batches on a fake GPU: profiles, contexts, a graph for each size, memory, what is given back."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from inspectd.core.bundle import Bundle
from inspectd.core.config import BatchingSection
from inspectd.core.contracts import Batched
from inspectd.core.errors import EngineError, InferenceError
from inspectd.core.files import sha256_of
from inspectd.core.records import ImageArray
from inspectd.core.store import ProductStore
from inspectd.daemon import batcher
from inspectd.daemon.sharing import Engines
from inspectd.runtimes import open_runtime
from inspectd.runtimes.nvidia.builder import build_engine
from inspectd.runtimes.nvidia.engines import EngineCache, SideCar, key_of
from inspectd.runtimes.nvidia.fake import FakeMachine
from inspectd.runtimes.tensorrt import TensorRtRuntime

InstallGpu = Callable[..., FakeMachine]
VERSIONS = ("8.6.1", "10.3.0", "11.4.0")


@pytest.fixture
def bundle(tiny_store: ProductStore) -> Bundle:
    """A real product of (96, 96)."""
    return tiny_store.open("tiny")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory."""
    monkeypatch.setenv("INSPECTD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pictures() -> list[ImageArray]:
    """Five that score differently."""
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (96, 96, 3), np.uint8) // divisor for divisor in (1, 2, 3, 5, 8)]


def build(machine: FakeMachine, bundle: Bundle, cache: Path, batch: int) -> SideCar:
    """Puts an fp32 engine into the cache."""
    graph = bundle.graph
    key = key_of(sha256_of(graph.path), machine.version, machine.driver.devices[0], "fp32")
    built = build_engine(
        machine.vendor,
        0,
        graph.path,
        "fp32",
        input_name="image",
        size=graph.size,
        workspace_mib=64,
        timing_cache=b"",
        report=lambda stage, done, total: None,
        batch=batch,
    )
    return EngineCache(cache).store(key, built, driver="CUDA 12.6", inspectd="test")


def expected(bundle: Bundle, pictures: Sequence[ImageArray]) -> list[float]:
    """The reference's scores."""
    with open_runtime(bundle.graph, "onnxruntime", 1) as reference:
        return [reference.infer(picture).score for picture in pictures]


def assert_clean(machine: FakeMachine) -> None:
    """Nothing of the GPU is taken but its context."""
    gc.collect()
    assert machine.used == 0
    assert {kind for kind, count in machine.live.items() if count} <= {"context"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("has_graphs", [True, False], ids=["graphs", "plain"])
def test_every_batch_size_scores_as_the_reference(
    install_gpu: InstallGpu,
    bundle: Bundle,
    cache: Path,
    pictures: list[ImageArray],
    version: str,
    has_graphs: bool,
) -> None:
    """One to four pictures, in any order of sizes, each with its own score and map."""
    machine = install_gpu(version, has_graphs=has_graphs)
    build(machine, bundle, cache, 4)
    scores = expected(bundle, pictures)
    with open_runtime(bundle.graph, "tensorrt", batch=4) as runtime:
        assert isinstance(runtime, Batched)
        assert runtime.largest_batch == 4
        for places in ((0, 1, 2, 3), (4,), (3, 1), (2, 0, 4), (0,), (4, 3, 2, 1)):
            found = runtime.infer_batch([pictures[place] for place in places])
            assert [one.score for one in found] == pytest.approx(
                [scores[place] for place in places], abs=1e-5
            )
            assert all(one.values.max() == pytest.approx(one.score, abs=1e-5) for one in found)
            assert runtime.infer(pictures[1]).score == pytest.approx(scores[1], abs=1e-5)
    assert_clean(machine)


def test_each_size_is_captured_once(
    install_gpu: InstallGpu, bundle: Bundle, cache: Path, pictures: list[ImageArray]
) -> None:
    """All at the entering: while the line runs each batch is one launch, three as four."""
    machine = install_gpu()
    build(machine, bundle, cache, 4)
    with open_runtime(bundle.graph, "tensorrt", batch=4) as runtime:
        assert machine.live["graph"] == machine.live["execution"] == 3
        before = machine.calls.copy()
        for count in (1, 2, 3, 4):
            runtime.infer_batch(pictures[:count])  # type: ignore[attr-defined]
        spent = machine.calls - before
    assert spent["cuGraphLaunch"] == 4
    assert "enqueue" not in spent
    assert "cuStreamBeginCapture" not in spent


def test_contexts_share_their_memory(install_gpu: InstallGpu, bundle: Bundle, cache: Path) -> None:
    """Three sizes take one workspace and the buffers of the largest, not one each."""
    machine = install_gpu()
    machine.workspace = 2**26
    build(machine, bundle, cache, 4)
    with open_runtime(bundle.graph, "tensorrt", batch=4):
        buffers = 4 * (96 * 96 * 3 + 96 * 96 * 4 + 4)
        assert machine.used == 2**26 + buffers
    with open_runtime(bundle.graph, "tensorrt"):
        assert machine.live["execution"] == 1
        assert machine.used == 2**26 + buffers // 4


@pytest.mark.parametrize(
    ("built", "wanted", "largest", "contexts"),
    [(8, 3, 3, 3), (8, 8, 8, 4), (2, 4, 2, 2), (1, 4, 1, 1)],
)
def test_no_more_is_loaded_than_is_wanted_and_there(
    install_gpu: InstallGpu,
    bundle: Bundle,
    cache: Path,
    built: int,
    wanted: int,
    largest: int,
    contexts: int,
) -> None:
    """What the engine takes bounds it, and what was asked for."""
    machine = install_gpu()
    assert build(machine, bundle, cache, built).batch == built
    with open_runtime(bundle.graph, "tensorrt", batch=wanted) as runtime:
        assert runtime.largest_batch == largest  # type: ignore[attr-defined]
        assert machine.live["execution"] == contexts


def test_a_batch_has_a_profile_of_its_own_for_each_size(
    install_gpu: InstallGpu, bundle: Bundle, cache: Path
) -> None:
    """The first is that of one picture, tuned for nothing else."""
    machine = install_gpu()
    build(machine, bundle, cache, 6)
    _, config = machine.last_build
    assert config.profiles == [((count, 96, 96, 3),) * 3 for count in (1, 2, 4, 6)]


def test_bad_batches_are_errors(
    install_gpu: InstallGpu, bundle: Bundle, cache: Path, pictures: list[ImageArray]
) -> None:
    """Too many pictures, or one of another shape; the next batch goes well."""
    machine = install_gpu()
    build(machine, bundle, cache, 4)
    with TensorRtRuntime(bundle.graph, batch=4) as runtime:
        with pytest.raises(InferenceError, match="5 pictures are more than 4"):
            runtime.infer_batch(pictures)
        with pytest.raises(InferenceError, match="the engine takes uint8"):
            runtime.infer_batch([pictures[0], pictures[1][:48]])
        assert len(runtime.infer_batch(pictures[:4])) == 4


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("call", "after"),
    [
        ("cuMemAlloc", 0),
        ("cuMemAlloc", 2),
        ("create_execution_context", 0),
        ("create_execution_context", 1),
        ("set_optimization_profile_async", 1),
        ("enqueue", 3),
        ("cuGraphInstantiate", 1),
    ],
)
def test_a_load_that_fails_leaves_nothing(
    install_gpu: InstallGpu, bundle: Bundle, cache: Path, version: str, call: str, after: int
) -> None:
    """Wherever between the sizes it fails; and the remedy keeps the batch."""
    machine = install_gpu(version)
    build(machine, bundle, cache, 4)
    machine.fail(call, *[""] * after, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
    with pytest.raises(EngineError, match="--batch 4 --rebuild"):
        open_runtime(bundle.graph, "tensorrt", batch=4).__enter__()
    assert_clean(machine)


def test_keep_warm_after_a_batch(
    install_gpu: InstallGpu, bundle: Bundle, cache: Path, pictures: list[ImageArray]
) -> None:
    """It runs one picture, and spoils nothing."""
    machine = install_gpu()
    build(machine, bundle, cache, 2)
    with TensorRtRuntime(bundle.graph, batch=2) as runtime:
        kept = runtime.infer_batch(pictures[:2])
        runtime.keep_warm()
        assert [one.score for one in kept] == pytest.approx(expected(bundle, pictures[:2]))


def test_lanes_keep_their_engine_warm_together(
    install_gpu: InstallGpu, bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks for it while it idles; the engine works once for all, and not while it is warm."""
    machine = install_gpu()
    build(machine, bundle, cache, 2)
    engines = Engines(BatchingSection(max_batch=2))
    shares = [engines.open(bundle, "tensorrt", 1) for _ in range(2)]
    with shares[0], shares[1]:
        before = machine.calls["cuGraphLaunch"]
        monkeypatch.setattr(batcher, "WARM_NS", 0)
        shares[0].keep_warm()  # type: ignore[attr-defined]
        assert machine.calls["cuGraphLaunch"] == before + 1
        monkeypatch.setattr(batcher, "WARM_NS", 10**12)
        for share in shares:
            share.keep_warm()  # type: ignore[attr-defined]
        assert machine.calls["cuGraphLaunch"] == before + 1
    assert_clean(machine)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda execution: execution.set_input_shape("image", (4, 96, 96, 3)), "since it was"),
        (lambda execution: execution.set_tensor_address("score", 4096), "since it was"),
    ],
    ids=["shape", "address"],
)
def test_the_fake_knows_that_a_captured_context_must_rest(
    install_gpu: InstallGpu,
    bundle: Bundle,
    cache: Path,
    pictures: list[ImageArray],
    spoil: Callable[..., object],
    problem: str,
) -> None:
    """Who touches a context after the capture gets no results from its graph."""
    machine = install_gpu()
    build(machine, bundle, cache, 4)
    with TensorRtRuntime(bundle.graph, batch=4) as runtime:
        assert runtime._loaded is not None
        spoil(runtime._loaded._executions[-1])
        with pytest.raises(InferenceError, match=problem):
            runtime.infer_batch(pictures[:4])
        runtime.infer_batch(pictures[:2])


def test_the_fake_guards_profiles(install_gpu: InstallGpu, bundle: Bundle, cache: Path) -> None:
    """Up to 8.6 two contexts have never the same; without one no shape is taken."""
    for version, is_shared in (("8.6.1", False), ("10.3.0", True)):
        machine = install_gpu(version)
        plan = EngineCache(cache).load(build(machine, bundle, cache, 2))
        with machine.vendor.current(0):
            engine = machine.vendor.trt.Runtime(machine.vendor.log).deserialize_cuda_engine(plan)
            first, second = (engine.create_execution_context() for _ in range(2))
            stream = machine.vendor.cuda.Stream(1)
            assert first.set_input_shape("image", (1, 96, 96, 3))
            assert not first.set_input_shape("image", (2, 96, 96, 3))
            assert not second.set_input_shape("image", (2, 96, 96, 3))
            assert second.set_optimization_profile_async(0, stream.handle) == is_shared
            assert not second.set_optimization_profile_async(2, stream.handle)
            assert second.set_optimization_profile_async(1, stream.handle)
            assert second.set_input_shape("image", (2, 96, 96, 3))
            assert not second.execute_async_v3(stream.handle)  # nor before the stream is there
            del first, second, stream, engine
        assert_clean(machine)
