"""The contract of inference runtimes: every file of ``inspectd/runtimes`` that is installed.

TensorRT's runs on a fake GPU; on a real one see ``tests/gpu``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import inspectd.runtimes
from calibration.backbones import load_backbone
from calibration.graph import ScoringGraph, export_onnx
from calibration.scorers.protoad import RewrittenHead
from inspectd.core.bundle import Graph
from inspectd.core.contracts import Batched, Runtime
from inspectd.core.errors import InferenceError, RuntimeUnavailableError
from inspectd.core.files import sha256_of
from inspectd.runtimes import AUTO, PACKAGES, SIMULATED, installed, open_runtime
from inspectd.runtimes.nvidia.builder import build_engine
from inspectd.runtimes.nvidia.engines import EngineCache, key_of
from inspectd.runtimes.nvidia.fake import FakeMachine

FILES = sorted(
    path.stem
    for path in Path(inspectd.runtimes.__file__).parent.glob("*.py")
    if path.stem != "__init__"
)
SIZE = (64, 96)
PICTURES = [np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8) for seed in range(3)]


@dataclass(frozen=True, slots=True)
class Exported:
    """A real graph, small, in torch and in its ONNX file."""

    module: ScoringGraph
    graph: Graph


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Built-in backbone, 300 prototypes in two tiles, upsampling, smoothing: all there is."""
    backbone = load_backbone("filterbank")
    channels = backbone.network.channels
    prototypes = torch.rand((300, sum(channels)), generator=torch.manual_seed(0))
    prototypes = torch.nn.functional.normalize(prototypes)
    module = ScoringGraph(backbone, RewrittenHead(prototypes, channels, 256), SIZE)
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export_onnx(module, path)
    return Exported(module, Graph(path, SIZE))


@pytest.fixture(params=FILES)
def name(
    request: pytest.FixtureRequest,
    exported: Exported,
    install_gpu: Callable[..., FakeMachine],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Each runtime there is a file for, skipped where its package is not installed."""
    if request.param == "tensorrt":
        monkeypatch.setenv("INSPECTD_CACHE_DIR", str(tmp_path / "cache"))
        _build(install_gpu(), exported.graph, EngineCache(tmp_path / "cache"))
    elif SIMULATED.get(request.param, request.param) not in installed():
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


def _build(machine: FakeMachine, graph: Graph, engines: EngineCache) -> None:
    built = build_engine(
        machine.vendor,
        0,
        graph.path,
        "fp32",
        input_name=graph.names.input,
        size=graph.size,
        workspace_mib=64,
        timing_cache=b"",
        report=lambda stage, done, total: None,
        batch=3,
    )
    device = machine.driver.devices[0]
    key = key_of(sha256_of(graph.path), machine.version, device, "fp32")
    engines.store(key, built, driver="CUDA 12.6", inspectd="test")


@pytest.fixture
def runtime(name: str, exported: Exported) -> Runtime:
    """One runtime, not yet entered."""
    return open_runtime(exported.graph, name, threads=1)


def test_every_file_is_a_runtime_by_its_name() -> None:
    """A new file must be registered under its own name, and nothing else is."""
    assert sorted([*PACKAGES, *SIMULATED]) == FILES


def test_it_agrees_with_torch(runtime: Runtime, exported: Exported) -> None:
    """Score and map are torch's to 1e-4, picture after picture."""
    with runtime, torch.inference_mode():
        for picture in PICTURES:
            values, score = exported.module(torch.tensor(picture[None]))
            anomaly = runtime.infer(picture)
            assert anomaly.score == pytest.approx(float(score), abs=1e-4)
            np.testing.assert_allclose(anomaly.values, values[0].numpy(), atol=1e-4)


def test_a_result_is_what_the_pipeline_expects(runtime: Runtime) -> None:
    """The map is float32 (H, W) of the input's size, and the score a Python float, its maximum."""
    with runtime:
        anomaly = runtime.infer(PICTURES[0])
    assert anomaly.values.shape == SIZE
    assert anomaly.values.dtype == np.float32
    assert type(anomaly.score) is float
    assert anomaly.score == pytest.approx(float(anomaly.values.max()), abs=1e-6)


def test_a_result_outlives_the_next_and_the_runtime(runtime: Runtime) -> None:
    """A map isn't a window on a buffer that the next picture overwrites or leaving frees."""
    with runtime:
        first = runtime.infer(PICTURES[0])
        kept = first.values.copy()
        runtime.infer(PICTURES[1])
    np.testing.assert_array_equal(first.values, kept)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_batch_gives_each_picture_its_own(name: str, exported: Exported, count: int) -> None:
    """Scores and maps are those of the pictures alone, to 1e-5, and outlive the next batch."""
    with open_runtime(exported.graph, name, threads=1, batch=3) as runtime:
        assert isinstance(runtime, Batched)
        assert runtime.largest_batch == 3
        found = runtime.infer_batch(PICTURES[-count:])
        alone = [runtime.infer(picture) for picture in PICTURES[-count:]]
        runtime.infer_batch(PICTURES)
    assert len(found) == count
    for one, other in zip(found, alone, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        np.testing.assert_allclose(one.values, other.values, atol=1e-5)


def test_a_batch_with_a_bad_picture_fails(name: str, exported: Exported) -> None:
    """As an `InferenceError`; the next batch scores as ever. Unasked, there are no batches."""
    with open_runtime(exported.graph, name, threads=1, batch=3) as runtime:
        assert isinstance(runtime, Batched)
        for bad in (np.zeros((*SIZE[::-1], 3), np.uint8), PICTURES[1].astype(np.float32)):
            with pytest.raises(InferenceError, match=runtime.name.split("-")[0]):
                runtime.infer_batch([PICTURES[0], bad])
        assert len(runtime.infer_batch(PICTURES[:2])) == 2
    with pytest.raises(InferenceError):
        runtime.infer_batch(PICTURES[:2])
    plain = open_runtime(exported.graph, name, threads=1)
    assert isinstance(plain, Batched)
    assert plain.largest_batch == 1


def test_it_takes_the_cameras_own_picture(runtime: Runtime) -> None:
    """A read-only picture and a view with gaps score as their copy does, and stay unchanged."""
    wide = np.zeros((SIZE[0], SIZE[1] * 2, 3), np.uint8)
    view = wide[:, ::2]
    view[:] = PICTURES[0]
    view.flags.writeable = False
    with runtime:
        assert runtime.infer(view).score == runtime.infer(PICTURES[0]).score
    np.testing.assert_array_equal(view, PICTURES[0])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((*SIZE[::-1], 3), np.uint8),
        np.zeros((SIZE[0], SIZE[1] + 1, 3), np.uint8),
        np.zeros(SIZE, np.uint8),
        np.zeros((*SIZE, 4), np.uint8),
        np.zeros((0, 0, 3), np.uint8),
    ],
    ids=["turned", "wider", "grey", "rgba", "empty"],
)
def test_a_bad_shape_fails_alone(runtime: Runtime, image: np.ndarray) -> None:
    """A picture of a wrong shape is an `InferenceError`; the next one scores as ever."""
    with runtime:
        before = runtime.infer(PICTURES[0]).score
        with pytest.raises(InferenceError, match=runtime.name.split("-")[0]):
            runtime.infer(image)
        assert runtime.infer(PICTURES[0]).score == before


def test_a_bad_type_fails_alone(runtime: Runtime) -> None:
    """Pixels that aren't bytes are an `InferenceError`, not reinterpreted."""
    with runtime, pytest.raises(InferenceError):
        runtime.infer(PICTURES[0].astype(np.float32))  # type: ignore[arg-type]


def test_leaving_releases(runtime: Runtime) -> None:
    """Outside its context a runtime doesn't infer; entered again it does."""
    with pytest.raises(InferenceError):
        runtime.infer(PICTURES[0])
    with runtime as entered:
        assert entered is runtime
        score = runtime.infer(PICTURES[0]).score
    with pytest.raises(InferenceError):
        runtime.infer(PICTURES[0])
    with runtime:
        assert runtime.infer(PICTURES[0]).score == pytest.approx(score, abs=1e-6)


def test_leaving_lets_errors_through(runtime: Runtime) -> None:
    """An error inside the context is not swallowed, and the runtime is released all the same."""
    with pytest.raises(ZeroDivisionError), runtime:
        raise ZeroDivisionError
    with pytest.raises(InferenceError):
        runtime.infer(PICTURES[0])


@pytest.mark.parametrize("content", [None, b"", b"no model"], ids=["missing", "empty", "damaged"])
def test_a_bad_file_is_unavailable(name: str, tmp_path: Path, content: bytes | None) -> None:
    """A model that is missing or damaged is named in a `RuntimeUnavailableError`."""
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RuntimeUnavailableError, match=r"model\.onnx"):
        open_runtime(Graph(path, SIZE), name).__enter__()


def test_its_name_says_what_runs(runtime: Runtime, name: str) -> None:
    """Logs and `state` show runtime, version, precision and device."""
    assert runtime.name.startswith(f"{name}-")
    assert " fp32 " in runtime.name
    assert ("CPU" in runtime.name) == (name != "tensorrt")


def test_auto_takes_the_best_that_is_installed(exported: Exported) -> None:
    """Without a choice the first installed runtime of the table runs, never a simulated one."""
    here = [name for name, packages in PACKAGES.items() if all(map(find_spec, packages))]
    assert installed() == here
    on_cpu = [name for name in here if name != "tensorrt"]  # which needs an engine, too
    assert open_runtime(exported.graph, AUTO).name.startswith(f"{on_cpu[0]}-")


def test_an_unknown_runtime_is_refused(exported: Exported) -> None:
    """The error lists the names there are."""
    with pytest.raises(
        RuntimeUnavailableError, match="known: auto, tensorrt, openvino, onnxruntime"
    ):
        open_runtime(exported.graph, "tensorrrt")


@pytest.mark.parametrize("choice", [AUTO, *PACKAGES])
def test_a_package_that_is_absent_is_explained(
    exported: Exported, choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install."""
    absent: Callable[[str], None] = lambda package: None  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", absent)
    with pytest.raises(RuntimeUnavailableError, match="pip install"):
        open_runtime(exported.graph, choice)


def test_bfloat16_stays_within_its_rounding(exported: Exported) -> None:
    """Where the CPU computes bfloat16, scores move by no more than the runtime says."""
    if "openvino" not in installed():
        pytest.skip("openvino is not installed")
    runtime = open_runtime(exported.graph, "openvino-bf16", threads=1)
    try:
        runtime.__enter__()
    except RuntimeUnavailableError as error:
        pytest.skip(str(error))
    with torch.inference_mode():
        for picture in PICTURES:
            _, score = exported.module(torch.tensor(picture[None]))
            assert runtime.infer(picture).score == pytest.approx(float(score), abs=runtime.rounding)
    runtime.__exit__(None, None, None)


def test_reduced_precision_is_never_chosen_alone(exported: Exported) -> None:
    """`auto` takes fp32."""
    assert open_runtime(exported.graph, AUTO).rounding == 0.0
