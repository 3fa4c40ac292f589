"""Fixtures that several test modules share: products, shared data, and the watch over threads."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import cv2
import numpy as np
import pytest

from inspectd import runtimes
from inspectd.core.bundle import (
    HOLDOUT,
    MODEL,
    REPORT,
    SCHEMA_VERSION,
    Bundle,
    DatasetPart,
    GoldenPart,
    Manifest,
    PolicyPart,
    RecipePart,
    ThresholdPart,
    open_bundle,
    sha256_of,
    write_manifest,
)
from inspectd.core.preprocess import Preprocessing
from inspectd.core.store import ProductStore
from inspectd.runtimes.nvidia import driver, vendor
from inspectd.runtimes.nvidia.fake import FakeMachine

SHARED = Path(__file__).parents[2] / "shared"
THREADS_END_S = 2.0
"""Seconds that a test's threads may take to end after the test."""

MakeBundle = Callable[..., Bundle]


@pytest.fixture(autouse=True)
def _no_leaked_thread() -> Iterator[None]:
    """Fails a test that leaves a thread running; threads of wider fixtures don't count."""
    before = set(threading.enumerate())
    yield
    deadline = monotonic() + THREADS_END_S
    leaked = [thread for thread in threading.enumerate() if thread not in before]
    for thread in leaked:
        thread.join(max(0.0, deadline - monotonic()))
    names = [thread.name for thread in leaked if thread.is_alive()]
    if names:
        pytest.fail(f"the test left {len(names)} thread(s) running: {', '.join(names)}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real inspection images; a test that needs them is skipped where they are absent."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """Real backbone weights; a test that needs them is skipped where they are absent."""
    return _shared("weights")


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"{path} is absent: it is not part of the project")
    return path


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered product of 96 x 96 pixels: train/good and holdout/ with masks; don't change it."""
    from inspectd.demo.product import render_dataset

    folder = tmp_path_factory.mktemp("tiny-data")
    render_dataset(folder, seed=1, n_train=8, n_good=4, n_per_defect=1, size=(96, 96))
    return folder


@pytest.fixture(scope="session")
def tiny_store(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> ProductStore:
    """A store with the product ``tiny``, calibrated on `tiny_data`, one revision; don't change it.

    See `tiny_copy` for one to change.
    """
    from calibration.backbones import load_backbone
    from calibration.calibrate import Request, calibrate
    from calibration.scorers import scorer_named

    store = ProductStore(tmp_path_factory.mktemp("tiny-store"))
    request = Request(
        product="tiny",
        images=tiny_data,
        holdout=tiny_data / "holdout",
        resize=(96, 96),
        crop=(96, 96),
        seed=0,
        runtime="onnxruntime",
        threads=1,
    )
    scorer = scorer_named("protoad", max_prototypes=200)
    calibrate(request, scorer, load_backbone("filterbank"), store, lambda what, done, total: None)
    return store


@pytest.fixture
def tiny_copy(tiny_store: ProductStore, tmp_path: Path) -> ProductStore:
    """A copy of `tiny_store` that a test may change."""
    root = tmp_path / "products"
    shutil.copytree(tiny_store.root, root, symlinks=True)
    return ProductStore(root)


InstallGpu = Callable[..., FakeMachine]


@pytest.fixture
def install_gpu(monkeypatch: pytest.MonkeyPatch) -> InstallGpu:
    """Puts a fake GPU with NVIDIA's packages into this process; see `FakeMachine`."""

    def install(*arguments: object, **settings: object) -> FakeMachine:
        machine = FakeMachine(*arguments, **settings)  # type: ignore[arg-type]
        present = runtimes._is_present
        there = ("tensorrt", "pycuda")
        monkeypatch.setattr(driver, "probe", lambda: machine.driver)
        monkeypatch.setattr(vendor, "load", lambda: machine.vendor)
        monkeypatch.setattr(vendor, "packages", list)
        monkeypatch.setattr(runtimes, "_is_present", lambda name: name in there or present(name))
        return machine

    return install


@pytest.fixture(scope="session")
def make_bundle() -> MakeBundle:
    """Writes a bundle by hand, in no time; its model is no model, so no runtime can load it."""
    return _make_bundle


def _make_bundle(
    folder: Path,
    *,
    product: str = "flange",
    revision: str = "r0001-0123abcd",
    image_threshold: float = 0.5,
    golden_scores: tuple[float, ...] = (0.2, 0.8),
    source_size: tuple[int, int] | None = (48, 64),
) -> Bundle:
    """Golden pictures, (32, 40, 3), whose scores at or above the threshold are defects'."""
    (folder / "golden").mkdir(parents=True)
    (folder / MODEL).write_bytes(b"no model, but its bytes count")
    (folder / HOLDOUT).write_text("[]")
    (folder / REPORT).write_text("<!doctype html><title>report</title>")
    golden = []
    for index, score in enumerate(golden_scores):
        name = f"golden/{index:02d}.png"
        cv2.imwrite(str(folder / name), np.full((32, 40, 3), 40 * index, np.uint8))
        label = "good" if score < image_threshold else "scratch"
        golden.append(GoldenPart(file=name, label=label, score=score))
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        product=product,
        revision=revision,
        created_at=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
        recipe=RecipePart(scorer="none", backbone="none", backbone_sha256="0" * 64, seed=0),
        preprocessing=Preprocessing(resize=(32, 40), crop=(32, 40), source_size=source_size),
        threshold=ThresholdPart(
            image=image_threshold,
            pixel=None,
            policy="f1",
            basis="real",
            f1=1.0,
            precision=1.0,
            recall=1.0,
            escapes=0,
            overkill=0,
            n_good=1,
            n_defect=1,
            escape_rate_interval=(0.0, 1.0),
            overkill_rate_interval=(0.0, 1.0),
        ),
        policy=PolicyPart(name="f1"),
        remarks=("Made by hand.",),
        metrics={"image_auroc": 1.0},
        dataset=DatasetPart(
            sha256="0" * 64,
            n_train=1,
            n_holdout_good=1,
            n_holdout_defect=1,
            source_sizes=((48, 64),),
        ),
        golden=tuple(golden),
        golden_tolerance=1e-3,
        tools={"inspectd": "test"},
        files={file.relative_to(folder).as_posix(): sha256_of(file) for file in files},
    )
    write_manifest(folder, manifest)
    return open_bundle(folder)
