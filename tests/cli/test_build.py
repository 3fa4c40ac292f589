"""``inspectd build`` and ``inspectd verify``, on a fake GPU and on the CPU's runtimes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import Result

from inspectd.cli.build import Precision
from inspectd.core.bundle import MODEL, write_manifest
from inspectd.core.config import BatchingSection, load_settings
from inspectd.core.errors import EngineError, ParityError
from inspectd.core.records import AnomalyMap, ImageArray
from inspectd.core.store import ProductStore
from inspectd.daemon.changeover import Choice, prepare
from inspectd.daemon.sharing import Engines, Share
from inspectd.pipeline import verified
from inspectd.runtimes.nvidia.engines import PRECISIONS, EngineCache
from inspectd.runtimes.nvidia.fake import FakeMachine
from inspectd.runtimes.onnxruntime import OnnxRuntime
from inspectd.runtimes.tensorrt import TensorRtRuntime

Invoke = Callable[..., Result]
InstallGpu = Callable[..., FakeMachine]


@pytest.fixture
def machine(install_gpu: InstallGpu) -> FakeMachine:
    """A GPU under TensorRT 10."""
    return install_gpu()


@pytest.fixture
def store(state: Path) -> ProductStore:
    """With the product ``flange``."""
    return ProductStore(state / "products")


def setup_on(store: ProductStore, runtime: str, fallback: str = "") -> str:
    """The name of the runtime that the daemon would inspect with."""
    choice = Choice("flange", None, runtime, 1, fallback)
    setup = prepare(choice, store, store.root.parent / "inspectd.toml")
    with setup.lifetime:
        return setup.inspector.runtime.name


def test_precisions_are_the_caches() -> None:
    """The option offers what can be built."""
    assert {one.value for one in Precision} == set(PRECISIONS)


def test_build_makes_a_proven_engine(
    invoke: Invoke, machine: FakeMachine, store: ProductStore, dataset: Path, tmp_path: Path
) -> None:
    """It says what it built, compares golden and hold-out pictures, and the daemon takes it."""
    result = invoke("build", "--product", "flange", "--images", dataset / "holdout")
    assert result.exit_code == 0, result.output
    assert "built in" in result.stdout
    assert "passed" in result.stdout
    assert "image AUROC" in result.stdout
    assert "Building Engine" in result.stderr
    assert "one CUDA graph" in result.stderr
    (side_car,) = EngineCache(tmp_path / "cache").all()
    assert side_car.key.precision == "fp16"
    record = verified.find(tmp_path / "cache", side_car.label)
    assert record is not None
    assert record.passed
    assert record.n_holdout > 0
    for choice in ("tensorrt", "tensorrt-fp16", "auto"):
        assert setup_on(store, choice) == side_car.label
    assert machine.used == 0


def test_build_keeps_what_is_there(invoke: Invoke, machine: FakeMachine, state: Path) -> None:
    """A sound engine isn't built twice, but for --rebuild; a damaged one is built anew."""
    arguments = ("build", "--product", "flange", "--precision", "fp32")
    assert invoke(*arguments).exit_code == 0
    built = machine.calls["build_serialized_network"]
    result = invoke(*arguments)
    assert "there is one of" in result.stdout
    assert machine.calls["build_serialized_network"] == built
    assert invoke(*arguments, "--rebuild").exit_code == 0
    assert machine.calls["build_serialized_network"] == built + 1
    (plan,) = (state.parent / "cache" / "engines").glob("*.plan")
    plan.write_bytes(b"rubbish")
    result = invoke(*arguments)
    assert result.exit_code == 0
    assert "damaged; building it anew" in result.stderr.replace(
        ": its sha256 is not its side-car's", ""
    )


def test_an_engine_for_batches_serves_one_picture_too(
    invoke: Invoke, machine: FakeMachine, store: ProductStore, dataset: Path, tmp_path: Path
) -> None:
    """One that takes too few at once is built anew; one that takes more is kept."""
    engines = EngineCache(tmp_path / "cache")
    assert invoke("build", "--product", "flange").exit_code == 0
    assert engines.all()[0].batch == 1
    holdout = ("--images", dataset / "holdout")
    result = invoke("build", "--product", "flange", "--batch", 4, *holdout)
    assert result.exit_code == 0, result.output
    assert "takes 1 at once; building it anew" in result.stderr
    (side_car,) = engines.all()
    assert side_car.batch == 4
    for batch in (1, 2):
        assert "there is one of" in invoke("build", "--product", "flange", "--batch", batch).stdout
    assert setup_on(store, "tensorrt") == side_car.label
    shared = Engines(BatchingSection(max_batch=3)).open(store.open("flange"), "tensorrt", 1)
    assert isinstance(shared, Share)
    assert shared.largest_batch == 3
    assert shared.proof_command.startswith("inspectd verify --product flange")


def test_an_engine_for_one_is_shared_by_nobody(
    invoke: Invoke, machine: FakeMachine, store: ProductStore
) -> None:
    """Where batches are configured and the engine takes none, each camera has its own."""
    assert invoke("build", "--product", "flange").exit_code == 0
    opened = Engines(BatchingSection(max_batch=3)).open(store.open("flange"), "tensorrt", 1)
    assert not isinstance(opened, Share)


def test_batches_that_differ_are_refused(
    invoke: Invoke, machine: FakeMachine, store: ProductStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels for batches are others than those for one: the golden pictures prove them, too."""
    inner = TensorRtRuntime.infer_batch

    def infer_batch(self: TensorRtRuntime, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        found = inner(self, images)
        if len(images) == 1:
            return found
        return [replace(one, score=one.score + 1) for one in found]

    monkeypatch.setattr(TensorRtRuntime, "infer_batch", infer_batch)
    assert invoke("build", "--product", "flange").exit_code == 0
    result = invoke("build", "--product", "flange", "--batch", 2)
    assert result.exit_code == 1
    assert "doesn't reproduce the reference: golden/" in result.stderr
    with pytest.raises(ParityError, match="doesn't reproduce the reference"):
        setup_on(store, "tensorrt")


def test_an_engine_that_differs_is_refused(
    invoke: Invoke, machine: FakeMachine, store: ProductStore
) -> None:
    """Scores moved by more than fp16's bound: build fails, and the daemon refuses the engine."""
    machine.shift["fp16"] = 0.01
    result = invoke("build", "--product", "flange")
    assert result.exit_code == 1
    assert "more than 0.002 apart" in result.stderr
    assert "FAIL" in result.stdout
    with pytest.raises(ParityError, match="doesn't reproduce the reference"):
        setup_on(store, "tensorrt")
    assert "CPU" in setup_on(store, "auto")
    assert "onnxruntime" in setup_on(store, "tensorrt", "onnxruntime")


def test_an_engine_within_bounds_passes(invoke: Invoke, machine: FakeMachine, state: Path) -> None:
    """fp16 may round."""
    machine.shift["fp16"] = 0.0004
    result = invoke("build", "--product", "flange")
    assert result.exit_code == 0, result.output


def test_the_daemon_refuses_without_an_engine(machine: FakeMachine, store: ProductStore) -> None:
    """With the command to type; where a fallback is configured that takes over at the start."""
    with pytest.raises(EngineError, match="inspectd build --product flange --revision r0001"):
        setup_on(store, "tensorrt")
    assert setup_on(store, "tensorrt", "onnxruntime").startswith("onnxruntime")
    with pytest.raises(EngineError):
        setup_on(store, "tensorrt", "tensorrt")


def test_an_unproven_engine_is_not_taken(
    invoke: Invoke, machine: FakeMachine, store: ProductStore, dataset: Path, tmp_path: Path
) -> None:
    """The daemon says how it is proven; `inspectd verify` does it, on a hold-out set."""
    result = invoke("build", "--product", "flange")
    assert result.exit_code == 0, result.output
    assert "golden pictures alone" in result.stderr
    with pytest.raises(ParityError, match="on a hold-out set; do it with"):
        setup_on(store, "tensorrt")
    for record in (tmp_path / "cache" / "verified").rglob("*.json"):
        record.unlink()
    with pytest.raises(ParityError, match=r"inspectd verify --product flange .*tensorrt-fp16"):
        setup_on(store, "tensorrt")
    assert "CPU" in setup_on(store, "auto")
    arguments = ("--runtime", "tensorrt-fp16", "--images", dataset / "holdout")
    result = invoke("verify", "--product", "flange", *arguments)
    assert result.exit_code == 0, result.output
    assert "tensorrt" in setup_on(store, "auto")


def test_build_without_a_driver(
    invoke: Invoke, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is one line, not a traceback; nothing is built."""

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    result = invoke("build", "--product", "flange")
    assert result.exit_code == 1
    assert "no NVIDIA driver" in result.stderr


def test_build_for_another_gpu(invoke: Invoke, machine: FakeMachine, state: Path) -> None:
    """A number that there is no GPU for names those there are."""
    result = invoke("build", "--product", "flange", "--device", 3)
    assert result.exit_code == 1
    assert "no GPU 3; there are: 0 (Fake GPU)" in result.stderr


def test_verify_on_the_cpu(invoke: Invoke, state: Path, dataset: Path, tmp_path: Path) -> None:
    """A CPU runtime is compared too, with figures in JSON."""
    figures = tmp_path / "parity.json"
    result = invoke(
        *("verify", "--product", "flange", "--runtime", "onnxruntime", "--threads", 1),
        *("--images", dataset / "holdout", "--json", figures),
    )
    assert result.exit_code == 0, result.output
    content = json.loads(figures.read_text())
    assert content["passed"] is True
    assert content["n_golden"] > 0
    assert content["auroc"][0] == content["auroc"][1]


def test_verify_finds_what_differs(invoke: Invoke, store: ProductStore, tmp_path: Path) -> None:
    """Exit status 1, the picture, and a record that makes the daemon refuse the runtime."""
    bundle = store.open("flange")
    golden, *others = bundle.manifest.golden
    changed = golden.model_copy(update={"score": golden.score + 1.0})
    write_manifest(bundle.path, bundle.manifest.model_copy(update={"golden": (changed, *others)}))
    result = invoke("verify", "--product", "flange", "--runtime", "onnxruntime")
    assert result.exit_code == 1
    assert "golden/00.png scores" in result.stderr
    assert "must not differ" in result.stdout
    with pytest.raises(ParityError, match="Choose another runtime"):
        setup_on(store, "onnxruntime")
    assert bundle.manifest.files[MODEL][:16] in {
        path.name for path in (tmp_path / "cache" / "verified").iterdir()
    }


def test_the_configuration_knows_the_names(tmp_path: Path) -> None:
    """Every TensorRT runtime can be configured."""
    for name in ("tensorrt", "tensorrt-fp16", "tensorrt-fp32", "tensorrt-int8"):
        path = tmp_path / "inspectd.toml"
        path.write_text(f'product = "a"\nruntime = "{name}"\n[camera]\npath = "."\n')
        assert load_settings(path).runtime == name


def test_verify_compares_every_batch_size(
    invoke: Invoke,
    store: ProductStore,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hold-out picture that is off only where four run at once fails it; so far none is."""
    sizes: set[int] = set()
    inner = OnnxRuntime.infer_batch

    def infer_batch(self: OnnxRuntime, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        sizes.add(len(images))
        found = inner(self, images)
        return [replace(one, score=one.score + off * (len(images) == 4)) for one in found]

    monkeypatch.setattr(OnnxRuntime, "infer_batch", infer_batch)
    arguments = (
        *("verify", "--product", "flange", "--runtime", "onnxruntime", "--threads", 1),
        *("--batch", 4, "--images", dataset / "holdout", "--json", tmp_path / "parity.json"),
    )
    off = 0.0
    assert invoke(*arguments).exit_code == 0
    assert sizes == {1, 2, 4}
    counted = json.loads((tmp_path / "parity.json").read_text())
    off = 0.05
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert "more than" in result.stderr
    refused = json.loads((tmp_path / "parity.json").read_text())
    assert refused["difference"] == pytest.approx(0.05, abs=1e-3)
    for name in ("n_golden", "n_holdout"):  # each picture counts once
        assert refused[name] == counted[name] > 0
