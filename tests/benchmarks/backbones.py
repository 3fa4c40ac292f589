"""Which backbone finds more: ProtoAD on several, with the same pictures for each.

For each category of a folder in MVTec AD's layout, ProtoAD is fitted on some good pictures and
scores some of ``test/`` (all kinds of defects in turn), both evenly spread over the files in name
order, so that every backbone sees the same. Reports image and pixel AUROC and the time that the
backbone takes for a picture against the first reference's.

A backbone is LABEL=SPEC with SPEC as ``--backbone`` of ``inspectd calibrate`` takes it,
``random:SEED`` (a ResNet-18 with random weights), or a checkpoint of ``inspectd pretrain``:

    python tests/benchmarks/backbones.py --backbones mine.safetensors,random:0,filterbank,\
ImageNet=shared/weights/resnet18_imagenet1k.safetensors --json table.json

Figures found before are read from the JSON file and not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import safe_open

from calibration.backbones import Backbone, load_backbone
from calibration.backbones.packed import blank_network
from calibration.dataset import PreparedImages, Sample, find_good, find_labelled
from calibration.graph import ScoringGraph
from calibration.material import PreparedSamples, pictures_of
from calibration.metrics import auroc, has_defective_pixel, pixel_auroc
from calibration.pretraining.recipe import initialised
from calibration.scorers import Material
from calibration.scorers.protoad import ProtoAD
from inspectd.core.preprocess import Preprocessing
from inspectd.core.records import ImageArray

SHARED = Path(__file__).resolve().parents[3] / "shared"
IMAGENET = f"ImageNet={SHARED / 'weights' / 'resnet18_imagenet1k.safetensors'}"
CATEGORIES = ("bottle", "magnetic_tile", "metal_nut", "cookie", "hazelnut")
TUNED = ("bottle", "magnetic_tile")
"""Categories on which choices were made; the others were only looked at."""
CHECKPOINT = "checkpoint.safetensors"
AVERAGE = "model/trunk.average."
BATCH = 8
TIMED = 15
Value = TypeVar("Value")


def main() -> None:
    """Measures what isn't known yet, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", default=f"random:0,filterbank,{IMAGENET}")
    parser.add_argument("--categories", default=",".join(CATEGORIES))
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument("--train", type=int, default=40, help="good pictures to learn from")
    parser.add_argument("--test", type=int, default=100, help="pictures to score, at most")
    parser.add_argument("--patches", type=int, default=30_000, help="patches to cluster")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    if arguments.json and arguments.json.is_file():
        rows = json.loads(arguments.json.read_text())
    for text in arguments.backbones.split(","):
        label, _, spec = text.rpartition("=")
        backbone = loaded(spec)
        row = rows.setdefault(label or spec, {})
        for category in arguments.categories.split(","):
            if category not in row:
                row[category] = judged(backbone, arguments.data / category, arguments)
                print(f"{label or spec} {category} {row[category]}", file=sys.stderr, flush=True)
        row["ms"] = row.get("ms") or latency_ms(backbone, arguments.side)
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1))
    print(table(rows, arguments.categories.split(",")))


def loaded(spec: str) -> Backbone:
    """A backbone by name, file, seed or checkpoint."""
    if spec.startswith("random:"):
        torch.manual_seed(int(spec.partition(":")[2]))
        network = initialised(blank_network())
    elif spec.endswith(CHECKPOINT):
        network = blank_network()
        with safe_open(spec, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(AVERAGE)]  # noqa: SIM118
            state = {name.removeprefix(AVERAGE): file.get_tensor(name) for name in names}
        network.load_state_dict(state)
    else:
        return load_backbone(spec)
    return Backbone(spec, network.eval().requires_grad_(False), "")


def judged(
    backbone: Backbone, folder: Path, arguments: argparse.Namespace
) -> dict[str, float | None]:
    """ProtoAD's figures on one category."""
    sides = (arguments.side, arguments.side)
    preprocessing = Preprocessing(resize=sides, crop=sides)
    good = list(PreparedImages(spread(find_good(folder), arguments.train), preprocessing))
    asked = list(PreparedSamples(test_samples(folder, arguments.test), preprocessing))
    started = perf_counter()
    scorer = ProtoAD(max_patches=arguments.patches)
    fitted = scorer.fit(Material(good), backbone, 0, lambda *_: None)
    scores, maps = scored(ScoringGraph(backbone, fitted.head, sides).eval(), pictures_of(asked))
    known = [(a, one) for a, one in zip(maps, asked, strict=True) if one.mask is not None]
    masks = [one.mask if one.is_defect else None for _, one in known]
    return {
        "image": auroc(scores, np.array([one.is_defect for one in asked])),
        "pixel": pixel_auroc([a for a, _ in known], masks) if has_defective_pixel(masks) else None,
        "pictures": len(asked),
        "seconds": round(perf_counter() - started, 1),
    }


def test_samples(folder: Path, count: int) -> list[Sample]:
    """Good and defective ones in the proportion of the test set, each kind evenly spread."""
    samples = find_labelled(folder)
    share = min(1.0, count / len(samples))
    kinds = [list(kind) for _, kind in groupby(samples, key=attrgetter("label"))]
    return [one for kind in kinds for one in spread(kind, max(1, round(share * len(kind))))]


def spread(values: Sequence[Value], count: int) -> list[Value]:
    """At most so many, evenly spread."""
    if len(values) <= count:
        return list(values)
    return [values[index * len(values) // count] for index in range(count)]


def scored(
    graph: ScoringGraph, pictures: Sequence[ImageArray]
) -> tuple[np.ndarray[Any, Any], list[np.ndarray[Any, Any]]]:
    """(N,) image scores and N maps."""
    scores, maps = [], []
    for start in range(0, len(pictures), BATCH):
        batch = torch.from_numpy(np.stack(pictures[start : start + BATCH]))
        with torch.inference_mode():
            found, score = graph(batch)
        maps.extend(found.numpy())
        scores.extend(score.tolist())
    return np.array(scores), maps


def latency_ms(backbone: Backbone, side: int) -> float:
    """Median of one picture through the backbone alone."""
    picture = torch.rand(1, 3, side, side)
    times = []
    with torch.inference_mode():
        for _ in range(TIMED):
            started = perf_counter()
            backbone.network(picture)
            times.append(1000 * (perf_counter() - started))
    return median(times)


def table(rows: dict[str, dict[str, Any]], categories: Sequence[str]) -> str:
    """Markdown: image AUROC / pixel AUROC; categories that choices were made on have a star."""
    heads = [f"{name}*" if name in TUNED else name for name in categories]
    lines = [
        f"| backbone | {' | '.join(heads)} | mean | ms |",
        f"| --- |{' --- |' * (len(heads) + 2)}",
    ]
    for label, row in rows.items():
        cells = [row[name] for name in categories if name in row]
        if len(cells) == len(categories):
            shown = [both(cell["image"], cell["pixel"]) for cell in cells]
            pixel = [cell["pixel"] for cell in cells if cell["pixel"] is not None]
            mean = both(fmean(cell["image"] for cell in cells), fmean(pixel))
            lines.append(f"| {label} | {' | '.join(shown)} | {mean} | {row['ms']:.0f} |")
    return "\n".join(lines)


def both(image: float, pixel: float | None) -> str:
    """Image AUROC / pixel AUROC."""
    return f"{image:.3f} / {'' if pixel is None else f'{pixel:.3f}'}"


if __name__ == "__main__":
    main()
