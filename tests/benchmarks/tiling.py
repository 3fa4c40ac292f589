"""Small defects in large pictures: tiles against scaling down, on rendered pictures.

Renders woven texture with spots of 6 to 10 pixels as defects, calibrates it twice (tiles at full
size, and scaled down to one tile), and prints what each finds on pictures neither has seen, the
time and the peak memory. By hand:

    python -m tests.benchmarks.tiling --side 4096 --tile 256 --backbone resnet18
"""

from __future__ import annotations

import argparse
import json
import resource
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import cv2
import numpy as np

from calibration.backbones import load_backbone
from calibration.calibrate import Request, calibrate
from calibration.dataset import find_labelled
from calibration.evaluate import score_samples, summarise
from calibration.framing import Framing
from calibration.scorers import scorer_named
from inspectd.core.images import read_image
from inspectd.core.preprocess import Tiling
from inspectd.core.records import ImageArray, MaskArray
from inspectd.core.store import ProductStore
from inspectd.pipeline.inspector import Inspector
from inspectd.runtimes import open_runtime

CONTRAST = 70
"""Grey levels by which a defect is darker than what it lies on."""


def weave(side: int, rng: np.random.Generator) -> ImageArray:
    """(H, W, 3) picture of a fabric: threads, blotches of two dozen pixels and more, noise."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    phase = rng.uniform(0, 16, 2)
    threads = 12 * np.sin((x + phase[0]) * np.pi / 8) + 12 * np.sin((y + phase[1]) * np.pi / 8)
    small = rng.normal(size=(side // 24, side // 24)).astype(np.float32)
    blotches = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    noise = rng.standard_normal((side, side), np.float32)
    grey = np.clip(140 + threads + 10 * blotches + 4 * noise, 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)


def spotted(
    image: ImageArray, sizes: tuple[int, int], rng: np.random.Generator
) -> tuple[ImageArray, MaskArray]:
    """The picture with one dark spot of so many pixels across, and its (H, W) mask."""
    side = image.shape[0]
    diameter = int(rng.integers(sizes[0], sizes[1] + 1))
    row, column = rng.integers(diameter, side - diameter, 2)
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.circle(mask, (int(column), int(row)), diameter // 2, 255, -1)
    dark = np.clip(image.astype(np.int16) - CONTRAST, 0, 255).astype(np.uint8)
    return np.where(mask[..., None] > 0, dark, image), mask


def render(
    folder: Path, side: int, sizes: tuple[int, int], counts: tuple[int, int], seed: int
) -> None:
    """train/good, and holdout and test with good, spot and masks; `counts` of train, of the others.

    PNG is written fast rather than small.
    """
    rng = np.random.default_rng(seed)
    for part, kind, count in (
        ("train", "good", counts[0]),
        *((part, kind, counts[1]) for part in ("holdout", "test") for kind in ("good", "spot")),
    ):
        (folder / part / kind).mkdir(parents=True)
        masks = folder / part / "ground_truth" / kind
        for index in range(count):
            image = weave(side, rng)
            if kind == "spot":
                masks.mkdir(parents=True, exist_ok=True)
                image, mask = spotted(image, sizes, rng)
                _write(masks / f"{index:03d}.png", mask)
            _write(folder / part / kind / f"{index:03d}.png", image)


def _write(path: Path, image: np.ndarray) -> None:
    cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def run(folder: Path, request: Request, backbone: str, runtime_name: str) -> dict[str, object]:
    """Calibrates and evaluates once."""
    started = perf_counter()
    store = ProductStore(folder / "products")
    scorer = scorer_named("protoad", max_patches=20_000, max_prototypes=2_000)
    bundle = calibrate(request, scorer, load_backbone(backbone), store, lambda *_: None)
    calibrated = perf_counter() - started
    scope = bundle.scope()
    samples = find_labelled(folder / "test")
    with open_runtime(bundle.graph, runtime_name, request.threads) as runtime:
        worst = Inspector(bundle, runtime).verify()
        scored = score_samples(
            samples, bundle.manifest.preprocessing, scope, runtime, lambda *_: None
        )
        figures = summarise(scored, bundle.manifest, runtime.name, scope).as_json()
        _, timings = Inspector(bundle, runtime).inspect(read_image(samples[0].path))
    bytes_ = sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file())
    return {
        **{key: figures[key] for key in ("image_auroc", "f1", "escapes", "overkill", "pixel_ap")},
        "n_defect": figures["n_defect"],
        "inference_ms": round(float(figures["latency_ms_p50"] or 0)),
        "decide_ms": round(timings["decide"], 1),
        "golden_difference": worst,
        "calibrated_s": round(calibrated),
        "bundle_mib": round(bytes_ / 2**20, 1),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


def main() -> None:
    """Prints a JSON object for each of both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--overlap", type=int, default=64)
    parser.add_argument("--defect", type=int, nargs=2, default=(6, 10), metavar=("FROM", "TO"))
    parser.add_argument("--pictures", type=int, nargs=2, default=(4, 5), metavar=("TRAIN", "EACH"))
    parser.add_argument("--backbone", default="filterbank")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        render(folder, args.side, tuple(args.defect), tuple(args.pictures), seed=1)
        scaled = Request(
            product="weave",
            images=folder,
            holdout=folder / "holdout",
            resize=(args.tile, args.tile),
            crop=None,
            seed=0,
            runtime=args.runtime,
            threads=args.threads,
        )
        tiles = Tiling(size=(args.tile, args.tile), overlap=args.overlap)
        tiled = replace(scaled, product="tiled", resize=None, framing=Framing(tiles=tiles))
        for kind, request in (("scaled", scaled), ("tiles", tiled)):
            found = run(folder, request, args.backbone, args.runtime)
            print(json.dumps({"kind": kind, **found}), flush=True)


if __name__ == "__main__":
    main()
