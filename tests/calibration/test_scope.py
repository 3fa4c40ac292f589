"""Calibration decides on exactly what the line decides on: regions, areas and tiles, end to end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from calibration.backbones import load_backbone
from calibration.calibrate import Request, calibrate
from calibration.dataset import find_labelled
from calibration.evaluate import score_samples, summarise
from calibration.framing import Framing
from calibration.graph import ScoringGraph
from calibration.policies import choose
from calibration.rethreshold import rethreshold
from calibration.scorers import Material, scorer_named
from inspectd.core.bundle import Bundle, PolicyPart
from inspectd.core.holdout import read_holdout
from inspectd.core.images import read_image
from inspectd.core.preprocess import Tiling, prepare
from inspectd.core.records import ImageArray, MapArray, Verdict
from inspectd.core.scope import ROI
from inspectd.core.store import ProductStore
from inspectd.pipeline.inspector import Inspector
from inspectd.pipeline.tiles import tiled_map
from inspectd.runtimes import open_runtime

IGNORED_ROWS = 44
"""Of 96, from the top."""
AREA_PX, MM = 12, 0.5
SIDE, TILE = 512, 64


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiles are many small inputs: threads of a busy machine would wait for each other at each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class Made:
    """A product and where its pictures are."""

    bundle: Bundle
    store: ProductStore
    images: Path


def _make(
    folder: Path,
    images: Path,
    holdout: Path | None,
    framing: Framing,
    size: int,
    prototypes: int = 200,
) -> Made:
    sides = None if framing.tiles is not None else (size, size)
    request = Request("part", images, holdout, sides, None, 0, "onnxruntime", 1, framing=framing)
    store = ProductStore(folder / "products")
    scorer = scorer_named("protoad", max_prototypes=prototypes, max_patches=4000)
    bundle = calibrate(request, scorer, load_backbone("filterbank"), store, lambda *_: None)
    return Made(bundle, store, images)


@pytest.fixture(scope="module")
def regional(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Of a rendered product the upper part is ignored, and defects have a least area."""
    folder = tmp_path_factory.mktemp("regional")
    ignored = np.zeros((96, 96), np.uint8)
    ignored[:IGNORED_ROWS] = 255
    cv2.imwrite(str(folder / "ignore.png"), ignored)
    framing = Framing(ignore=folder / "ignore.png", min_area_px=AREA_PX, mm_per_pixel=MM)
    return _make(folder, tiny_data, tiny_data / "holdout", framing, 96, 2000)


def test_the_bundle_says_what_counts(regional: Made) -> None:
    """Region, area and scale stand in the manifest, and the region's file is hashed."""
    manifest, scope = regional.bundle.manifest, regional.bundle.scope()
    assert manifest.schema_version == 3
    assert manifest.scope.roi_share == pytest.approx(1 - IGNORED_ROWS / 96)
    assert ROI in manifest.files
    assert (scope.min_pixels, scope.mm_per_pixel) == (AREA_PX, MM)
    assert scope.inside is not None
    assert not scope.inside[:IGNORED_ROWS].any()
    assert scope.inside[IGNORED_ROWS:].all()


def test_the_line_scores_what_the_threshold_was_found_on(regional: Made) -> None:
    """Every hold-out picture gets the very score again, and the verdict that goes with it."""
    known = {one.name: one for one in read_holdout(regional.bundle).pictures}
    failed = 0
    with open_runtime(regional.bundle.graph, "onnxruntime", 1) as runtime:
        inspector = Inspector(regional.bundle, runtime)
        assert inspector.verify() == 0
        for sample in find_labelled(regional.images / "holdout"):
            decision, _ = inspector.inspect(read_image(sample.path))
            assert decision.score == known[sample.name].score == known[sample.name].peak
            is_above = decision.score >= regional.bundle.threshold.image
            assert (decision.verdict is Verdict.FAIL) == is_above
            assert bool(decision.regions) == is_above
            for region in decision.regions:
                assert region.top >= IGNORED_ROWS
                assert region.area_px >= AREA_PX
                assert region.area_mm2 == region.area_px * MM**2
            failed += is_above
    assert failed


def test_what_is_ignored_rejects_no_part(regional: Made) -> None:
    """A blotch in the ignored part raises the graph's score above the threshold, but not ours."""
    image = read_image(next(iter(find_labelled(regional.images / "holdout"))).path)
    with open_runtime(regional.bundle.graph, "onnxruntime", 1) as runtime:
        inspector = Inspector(regional.bundle, runtime)
        before, _ = inspector.inspect(image)
        soiled = image.copy()
        soiled[2:14, 30:60] = np.random.default_rng(0).integers(0, 256, (12, 30, 3), np.uint8)
        after, _ = inspector.inspect(soiled)
        graphs = runtime.infer(prepare(soiled, regional.bundle.manifest.preprocessing))
    assert graphs.score > regional.bundle.threshold.image
    assert after.score == pytest.approx(before.score, abs=1e-3)


def test_evaluation_counts_only_what_is_inspected(regional: Made) -> None:
    """Its figures are those of calibration on the same pictures."""
    bundle, scope = regional.bundle, regional.bundle.scope()
    samples = find_labelled(regional.images / "holdout")
    with open_runtime(bundle.graph, "onnxruntime", 1) as runtime:
        scored = score_samples(
            samples, bundle.manifest.preprocessing, scope, runtime, lambda *_: None
        )
    figures = summarise(scored, bundle.manifest, "here", scope).as_json()
    metrics = bundle.manifest.metrics.items()
    for name, value in ((name, value) for name, value in metrics if name in figures):
        assert figures[name] == pytest.approx(value)
    assert {"image_auroc", "pixel_ap"} <= set(bundle.manifest.metrics)
    everywhere = summarise(scored, bundle.manifest, "here").as_json()
    assert everywhere["pixel_ap"] != figures["pixel_ap"]


def test_another_threshold_keeps_the_scope(regional: Made) -> None:
    """Region and area go with the model; a revision's name tells them."""
    holdout = read_holdout(regional.bundle)
    choice = choose(PolicyPart(name="cost", limits={"cost_ratio": 50, "prevalence": 0.1}), holdout)
    made = rethreshold(regional.store, regional.bundle, choice, holdout)
    assert made.manifest.scope == regional.bundle.manifest.scope
    np.testing.assert_array_equal(made.scope().roi, regional.bundle.scope().roi)
    report = (made.path / "report.html").read_text()
    assert "region of interest" in report
    assert "12 px = 3 mm2" in report


def _weave(rng: np.random.Generator, has_spot: bool) -> tuple[ImageArray, np.ndarray]:
    """A fabric of SIDE pixels with soft blotches, and where its sharp spot of 5 pixels is."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    threads = 12 * np.sin(x * np.pi / 8 + rng.uniform(0, 6)) + 12 * np.sin(y * np.pi / 8)
    blotches = cv2.resize(rng.normal(0, 12, (32, 32)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    grey = 140 + threads + blotches + rng.normal(0, 4, (SIDE, SIDE))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if has_spot:
        row, column = rng.integers(8, SIDE - 8, 2)
        cv2.circle(mask, (int(column), int(row)), 2, 255, -1)
    image = np.clip(grey - 60 * (mask > 0), 0, 255).astype(np.uint8)
    return np.repeat(image[..., None], 3, axis=2), mask


@pytest.fixture(scope="module")
def fabric(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of SIDE pixels a side with spots of 5: train/good and holdout/ with masks."""
    folder, rng = tmp_path_factory.mktemp("fabric"), np.random.default_rng(4)
    for kind, count in (("train/good", 4), ("holdout/good", 4), ("holdout/spot", 4)):
        masks = folder / "holdout" / "ground_truth" / "spot"
        for path in (folder / kind, masks):
            path.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image, mask = _weave(rng, kind == "holdout/spot")
            cv2.imwrite(str(folder / kind / f"{index}.png"), image)
            if mask.any():
                cv2.imwrite(str(masks / f"{index}.png"), mask)
    return folder


def test_tiles_find_small_defects_that_scaling_down_loses(fabric: Path, tmp_path: Path) -> None:
    """Spots of 5 pixels in pictures eight times as large as the graph's input."""
    tiles = Tiling(size=(TILE, TILE), overlap=16)
    tiled = _make(tmp_path / "tiled", fabric, fabric / "holdout", Framing(tiles=tiles), 0)
    scaled = _make(tmp_path / "scaled", fabric, fabric / "holdout", Framing(), TILE)
    assert tiled.bundle.graph.size == scaled.bundle.graph.size == (TILE, TILE)
    assert tiled.bundle.manifest.preprocessing.resize == (SIDE, SIDE)
    assert tiled.bundle.manifest.metrics["image_auroc"] == 1
    assert tiled.bundle.manifest.metrics["pixel_auroc"] > 0.99
    assert scaled.bundle.manifest.metrics["image_auroc"] < 0.9
    with open_runtime(tiled.bundle.graph, "onnxruntime", 1) as runtime:
        inspector = Inspector(tiled.bundle, runtime)
        assert inspector.verify() == 0
        image, mask = _weave(np.random.default_rng(99), has_spot=True)
        decision, _ = inspector.inspect(image)
        good, _ = inspector.inspect(_weave(np.random.default_rng(98), has_spot=False)[0])
    assert (decision.verdict, good.verdict) == (Verdict.FAIL, Verdict.PASS)
    assert decision.mask is not None
    assert decision.mask[mask > 0].all()


def test_simulated_defects_are_placed_where_they_count(fabric: Path, tmp_path: Path) -> None:
    """Without a hold-out folder too: tiles, a region, simulated defects of a tile's scale."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[[roi]]\npoints = [[100, 100], [200, 100], [200, 180], [100, 180]]\n")
    framing = Framing(recipe=recipe, tiles=Tiling(size=(TILE, TILE), overlap=16), min_area_px=9)
    made = _make(tmp_path, fabric, None, framing, 0)
    threshold = made.bundle.threshold
    assert threshold.basis == "simulated"
    assert threshold.escapes == 0
    assert not any("outside the region" in remark for remark in made.bundle.manifest.remarks)


def test_no_seam_shows_in_the_map_of_a_real_model(fabric: Path) -> None:
    """The map of tiles is that of one large graph within its noise, at seams as elsewhere."""
    images = [read_image(fabric / "train" / "good" / f"{i}.png")[:192, :192] for i in range(4)]
    backbone = load_backbone("filterbank")
    scorer = scorer_named("protoad", max_prototypes=100, max_patches=2000)
    head = scorer.fit(Material(images[:3]), backbone, 0, lambda *_: None).head
    tiles = Tiling(size=(96, 96), overlap=48)

    def maps(inputs: Sequence[ImageArray]) -> list[MapArray]:
        graph = ScoringGraph(backbone, head, inputs[0].shape[:2])
        with torch.inference_mode():
            return list(graph(torch.tensor(np.stack(inputs)))[0].numpy())

    tiled, whole = tiled_map(images[3], tiles, None, maps), maps([images[3]])[0]
    error = np.abs(tiled - whole)
    assert np.median(error) < 0.02 * whole.std()
    assert error.max() < 0.5 * whole.std()
    steps = np.abs(np.diff(tiled, axis=0)).max(axis=1)
    assert steps.max() < 1.25 * np.abs(np.diff(whole, axis=0)).max()
