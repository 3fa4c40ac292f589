"""The cache of engines, the builder by TensorRT's version, and the driver's answers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inspectd.cli.doctor import TINY_GRAPH, TINY_SIZE
from inspectd.core.errors import EngineError, RuntimeUnavailableError
from inspectd.runtimes.nvidia.builder import build_engine
from inspectd.runtimes.nvidia.driver import Device, probe
from inspectd.runtimes.nvidia.engines import Built, EngineCache, EngineKey, key_of
from inspectd.runtimes.nvidia.fake import FakeMachine
from inspectd.runtimes.nvidia.vendor import explained

GPU = Device(0, "NVIDIA RTX 4000 SFF", (8, 9), 2**34)
KEY = key_of("a" * 64, "8.6.1", GPU, "fp16")
BUILT = Built(b"a plan", 12, 3.25, b"timing")


@pytest.fixture
def engines(tmp_path: Path) -> EngineCache:
    """An empty cache."""
    return EngineCache(tmp_path)


def store(engines: EngineCache, built: Built = BUILT) -> Any:
    """Puts an engine in."""
    return engines.store(KEY, built, driver="CUDA 12.4", inspectd="0")


def test_what_is_stored_is_found(engines: EngineCache) -> None:
    """With all that is known of it, by a name that people can read."""
    side_car = store(engines)
    assert engines.find(KEY) == side_car
    assert engines.load(side_car) == b"a plan"
    assert side_car.plan.startswith("aaaaaaaaaaaaaaaa-trt8.6.1-sm89-nvidia-rtx-4000-sff-fp16-")
    assert engines.timing_cache(KEY) == b"timing"
    assert engines.all() == [side_car]


@pytest.mark.parametrize(
    "other",
    [
        {"model": "b" * 64},
        {"model": "a" * 63 + "b"},
        {"tensorrt": "10.3.0"},
        {"capability": "9.0"},
        {"device": "NVIDIA RTX-4000 SFF"},
        {"precision": "fp32"},
    ],
)
def test_another_key_has_no_engine(engines: EngineCache, other: dict[str, str]) -> None:
    """Each part of the key counts, one that gives the same file name too."""
    store(engines)
    assert engines.find(replace(KEY, **other)) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}', '{"schema": 2}'])
def test_a_damaged_side_car_is_none(engines: EngineCache, content: str) -> None:
    """The engine counts as missing, and a new build replaces it."""
    store(engines)
    (engines.folder / f"{KEY.stem}.json").write_text(content)
    assert engines.find(KEY) is None
    assert engines.all() == []
    store(engines)
    assert engines.find(KEY) is not None


def test_a_damaged_or_missing_plan_is_refused(engines: EngineCache) -> None:
    """By its sha256, naming the file."""
    side_car = store(engines)
    path = engines.folder / side_car.plan
    path.write_bytes(b"b plan")
    with pytest.raises(EngineError, match=r"plan: the engine is damaged"):
        engines.load(side_car)
    path.unlink()
    with pytest.raises(EngineError, match=r"plan: the engine can't be read"):
        engines.load(side_car)


def test_a_new_build_replaces_the_old(engines: EngineCache) -> None:
    """One plan stays, and no temporary file."""
    store(engines)
    side_car = store(engines, replace(BUILT, plan=b"another"))
    assert engines.load(side_car) == b"another"
    names = sorted(path.suffix for path in engines.folder.iterdir())
    assert names == [".json", ".plan", ".timing"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of three nodes."""
    path = tmp_path / "tiny.onnx"
    path.write_bytes(TINY_GRAPH)
    return path


def build(
    machine: FakeMachine,
    model: Path,
    precision: str,
    report: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Built:
    """Builds on a fake machine."""
    return build_engine(
        machine.vendor,
        0,
        model,
        precision,
        input_name="image",
        size=TINY_SIZE,
        workspace_mib=64,
        timing_cache=b"rubbish",
        report=report,
    )


def test_8_6_builds_by_flags(model: Path) -> None:
    """fp16 by its flag, norms in fp32, no cuBLAS and no cuDNN, one profile, a new timing cache."""
    machine = FakeMachine("8.6.1")
    built = build(machine, model, "fp16")
    network, config = machine.last_build
    assert network.flags == 1
    assert {"FP16", "PREFER_PRECISION_CONSTRAINTS"} <= config.flags
    assert config.sources == 1 << 3 | 1 << 4
    assert config.profiles == [((1, *TINY_SIZE, 3),) * 3]
    assert config.workspace == 64 * 2**20
    assert built.timing_cache == b"timing+"
    exact = [layer.precision is not None for layer in network.layers]
    assert exact == [False, True, False, False, True, True]
    assert machine.stack == []


def test_fp32_is_no_tf32(model: Path) -> None:
    """TF32 has ten bits of mantissa, and is on by default."""
    machine = FakeMachine("10.3.0")
    build(machine, model, "fp32")
    _, config = machine.last_build
    assert config.flags == set()
    assert config.sources is None


def quantised(model: Path) -> Path:
    """The same with an unused string in it: what the fake takes for Q/DQ nodes."""
    import onnx

    graph = onnx.load(model)
    graph.doc_string = "QuantizeLinear"
    onnx.save(graph, model)
    return model


@pytest.mark.parametrize(
    ("version", "flags", "creation"),
    [("8.6.1", {"FP16", "INT8"}, 1), ("10.3.0", set(), 2), ("11.4.0", set(), 1)],
)
def test_int8_comes_from_the_model(
    model: Path, version: str, flags: set[str], creation: int
) -> None:
    """8.6 takes flags, later ones the model's types: strongly typed."""
    machine = FakeMachine(version)
    build(machine, quantised(model), "int8")
    network, config = machine.last_build
    assert config.flags & {"FP16", "INT8"} == flags
    assert network.flags == creation


@pytest.mark.parametrize(
    ("version", "precision", "is_quantised", "said"),
    [
        ("8.6.1", "int8", False, "needs a model with Q/DQ nodes"),
        ("10.3.0", "fp16", True, "--precision int8"),
        ("11.4.0", "fp16", False, "TensorRT 11.4.0 takes a model's types"),
        ("8.6.1", "fp8", False, "no precision 'fp8'"),
    ],
)
def test_a_precision_that_can_not_be_is_refused(
    model: Path, version: str, precision: str, is_quantised: bool, said: str
) -> None:
    """Before minutes of building, with what to do instead."""
    if is_quantised:
        quantised(model)
    with pytest.raises(EngineError, match=said):
        build(FakeMachine(version), model, precision)


def test_a_model_that_can_not_be_parsed(tmp_path: Path) -> None:
    """The parser's words come through."""
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(EngineError, match=r"bad\.onnx: TensorRT's parser refuses it: "):
        build(FakeMachine(), tmp_path / "bad.onnx", "fp32")


def test_a_build_that_fails_says_why(model: Path) -> None:
    """What TensorRT logged, with the remedy."""
    machine = FakeMachine()
    machine.fail("build_serialized_network", "OutOfMemory: no workspace")
    with pytest.raises(EngineError, match="no workspace; the GPU's memory is full"):
        build(machine, model, "fp32")


def test_progress_by_phases_or_by_seconds(model: Path) -> None:
    """TensorRT 10 tells its phases; of 8.6 one only knows how long it takes."""
    told: list[tuple[str, int, int]] = []
    build(FakeMachine("10.3.0"), model, "fp32", lambda *step: told.append(step))
    assert told[-1] == ("Building Engine", 2, 2)
    told.clear()
    build(FakeMachine("8.6.1"), model, "fp32", lambda *step: told.append(step))
    stage, done, total = told[-1]
    assert stage == "building the engine, seconds"
    assert done == total >= 1


def test_interrupting_a_build_stops_it(model: Path) -> None:
    """What the report raises goes through, and the building thread ends."""

    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(FakeMachine(), model, "fp32", stop)


class FakeLibrary:
    """libcuda, as ctypes sees it."""

    def __init__(self, status: int = 0, count: int = 1) -> None:
        self.status, self.count = status, count

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuDriverGetVersion(self, value: Any) -> int:
        value._obj.value = 12040
        return 0

    def cuDeviceGetCount(self, value: Any) -> int:
        value._obj.value = self.count
        return 0

    def cuDeviceGet(self, value: Any, index: int) -> int:
        value._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: int) -> int:
        name.value = b"GPU %d" % device
        return 0

    def cuDeviceTotalMem_v2(self, value: Any, device: int) -> int:
        value._obj.value = 2**34
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:
        value._obj.value = {75: 9, 76: 0}[attribute]
        return 0

    def cuGetErrorName(self, status: int, name: ctypes._Pointer[Any]) -> int:
        name._obj.value = b"CUDA_ERROR_OF_SOME_KIND"  # type: ignore[attr-defined]
        return 0


def test_the_driver_is_asked_by_ctypes() -> None:
    """Version, names, memory and compute capability, without any package."""
    driver = probe(FakeLibrary(count=2))
    assert driver.cuda == (12, 4)
    assert driver.device(1) == Device(1, "GPU 1", (9, 0), 2**34)
    with pytest.raises(RuntimeUnavailableError, match=r"no GPU 2; there are: 0 \(GPU 0\), 1"):
        driver.device(2)


@pytest.mark.parametrize(
    ("status", "count", "said"),
    [
        (803, 1, "reboot after a driver's update"),
        (804, 1, "too old for this CUDA; update it"),
        (100, 0, "CUDA_VISIBLE_DEVICES may hide it"),
        (12345, 1, r"gives 12345 \(CUDA_ERROR_OF_SOME_KIND\); run nvidia-smi"),
        (0, 0, "sees no GPU"),
    ],
)
def test_a_driver_that_refuses(status: int, count: int, said: str) -> None:
    """Each refusal has its remedy."""
    with pytest.raises(RuntimeUnavailableError, match=said):
        probe(FakeLibrary(status, count))


def test_an_unknown_error_stays_as_it_is() -> None:
    """No remedy is invented."""
    assert explained(RuntimeError("something else")) == "something else"
    assert explained(RuntimeError()) == "RuntimeError"


def test_the_key_is_readable() -> None:
    """Of a machine in a file's name."""
    key = EngineKey("a" * 64, "10.3.0", "9.0", "NVIDIA H200", "fp16")
    assert key.stem == "aaaaaaaaaaaaaaaa-trt10.3.0-sm90-nvidia-h200-fp16"
