"""A whole calibration, on a small rendered product with the built-in backbone."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import calibration.calibrate
from calibration.backbones import Backbone, load_backbone
from calibration.calibrate import Request, calibrate
from calibration.dataset import PreparedImages, read_mask
from calibration.evaluate import Scored
from calibration.framing import Framing
from calibration.gallery import read_gallery
from calibration.golden import PARITY, choose_golden
from calibration.graph import ScoringGraph
from calibration.policies import choose
from calibration.scorers import Fitted, Material, Option, Report, scorer_named
from inspectd.core.bundle import Bundle, PolicyPart
from inspectd.core.errors import BundleError, ConfigError, DatasetError, ImageError
from inspectd.core.holdout import read_holdout
from inspectd.core.images import read_image
from inspectd.core.preprocess import Preprocessing
from inspectd.core.store import ProductStore
from inspectd.demo.product import render_dataset
from inspectd.pipeline.inspector import Inspector
from inspectd.runtimes import installed, open_runtime


class Spy:
    """ProtoAD that keeps what it learned, or fails when asked to."""

    def __init__(self, error: BaseException | None = None, seen_limit: int = 0) -> None:
        self._inner = scorer_named("protoad", max_prototypes=200)
        self._error = error
        self.name = self._inner.name
        self.seen_limit = seen_limit
        self.is_trained = self._inner.is_trained
        self.materials: list[Material] = []
        self.fitted: list[Fitted] = []

    def options(self) -> dict[str, Option]:
        """Those of the real one."""
        return self._inner.options()

    def fit(self, material: Material, backbone: Backbone, seed: int, report: Report) -> Fitted:
        """The real one's, kept."""
        if self._error is not None:
            raise self._error
        self.materials.append(material)
        self.fitted.append(self._inner.fit(material, backbone, seed, report))
        return self.fitted[-1]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A finished calibration and what was seen of it."""

    bundle: Bundle
    store: ProductStore
    fitted: Fitted
    steps: list[tuple[str, int, int]]


def _request(images: Path, holdout: Path | None = None) -> Request:
    """What `tiny_store` was calibrated with."""
    return Request("tiny", images, holdout, (96, 96), (96, 96), 0, "onnxruntime", 1)


def _calibrate(request: Request, store: ProductStore, spy: Spy | None = None) -> Bundle:
    return calibrate(request, spy or Spy(), load_backbone("filterbank"), store, lambda *_: None)


@pytest.fixture(scope="module")
def simulated(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    """Calibrated without a hold-out folder, so on simulated defects."""
    store, spy = ProductStore(tmp_path_factory.mktemp("store")), Spy()
    steps: list[tuple[str, int, int]] = []
    bundle = calibrate(
        _request(tiny_data),
        spy,
        load_backbone("filterbank"),
        store,
        lambda *step: steps.append(step),
    )
    return Calibrated(bundle, store, spy.fitted[0], steps)


def _tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder and what is in it; a link counts as its target's name."""
    return {
        path.relative_to(root).as_posix(): (
            str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        )
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_the_revision_opens_and_is_active(tiny_store: ProductStore, tiny_data: Path) -> None:
    """The bundle is whole, current, and says what it was made from."""
    bundle = tiny_store.open("tiny")
    manifest = bundle.manifest
    assert manifest.product == "tiny"
    assert manifest.revision == tiny_store.current("tiny") == bundle.path.name
    assert manifest.preprocessing.source_size == (96, 96)
    assert (manifest.dataset.n_train, manifest.dataset.n_holdout_good) == (8, 4)
    assert manifest.dataset.n_holdout_defect == 4
    assert manifest.dataset.source_sizes == ((96, 96),)
    assert manifest.recipe.backbone == "filterbank"
    assert manifest.recipe.options["max_prototypes"] == 200
    assert manifest.created_at.tzinfo is not None
    assert len(list(tiny_data.rglob("*.png"))) == 8 + 4 + 4 + 4


def test_real_defects_are_said_to_be_real(tiny_store: ProductStore) -> None:
    """With a hold-out folder the threshold rests on its defects and masks."""
    manifest = tiny_store.open("tiny").manifest
    assert manifest.threshold.basis == "real"
    assert manifest.threshold.pixel is not None
    assert any("rests on real defects: 4" in remark for remark in manifest.remarks)
    assert {"image_auroc", "pixel_auroc", "pixel_ap", "aupro"} <= set(manifest.metrics)


def test_real_defects_are_compared_with_simulated_ones(tiny_store: ProductStore) -> None:
    """Manifest and report have the threshold that simulated defects alone would have given."""
    bundle = tiny_store.open("tiny")
    metrics = bundle.manifest.metrics
    assert metrics["simulated_defects"] == 4
    assert 0 <= metrics["simulated_escapes"] <= 4
    page = (bundle.path / "report.html").read_text()
    assert f"{metrics['simulated_threshold']:.6g}; on the real hold-out set F1" in page
    assert "threshold from real defects" in page
    assert not any("simulated" in remark for remark in bundle.manifest.remarks)


def test_simulated_defects_are_said_to_be_simulated(simulated: Calibrated) -> None:
    """Without a hold-out folder good parts are kept apart and the result says so in words."""
    manifest = simulated.bundle.manifest
    assert manifest.threshold.basis == "simulated"
    assert (manifest.dataset.n_train, manifest.dataset.n_holdout_good) == (6, 2)
    assert manifest.dataset.n_holdout_defect == 2
    assert any("rests on simulated defects" in remark for remark in manifest.remarks)
    assert "rests on simulated defects" in (simulated.bundle.path / "report.html").read_text()
    assert not any(name.startswith("simulated_") for name in manifest.metrics)


def test_what_was_taught_is_not_judged_on(tiny_data: Path, tmp_path: Path) -> None:
    """A supervised scorer is shown half of the defects; threshold and stopping never see those."""
    spy = Spy(seen_limit=10)
    request = replace(_request(tiny_data, tiny_data / "holdout"), device="cpu")
    bundle = _calibrate(request, ProductStore(tmp_path), spy)
    (material,) = spy.materials
    taught, judged = ({one.name for one in part} for part in (material.seen, material.holdout))
    assert len(taught) == 2
    assert len(judged) == 6
    assert not taught & judged
    assert {picture.name for picture in read_holdout(bundle).pictures} == judged
    assert bundle.manifest.threshold.n_defect == 2
    assert any(remark.startswith("2 defects of the") for remark in bundle.manifest.remarks)


def test_a_supervised_scorer_without_real_defects_is_warned_of(
    tiny_data: Path, tmp_path: Path
) -> None:
    """It may learn from simulated ones alone, and the remarks say so."""
    spy = Spy(seen_limit=10)
    bundle = _calibrate(_request(tiny_data), ProductStore(tmp_path), spy)
    assert len(spy.materials[0].seen) == 0
    assert {one.label for one in spy.materials[0].holdout} == {"good", "simulated"}
    assert any("no real defect was learned from" in remark for remark in bundle.manifest.remarks)


def test_the_holdout_scores_are_kept(simulated: Calibrated) -> None:
    """``holdout.json`` is hashed and has all it takes to find the same threshold again."""
    found = read_holdout(simulated.bundle)
    manifest = simulated.bundle.manifest
    assert "holdout.json" in manifest.files
    assert manifest.policy is not None
    assert {picture.origin for picture in found.pictures} == {"real", "simulated"}
    again = choose(manifest.policy, found)
    assert again.threshold == simulated.bundle.threshold
    assert again.policy == manifest.policy
    assert again.remarks == manifest.remarks


def test_pictures_for_a_later_report_are_kept(simulated: Calibrated) -> None:
    """Of every part that is wrong at some threshold, worst first, there are three pictures."""
    gallery = read_gallery(simulated.bundle)
    assert set(gallery.pictures) == {0, 1, 2, 3}
    assert all(len(pictures) == 3 for pictures in gallery.pictures.values())
    assert gallery.pixel == simulated.bundle.threshold.pixel


def test_good_parts_alone_serve_a_policy_that_needs_no_defect(
    tiny_data: Path, tmp_path: Path
) -> None:
    """With 30 good hold-out parts and no defect, sigma makes a whole revision, with its report."""
    render_dataset(tmp_path, seed=2, n_train=0, n_good=30, n_per_defect=0, size=(96, 96))
    policy = PolicyPart(name="sigma", limits={"false_alarm_rate": 0.05})
    holdout = tmp_path / "alone"
    shutil.copytree(tmp_path / "holdout" / "good", holdout / "good")
    request = replace(_request(tiny_data, holdout), policy=policy)
    bundle = _calibrate(request, ProductStore(tmp_path / "store"))
    threshold = bundle.threshold
    assert (threshold.n_good, threshold.n_defect, threshold.policy) == (30, 0, "sigma")
    assert threshold.pixel is not None
    assert bundle.manifest.metrics == {}
    assert {golden.label for golden in bundle.manifest.golden} == {"good"}
    assert "how many escape is not known" in (bundle.path / "report.html").read_text()


def test_a_policy_that_is_not_supported_makes_nothing(tiny_data: Path, tmp_path: Path) -> None:
    """Four defects can't prove 5 %: refused with what it takes, and the store stays empty."""
    policy = PolicyPart(name="max-escapes", limits={"max_escape_rate": 0.05})
    request = replace(_request(tiny_data, tiny_data / "holdout"), policy=policy)
    spy = Spy(AssertionError("nothing is learned for a threshold that can't be found"))
    with pytest.raises(DatasetError, match=r"4 defects .* at least 59"):
        _calibrate(request, ProductStore(tmp_path), spy)
    assert _tree(tmp_path) == {}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_golden_pictures_reproduce(tiny_store: ProductStore, runtime: str) -> None:
    """On every installed runtime the golden pictures give their scores and verdicts."""
    if runtime not in installed():
        pytest.skip(f"{runtime} is not installed")
    bundle = tiny_store.open("tiny")
    with open_runtime(bundle.graph, runtime, threads=1) as opened:
        assert Inspector(bundle, opened).verify() < 1e-4
    assert {golden.label == "good" for golden in bundle.manifest.golden} == {True, False}


def test_torch_and_onnx_agree(simulated: Calibrated) -> None:
    """What was fitted and what was exported score the same pictures alike, to 1e-4."""
    bundle = simulated.bundle
    graph = ScoringGraph(load_backbone("filterbank"), simulated.fitted.head, bundle.graph.size)
    worst = 0.0
    with open_runtime(bundle.graph, "onnxruntime", threads=1) as runtime, torch.inference_mode():
        for _, image in bundle.golden_images():
            values, score = graph(torch.tensor(image[None]))
            anomaly = runtime.infer(image)
            worst = max(worst, abs(anomaly.score - float(score)))
            np.testing.assert_allclose(anomaly.values, values[0].numpy(), atol=1e-4)
    assert worst < PARITY == 1e-4


def test_progress_reaches_its_end(simulated: Calibrated) -> None:
    """Each step reports until all of it is done."""
    last = {what: (done, total) for what, done, total in simulated.steps}
    assert {"checking pictures", "extracting features", "exporting"} <= set(last)
    assert all(done == total for done, total in last.values())


def test_a_run_is_repeatable(tiny_data: Path, tiny_store: ProductStore, tmp_path: Path) -> None:
    """The same pictures, settings and seed give the same revision digest, model and threshold."""
    again = _calibrate(_request(tiny_data, tiny_data / "holdout"), ProductStore(tmp_path))
    first = tiny_store.open("tiny")
    assert again.manifest.revision == first.manifest.revision
    assert again.manifest.files["model.onnx"] == first.manifest.files["model.onnx"]
    assert again.manifest.threshold == first.manifest.threshold
    assert again.manifest.dataset == first.manifest.dataset


_OPENED: list[str] | None = None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _OPENED is not None and event in ("open", "os.listdir", "os.scandir"):
        _OPENED.append(str(arguments[0]))


@contextmanager
def _watched() -> Iterator[list[str]]:
    """Every file that is opened and every folder that is listed meanwhile."""
    global _OPENED  # an audit hook can't be removed, only told to be quiet
    if not hasattr(sys, "_inspectd_watch"):
        sys.addaudithook(_watch)
        sys._inspectd_watch = True  # type: ignore[attr-defined]
    _OPENED = seen = []
    try:
        yield seen
    finally:
        _OPENED = None


def test_the_test_set_is_never_opened(tiny_data: Path, tmp_path: Path) -> None:
    """With a damaged test/ beside train/ and inside the hold-out set, none of it is touched."""
    shutil.copytree(tiny_data, tmp_path / "data")
    for beside in ("test", "holdout/test"):
        for kind in ("good", "scratch"):
            folder = tmp_path / "data" / beside / kind
            folder.mkdir(parents=True)
            (folder / "000.png").write_bytes(b"damaged")
    images = tmp_path / "data"
    store = ProductStore(tmp_path / "store")
    with _watched() as opened:
        bundle = _calibrate(_request(images, images / "holdout"), store)
    assert any(str(images / "train" / "good") in path for path in opened)
    assert [path for path in opened if "test" in Path(path).parts] == []
    assert bundle.manifest.dataset.n_holdout_good == 4


@pytest.mark.parametrize("holdout", ["test", "."])
def test_the_test_set_is_no_holdout_set(tmp_path: Path, tiny_data: Path, holdout: str) -> None:
    """A threshold is never found on test/, even if one asks for it."""
    shutil.copytree(tiny_data / "train", tmp_path / "train")
    shutil.copytree(tiny_data / "holdout", tmp_path / "test")
    with pytest.raises(DatasetError, match=r"test/ is kept|no picture in good/"):
        _calibrate(_request(tmp_path, tmp_path / holdout), ProductStore(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("product", "error"), [("tiny", RuntimeError("broken")), ("new", KeyboardInterrupt())]
)
@pytest.mark.parametrize("step", ["fit", "export_onnx", "write_manifest"])
def test_a_failure_leaves_the_store_as_before(
    tiny_data: Path,
    tiny_copy: ProductStore,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    product: str,
    error: BaseException,
) -> None:
    """Failed or interrupted, early or at the last step, new or known: no half-made product."""

    def fail(*_: object) -> None:
        raise error

    def no_page(*_: object) -> str:
        return ""

    monkeypatch.setattr(calibration.calibrate, "_report", no_page)  # slow, and beside the point
    spy = Spy(error if step == "fit" else None)
    if step != "fit":
        monkeypatch.setattr(calibration.calibrate, step, fail)
    before = _tree(tiny_copy.root)
    request = replace(_request(tiny_data, tiny_data / "holdout"), product=product)
    with pytest.raises(type(error)):
        _calibrate(request, tiny_copy, spy)
    assert _tree(tiny_copy.root) == before
    assert tiny_copy.products() == ["tiny"]


def test_a_graph_that_disagrees_is_refused(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If torch and the runtime differ by more than 1e-4 nothing is made of it."""
    forward = ScoringGraph.forward
    is_exported = False

    def export(graph: ScoringGraph, path: Path) -> None:
        nonlocal is_exported
        exported(graph, path)
        is_exported = True

    def drifted(graph: ScoringGraph, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, score = forward(graph, image)
        return values, score + (2e-4 if is_exported else 0)

    exported = calibration.calibrate.export_onnx
    monkeypatch.setattr(calibration.calibrate, "export_onnx", export)
    monkeypatch.setattr(ScoringGraph, "forward", drifted)
    with pytest.raises(BundleError, match=r"differ from torch's by 2\.0e-04"):
        _calibrate(_request(tiny_data, tiny_data / "holdout"), ProductStore(tmp_path))
    assert _tree(tmp_path) == {}


def test_a_picture_in_both_sets_is_warned_of(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hold-out picture that was learned from scores too low: the remarks say how many."""
    shutil.copytree(tiny_data, tmp_path / "data")
    shutil.copy(tiny_data / "train/good/000.png", tmp_path / "data/holdout/good/900.png")
    monkeypatch.setattr(calibration.calibrate, "_report", lambda *_: "")
    request = _request(tmp_path / "data", tmp_path / "data" / "holdout")
    bundle = _calibrate(request, ProductStore(tmp_path / "store"))
    assert any(r.startswith("Warning: 1 picture(s)") for r in bundle.manifest.remarks)


def _good_folder(tmp_path: Path, count: int = 6) -> Path:
    """Good pictures of noise, 64 x 64."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(count):
        noise = np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), noise)
    return folder


def test_a_damaged_picture_is_refused_by_name(tmp_path: Path) -> None:
    """One bad picture among good ones ends it before anything is learned or made."""
    folder = _good_folder(tmp_path)
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:2000])
    with pytest.raises(ImageError, match=r"3\.png"):
        _calibrate(_request(folder), ProductStore(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_identical_pictures_are_refused(tmp_path: Path) -> None:
    """Copies of one picture have nothing to learn from."""
    folder = _good_folder(tmp_path, 1)
    for index in range(1, 6):
        shutil.copy(folder / "0.png", folder / f"{index}.png")
    with pytest.raises(DatasetError, match="identical"):
        _calibrate(_request(folder), ProductStore(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_pictures_are_prepared_one_at_a_time(tmp_path: Path) -> None:
    """The sequence reads on demand; a picture of another size is named."""
    folder = _good_folder(tmp_path)
    preprocessing = Preprocessing(resize=(48, 48), crop=(32, 40), source_size=(64, 64))
    images = PreparedImages(sorted(folder.iterdir()), preprocessing)
    cv2.imwrite(str(folder / "5.png"), np.zeros((32, 64, 3), np.uint8))
    assert len(images) == 6
    assert images[0].shape == (32, 40, 3)
    np.testing.assert_array_equal(images[1:3][0], images[1])
    with pytest.raises(DatasetError, match=r"5\.png: the picture is 32 x 64"):
        images[5]


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_golden_pictures_span_the_scores(count: int) -> None:
    """At most four good and four defective ones, the lowest and the highest among them."""
    blank = np.zeros((1, 1, 3), np.uint8)
    scored = [
        Scored("n", label, label != "good", score, blank, blank[..., 0].astype(np.float32), None, 0)
        for label in ("good", "dent")
        for score in np.linspace(0, 1, count)
    ]
    golden = choose_golden(scored)
    for wanted in (False, True):
        scores = [one.score for one in golden if one.is_defect is wanted]
        assert len(scores) == min(count, 4)
        assert (scores[0], scores[-1]) == (0, 1 if count > 1 else 0)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"budget_s": 60.0}, "--budget"),
        ({"device": "cuda"}, "--device"),
        ({"is_resumed": True}, "--resume"),
    ],
    ids=["budget", "device", "resume"],
)
def test_what_is_for_a_training_is_refused_without_one(
    tiny_data: Path, tmp_path: Path, asked: dict[str, Any], named: str
) -> None:
    """Rather than not heeded; the message names the scorers that are trained."""
    request = replace(_request(tiny_data), **asked)
    with pytest.raises(ConfigError, match=f"{named}: protoad is not trained.*mpfnet or prn"):
        _calibrate(request, ProductStore(tmp_path))


def _seen_request(tiny_data: Path, folder: Path) -> Request:
    """Of a copy of the tiny product, for a scorer that is shown defects."""
    shutil.copytree(tiny_data, folder / "data")
    return replace(_request(folder / "data", folder / "data" / "holdout"), device="cpu")


class StoppedError(Exception):
    """What a scorer that only looks raises."""


class Looking(Spy):
    """Keeps what it would learn from, and learns nothing."""

    def fit(self, material: Material, backbone: Backbone, seed: int, report: Report) -> Fitted:
        """Never returns."""
        self.materials.append(material)
        raise StoppedError


def _looked_at(request: Request, folder: Path) -> Material:
    spy = Looking(seen_limit=10)
    with pytest.raises(StoppedError):
        _calibrate(request, ProductStore(folder / "store"), spy)
    return spy.materials[0]


def test_other_masks_another_device_or_version_are_another_training(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No checkpoint of it is gone on with: masks are what is taught, the device has a schedule."""
    request = _seen_request(tiny_data, tmp_path)
    first = _looked_at(request, tmp_path)
    assert _looked_at(request, tmp_path).request == first.request
    for name, other in (
        ("device_named", lambda _: "cuda"),
        ("tools", lambda: {"inspectd": "another"}),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(calibration.calibrate, name, other)
            assert _looked_at(request, tmp_path).request != first.request
    kind, name = first.seen[0].name.split("/")
    (mask,) = (tmp_path / "data/holdout/ground_truth" / kind).glob(f"{Path(name).stem}*")
    cv2.imwrite(str(mask), np.roll(read_mask(mask), 5, axis=1))
    assert _looked_at(request, tmp_path).request != first.request


def test_the_region_reaches_what_is_learned_and_judged(tiny_data: Path, tmp_path: Path) -> None:
    """Good pictures, seen defects and hold-out pictures all know where they are inspected."""
    request = _seen_request(tiny_data, tmp_path)
    region = np.zeros((96, 96), np.uint8)
    region[30:] = 255
    cv2.imwrite(str(tmp_path / "roi.png"), region)
    found = _looked_at(replace(request, framing=Framing(roi=tmp_path / "roi.png")), tmp_path)
    assert found.regions is not None
    shown = [found.regions[0], *(one.region for one in (*found.seen, *found.holdout))]
    for one in shown:
        np.testing.assert_array_equal(one, region)


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        (np.full((48, 96), 255, np.uint8), DatasetError, "the mask is 48 x 96 .* is 96 x 96"),
        (None, ImageError, "not a readable picture"),
    ],
    ids=["size", "damaged"],
)
def test_a_mask_that_can_not_serve_is_refused_by_name_before_learning(
    tiny_data: Path, tmp_path: Path, mask: np.ndarray | None, error: type[Exception], words: str
) -> None:
    """Not after hours of training, and never stretched to fit."""
    request = _seen_request(tiny_data, tmp_path)
    path = next(iter(sorted((tmp_path / "data/holdout/ground_truth").rglob("*.png"))))
    if mask is None:
        path.write_bytes(path.read_bytes()[:60])
    else:
        cv2.imwrite(str(path), mask)
    spy = Looking()
    with pytest.raises(error, match=words) as caught:
        _calibrate(request, ProductStore(tmp_path / "store"), spy)
    assert str(path) in str(caught.value)
    assert spy.materials == []


def test_a_damaged_holdout_picture_is_found_before_a_training(
    tiny_data: Path, tmp_path: Path
) -> None:
    """Of a JPEG only the header is read for its size: the rest may be missing."""
    request = _seen_request(tiny_data, tmp_path)
    place = tmp_path / "data" / "holdout" / "good"
    path = place / "900.jpg"
    cv2.imwrite(str(path), read_image(next(place.glob("*.png"))))
    path.write_bytes(path.read_bytes()[:-900])
    spy = Looking()
    spy.is_trained = True
    with pytest.raises(ImageError, match=r"900\.jpg"):
        _calibrate(request, ProductStore(tmp_path / "store"), spy)
    assert spy.materials == []


def test_a_taught_defect_that_is_judged_too_is_warned_of(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of it under another name would flatter the threshold."""
    request = _seen_request(tiny_data, tmp_path)
    monkeypatch.setattr(calibration.calibrate, "_report", lambda *_: "")
    place = tmp_path / "data" / "holdout"
    for path in sorted(place.rglob("*.png")):  # every defect twice, its mask too
        if "good" not in path.parts:
            shutil.copy(path, path.with_name(f"1{path.name}"))
    bundle = _calibrate(request, ProductStore(tmp_path / "store"), Spy(seen_limit=1))
    assert any(r.startswith("Warning: 1 picture(s)") for r in bundle.manifest.remarks)
