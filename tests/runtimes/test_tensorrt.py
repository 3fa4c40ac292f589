"""The TensorRT runtime's logic, on a fake GPU: contexts, graph, memory, errors, engines."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspectd.cli.doctor import TINY_GRAPH, TINY_SIZE
from inspectd.core.bundle import Bundle, Graph
from inspectd.core.contracts import MustProve, Warmable
from inspectd.core.errors import EngineError, InferenceError, RuntimeUnavailableError
from inspectd.core.files import sha256_of
from inspectd.core.store import ProductStore
from inspectd.pipeline import verified
from inspectd.pipeline.parity import Bounds, Pair, judge
from inspectd.runtimes import open_runtime
from inspectd.runtimes.nvidia.builder import build_engine
from inspectd.runtimes.nvidia.engines import EngineCache, key_of
from inspectd.runtimes.nvidia.fake import FakeMachine
from inspectd.runtimes.tensorrt import TensorRtRuntime, model_file, model_hash

InstallGpu = Callable[..., FakeMachine]
PICTURE = np.random.default_rng(3).integers(0, 256, (96, 96, 3), np.uint8)
OTHER = 255 - PICTURE


@pytest.fixture
def bundle(tiny_store: ProductStore) -> Bundle:
    """A real product of (96, 96)."""
    return tiny_store.open("tiny")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory."""
    monkeypatch.setenv("INSPECTD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(machine: FakeMachine, graph: Graph, cache: Path, precision: str = "fp32") -> str:
    """Puts an engine into the cache; the name of the runtime that has it."""
    key = key_of(
        model_hash(graph, precision), machine.version, machine.driver.devices[0], precision
    )
    built = build_engine(
        machine.vendor,
        0,
        model_file(graph, precision),
        precision,
        input_name="image",
        size=graph.size,
        workspace_mib=64,
        timing_cache=b"",
        report=lambda stage, done, total: None,
    )
    return EngineCache(cache).store(key, built, driver="CUDA 12.6", inspectd="test").label


def prove(cache: Path, graph: Graph, name: str) -> None:
    """Records that a runtime has passed the gate."""
    pairs = [Pair("golden", False, 0.1, 0.1, True), Pair("good/0.png", False, 0.1, 0.1)]
    parity = judge(pairs, 0.5, Bounds.of(1e-3, 0))
    assert parity.passed
    verified.write(cache, sha256_of(graph.path), name, parity)


@pytest.fixture
def machine(install_gpu: InstallGpu, bundle: Bundle, cache: Path) -> FakeMachine:
    """A GPU with an fp32 engine for the product."""
    machine = install_gpu()
    build(machine, bundle.graph, cache)
    return machine


@pytest.fixture
def expected(bundle: Bundle) -> float:
    """The reference's score of `PICTURE`."""
    with open_runtime(bundle.graph, "onnxruntime", 1) as reference:
        return reference.infer(PICTURE).score


def in_thread(work: Callable[[], object]) -> object:
    """What a function gives or raises in a thread of its own."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:  # noqa: BLE001 - it is the outcome
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


def test_threads_take_turns(machine: FakeMachine, bundle: Bundle, expected: float) -> None:
    """One thread enters, another infers, a third leaves: as in the daemon; nothing is left over."""
    runtime = open_runtime(bundle.graph, "tensorrt")
    in_thread(runtime.__enter__)
    anomaly = in_thread(lambda: runtime.infer(PICTURE))
    assert anomaly.score == pytest.approx(expected, abs=1e-6)  # type: ignore[attr-defined]
    assert in_thread(lambda: runtime.__exit__(None, None, None)) is None
    assert machine.live == {"context": 1} | dict.fromkeys(set(machine.live) - {"context"}, 0)
    assert machine.used == 0


def test_no_context_stays_current(machine: FakeMachine, bundle: Bundle) -> None:
    """After every call, a failed one too, the thread's contexts are as they were."""
    runtime = open_runtime(bundle.graph, "tensorrt")
    with runtime:
        assert machine.stack == []
        runtime.infer(PICTURE)
        assert machine.stack == []
        machine.fail("cuGraphLaunch", "CUDA_ERROR_LAUNCH_FAILED")
        with pytest.raises(InferenceError):
            runtime.infer(PICTURE)
        assert machine.stack == []
    assert machine.stack == []


def test_captured_once_and_replayed(machine: FakeMachine, bundle: Bundle) -> None:
    """The engine is enqueued once plainly and once for the capture; each part is one launch."""
    with open_runtime(bundle.graph, "tensorrt") as runtime:
        assert machine.calls["enqueue"] == 2
        launched = machine.calls["cuGraphLaunch"]
        scores = {runtime.infer(picture).score for picture in (PICTURE, OTHER, PICTURE)}
    assert len(scores) == 2
    assert machine.calls["enqueue"] == 2
    assert machine.calls["cuGraphLaunch"] - launched == 3
    assert machine.calls["cuStreamBeginCapture"] == 1


def test_without_cuda_bindings_it_enqueues(
    install_gpu: InstallGpu, bundle: Bundle, cache: Path, expected: float
) -> None:
    """Where the package for graphs isn't there each part is enqueued; the score is the same."""
    machine = install_gpu(has_graphs=False)
    build(machine, bundle.graph, cache)
    with TensorRtRuntime(bundle.graph) as runtime:
        assert not runtime.is_captured
        assert runtime.infer(PICTURE).score == pytest.approx(expected, abs=1e-6)
        assert machine.calls["enqueue"] == 2


def test_two_runtimes_at_once(machine: FakeMachine, bundle: Bundle, expected: float) -> None:
    """At a changeover the new one is loaded and verified while the old one works, in turns."""
    old = open_runtime(bundle.graph, "tensorrt").__enter__()
    new = open_runtime(bundle.graph, "tensorrt")
    in_thread(new.__enter__)
    assert old.infer(PICTURE).score == pytest.approx(expected, abs=1e-6)
    in_thread(lambda: old.__exit__(None, None, None))
    assert new.infer(PICTURE).score == pytest.approx(expected, abs=1e-6)
    new.__exit__(None, None, None)
    assert machine.used == 0
    assert machine.live["context"] == 1


def test_keep_warm_runs_the_last_picture(
    machine: FakeMachine, bundle: Bundle, expected: float
) -> None:
    """It works on the GPU and changes nothing."""
    with open_runtime(bundle.graph, "tensorrt") as runtime:
        assert isinstance(runtime, Warmable)
        kept = runtime.infer(PICTURE)
        launched = machine.calls["cuGraphLaunch"]
        runtime.keep_warm()
        assert machine.calls["cuGraphLaunch"] == launched + 1
        assert kept.score == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InferenceError, match="not entered"):
        runtime.keep_warm()


def test_a_thousand_loads_leave_nothing(
    install_gpu: InstallGpu, tmp_path: Path, cache: Path
) -> None:
    """Loading and leaving over and over takes no memory, one context, and no more of anything."""
    machine = install_gpu()
    (tmp_path / "tiny.onnx").write_bytes(TINY_GRAPH)
    graph = Graph(tmp_path / "tiny.onnx", TINY_SIZE)
    build(machine, graph, cache)
    for _ in range(1000):
        with open_runtime(graph, "tensorrt") as runtime:
            assert runtime.infer(np.full((*TINY_SIZE, 3), 7, np.uint8)).score == 7
    gc.collect()
    assert machine.used == 0
    assert machine.memory == {}
    assert not machine.streams
    assert {kind for kind, count in machine.live.items() if count} == {"context"}
    assert machine.live["context"] == 1


def test_released_newest_first(machine: FakeMachine, bundle: Bundle) -> None:
    """The graph goes before what it uses, and the engine last."""
    with open_runtime(bundle.graph, "tensorrt"):
        machine.released.clear()
    order = [*dict.fromkeys(machine.released)]
    assert order == ["graph", "device", "pinned", "stream", "execution", "engine"]


FAILURES = [
    ("cuMemAlloc", "out of memory", "nvidia-smi says who holds it"),
    ("cuStreamCreate", "unspecified launch failure", "lost to this process"),
    ("cuMemHostAlloc", "out of memory", "memory is full"),
    ("deserialize_cuda_engine", "CUDA driver version is insufficient", "update NVIDIA's driver"),
    ("deserialize_cuda_engine", "Version tag does not match", "inspectd build --product tiny"),
    ("create_execution_context", "no", "inspectd build"),
    ("enqueue", "Cask execution failed", "Cask execution failed"),
    ("cuStreamEndCapture", "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "CAPTURE_INVALIDATED"),
    ("cuGraphInstantiate", "CUDA_ERROR_OUT_OF_MEMORY", "memory is full"),
]


@pytest.mark.parametrize(("call", "message", "remedy"), FAILURES)
def test_a_load_that_fails_leaves_nothing(
    machine: FakeMachine, bundle: Bundle, call: str, message: str, remedy: str
) -> None:
    """Whatever fails becomes an `EngineError` with its remedy, and all is given back."""
    machine.fail(call, message)
    with pytest.raises(EngineError, match=remedy):
        open_runtime(bundle.graph, "tensorrt").__enter__()
    gc.collect()
    assert machine.used == 0
    assert {kind for kind, count in machine.live.items() if count} <= {"context"}
    with open_runtime(bundle.graph, "tensorrt") as runtime:
        runtime.infer(PICTURE)


def test_a_full_gpu_says_how_full(machine: FakeMachine, bundle: Bundle) -> None:
    """Before TensorRT tries, with the figures."""
    machine.workspace = 2**32
    with pytest.raises(EngineError, match=r"4096 MiB, 10\d\d MiB are free; .* take another GPU"):
        open_runtime(bundle.graph, "tensorrt").__enter__()


@pytest.mark.parametrize(
    ("call", "message", "remedy"),
    [
        ("cuGraphLaunch", "CUDA_ERROR_LAUNCH_FAILED", "must start anew"),
        ("cuStreamSynchronize", "an illegal memory access was encountered", "lost"),
        ("cuStreamSynchronize", "uncorrectable ECC error encountered", "Xid"),
        ("cuGraphLaunch", "CUDA_ERROR_OUT_OF_MEMORY", "nvidia-smi"),
    ],
)
def test_a_part_that_fails_is_an_inference_error(
    machine: FakeMachine, bundle: Bundle, call: str, message: str, remedy: str
) -> None:
    """The daemon hears what to do; where the GPU recovers the next part is inspected."""
    with open_runtime(bundle.graph, "tensorrt") as runtime:
        machine.fail(call, message)
        with pytest.raises(InferenceError, match=remedy):
            runtime.infer(PICTURE)
        runtime.infer(PICTURE)


def test_leaving_a_lost_gpu_is_quiet(machine: FakeMachine, bundle: Bundle) -> None:
    """Closing gives back what can be, and raises nothing that hides why it is closed."""
    runtime = open_runtime(bundle.graph, "tensorrt").__enter__()
    machine.fail("cuStreamSynchronize", "unspecified launch failure")
    runtime.__exit__(None, None, None)
    assert machine.used == 0


def test_without_an_engine_it_says_what_to_type(
    install_gpu: InstallGpu, bundle: Bundle, cache: Path
) -> None:
    """The exact command: product, revision, places and precision."""
    install_gpu()
    state = bundle.path.parents[2]
    with pytest.raises(EngineError) as caught:
        open_runtime(replace(bundle.graph), "tensorrt-fp32")
    said = str(caught.value)
    assert "no fp32 engine for TensorRT 10.3.0 on Fake GPU" in said
    assert said.endswith(
        f"inspectd build --product tiny --revision {bundle.manifest.revision} "
        f"--state-dir {state} --precision fp32"
    )
    with pytest.raises(EngineError, match=r"--precision fp16$"):
        open_runtime(bundle.graph, "tensorrt")


def test_a_service_gets_a_command_for_a_shell(
    install_gpu: InstallGpu, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where systemd chose the cache directory, the command names it."""
    install_gpu()
    monkeypatch.delenv("INSPECTD_CACHE_DIR")
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "var cache"))
    with pytest.raises(EngineError, match=r"INSPECTD_CACHE_DIR='.*var cache' inspectd build"):
        open_runtime(bundle.graph, "tensorrt")


def test_a_damaged_engine_is_not_loaded(machine: FakeMachine, bundle: Bundle, cache: Path) -> None:
    """An engine that isn't the one that was built is refused with the command to rebuild it."""
    (plan,) = (cache / "engines").glob("*.plan")
    plan.write_bytes(plan.read_bytes()[:-1])
    with pytest.raises(EngineError, match=r"is damaged.* --precision fp32 --rebuild"):
        open_runtime(bundle.graph, "tensorrt").__enter__()


def test_the_best_is_fp16_once_proven(machine: FakeMachine, bundle: Bundle, cache: Path) -> None:
    """A proven engine goes before one that isn't, and fp16 before fp32."""
    graph = bundle.graph
    half = build(machine, graph, cache, "fp16")
    assert open_runtime(graph, "tensorrt").name == half
    exact = open_runtime(graph, "tensorrt-fp32").name
    prove(cache, graph, exact)
    assert open_runtime(graph, "tensorrt").name == exact
    prove(cache, graph, half)
    runtime = open_runtime(graph, "tensorrt")
    assert runtime.name == half
    assert runtime.rounding == 0.002
    assert half.startswith("tensorrt-10.3.0 fp16 Fake GPU (engine ")


def test_auto_wants_a_proven_engine(machine: FakeMachine, bundle: Bundle, cache: Path) -> None:
    """`auto` stays on the CPU until there is one, and then takes the GPU."""
    assert "CPU" in open_runtime(bundle.graph).name
    name = open_runtime(bundle.graph, "tensorrt").name
    prove(cache, bundle.graph, name)
    assert open_runtime(bundle.graph).name == name


def test_auto_stays_on_the_cpu_without_a_driver(
    machine: FakeMachine, bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache from better days doesn't count."""

    def refuse() -> None:
        raise RuntimeUnavailableError("no driver")

    prove(cache, bundle.graph, open_runtime(bundle.graph, "tensorrt").name)
    monkeypatch.setattr("inspectd.runtimes.nvidia.driver.probe", refuse)
    assert "CPU" in open_runtime(bundle.graph).name


def test_another_version_has_no_engine(
    machine: FakeMachine, install_gpu: InstallGpu, bundle: Bundle
) -> None:
    """After an update of TensorRT or another GPU the old engine counts as missing."""
    install_gpu("11.4.0")
    with pytest.raises(EngineError, match=r"for TensorRT 11\.4\.0 on Fake GPU"):
        open_runtime(bundle.graph, "tensorrt")
    install_gpu(name="Other GPU")
    with pytest.raises(EngineError, match="on Other GPU"):
        open_runtime(bundle.graph, "tensorrt")


def test_the_daemon_demands_proof(machine: FakeMachine, bundle: Bundle, cache: Path) -> None:
    """The runtime says with which command it is proven."""
    runtime = open_runtime(bundle.graph, "tensorrt")
    assert isinstance(runtime, MustProve)
    command = runtime.proof_command
    assert command.startswith(
        f"inspectd verify --product tiny --revision {bundle.manifest.revision}"
    )
    assert command.endswith("--runtime tensorrt-fp32 --images HOLDOUT")
