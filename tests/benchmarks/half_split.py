"""Accuracy on real pictures: half of ``test/`` as hold-out, the other half evaluated.

For each category of a folder in MVTec AD's layout: calibrates on ``train/good`` with the first
half (in name order) of each folder of ``test/`` as hold-out, through ``inspectd calibrate``, and
evaluates the other half through ``inspectd evaluate``. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parents[3] / "shared"
ALL = ("bottle", "metal_nut", "magnetic_tile", "cookie", "hazelnut")


def main() -> None:
    """Runs the categories one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--categories", default=",".join(ALL))
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument(
        "--backbone", default=str(SHARED / "weights" / "resnet18_imagenet1k.safetensors")
    )
    parser.add_argument("--without-holdout", action="store_true", help="simulate the defects")
    parser.add_argument("--json", type=Path)
    arguments, passed_on = parser.parse_known_args()
    options = passed_on or ["--input-size", "256", "--crop", "224"]
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for category in arguments.categories.split(","):
            rows[category] = run(category, Path(folder), arguments, options)
            sys.stdout.write(f"{table(rows)}\n\n")
            sys.stdout.flush()
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


def run(
    category: str, folder: Path, arguments: argparse.Namespace, options: list[str]
) -> dict[str, Any]:
    """Calibrates and evaluates one category."""
    source = arguments.data / category
    first, second = split(source, folder / category)
    environment = {**os.environ, "INSPECTD_STATE_DIR": str(folder / "state")}
    results = [folder / f"{category}-{name}.json" for name in ("calibrate", "evaluate")]
    holdout = [] if arguments.without_holdout else ["--holdout", str(first)]
    for command in (
        ["calibrate", "--images", str(source), *holdout, "--json", str(results[0])],
        ["evaluate", "--images", str(second), "--json", str(results[1])],
    ):
        program = [sys.executable, "-m", "inspectd", *command, "--product", category]
        if command[0] == "calibrate":
            program += ["--backbone", arguments.backbone, *options]
        subprocess.run(program, env=environment, check=True, stdout=subprocess.DEVNULL)
    calibrated, evaluated = (json.loads(path.read_text()) for path in results)
    return {**evaluated, "calibrate_s": calibrated["seconds"], "basis": calibrated["basis"]}


def split(source: Path, target: Path) -> tuple[Path, Path]:
    """Copies both halves of ``test/`` with their masks."""
    halves = (target / "first", target / "second")
    for kind in sorted(path for path in (source / "test").iterdir() if path.is_dir()):
        pictures = sorted(kind.iterdir())
        middle = len(pictures) // 2
        for half, chosen in zip(halves, (pictures[:middle], pictures[middle:]), strict=True):
            for picture in chosen:
                copy(picture, half / kind.name / picture.name)
                mask = source / "ground_truth" / kind.name / f"{picture.stem}_mask.png"
                if mask.is_file():
                    copy(mask, half / "ground_truth" / kind.name / mask.name)
    return halves


def copy(source: Path, target: Path) -> None:
    """Copies a file and makes the folders above it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| category | image AUROC | F1 at the threshold (best) | escapes | overkill | pixel AUROC "
        "| pixel AP | PRO | calibrated in |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for category, row in rows.items():
        pixel = [
            "" if row[k] is None else f"{row[k]:.3f}" for k in ("pixel_auroc", "pixel_ap", "aupro")
        ]
        lines.append(
            f"| {category} | {row['image_auroc']:.3f} | {row['f1']:.3f} ({row['best_f1']:.3f}) "
            f"| {row['escapes']} of {row['n_defect']} | {row['overkill']} of {row['n_good']} "
            f"| {' | '.join(pixel)} | {row['calibrate_s']:.0f} s |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
