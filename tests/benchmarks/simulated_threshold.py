"""How good is a threshold from simulated defects alone? Judged by the real ones of ``test/``.

For each category of a folder in MVTec AD's layout: calibrates on ``train/good`` without a hold-out
set, through ``inspectd calibrate``, then scores ``test/`` once. The oracle is the threshold with
the highest F1 on ``test/`` itself, which nobody has beforehand. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from calibration.dataset import find_labelled
from calibration.evaluate import arrays, score_samples
from calibration.metrics import auroc, confusion
from inspectd.core.bundle import Bundle
from inspectd.core.store import ProductStore
from inspectd.runtimes import open_runtime

SHARED = Path(__file__).resolve().parents[3] / "shared"
ALL = ("bottle", "metal_nut", "hazelnut", "cookie", "magnetic_tile")
HEAD = (
    "| category | AUROC | F1 | oracle's F1 | threshold | oracle's | escapes | overkill |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def main() -> None:
    """Runs the categories one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--categories", default=",".join(ALL))
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument(
        "--backbone", default=str(SHARED / "weights" / "resnet18_imagenet1k.safetensors")
    )
    parser.add_argument("--threads", type=int, default=0)
    arguments, passed_on = parser.parse_known_args()
    options = passed_on or ["--input-size", "256", "--crop", "224"]
    options += ["--backbone", arguments.backbone, "--threads", str(arguments.threads)]
    print(HEAD)
    with tempfile.TemporaryDirectory() as state:
        for category in arguments.categories.split(","):
            bundle = calibrated(category, arguments.data / category, Path(state), options)
            print(row(bundle, arguments.data / category, arguments.threads), flush=True)


def calibrated(category: str, images: Path, state: Path, options: list[str]) -> Bundle:
    """A revision whose threshold rests on simulated defects."""
    command = ["calibrate", "--product", category, "--images", str(images), *options]
    environment = {**os.environ, "INSPECTD_STATE_DIR": str(state)}
    program = [sys.executable, "-m", "inspectd", *command]
    subprocess.run(program, env=environment, check=True, stdout=subprocess.DEVNULL)
    return ProductStore(state / "products").open(category)


def row(bundle: Bundle, images: Path, threads: int) -> str:
    """One category of the table."""
    preprocessing = bundle.manifest.preprocessing
    with open_runtime(bundle.graph, "auto", threads) as runtime:
        scored = score_samples(
            find_labelled(images), preprocessing, bundle.scope(), runtime, lambda *_: None
        )
    scores, is_defect = arrays(scored)
    cuts = np.unique(scores)
    oracle = max(cuts, key=lambda cut: confusion(scores, is_defect, cut).f1)
    found = confusion(scores, is_defect, bundle.threshold.image)
    best = confusion(scores, is_defect, float(oracle))
    return (
        f"| {bundle.manifest.product} | {auroc(scores, is_defect):.3f} | {found.f1:.3f} "
        f"| {best.f1:.3f} | {bundle.threshold.image:.4f} | {oracle:.4f} "
        f"| {found.escapes} of {is_defect.sum()} | {found.overkill} of {(~is_defect).sum()} |"
    )


if __name__ == "__main__":
    main()
