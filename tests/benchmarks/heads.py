"""ProtoAD's heads beside each other: time, image AUROC and F1, by runtime and precision.

Run by hand. Every head is fitted on the same training pictures of each category; the first half of
each folder of ``test/`` is the hold-out set that the threshold is found on, in fp32, and the other
half is judged by it. Times are of one category's graphs, all asked in turn on one picture, so that
a busy spell of the machine strikes all. int8 is made as `inspectd calibrate` makes it, without the
parity gate: the column of differences shows what the gate would say.

    PYTHONPATH=. python tests/benchmarks/heads.py --categories bottle,metal_nut --train 60
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from calibration.backbones import Backbone, load_backbone
from calibration.dataset import PreparedImages
from calibration.graph import ScoringGraph, export_onnx
from calibration.metrics import auroc, confusion
from calibration.precision import write_int8
from calibration.scorers import Material, scorer_named
from calibration.thresholds import f1_threshold
from calibration.variants import RANGES
from inspectd.core.bundle import Graph
from inspectd.core.contracts import Runtime
from inspectd.core.images import read_image
from inspectd.core.preprocess import Preprocessing, prepare
from inspectd.runtimes import open_runtime

SHARED = Path(__file__).resolve().parents[3] / "shared"
PREPROCESSING = Preprocessing(resize=(256, 256), crop=(224, 224))
HEADS: dict[str, dict[str, str | int]] = {
    "published": {"head": "published"},
    "rewritten, tiled": {"head": "rewritten"},
    "projected, 128": {"head": "projected"},
    "projected, 64": {"head": "projected", "channels": 64},
    "projected, coarser partition": {"head": "projected", "partition": -1},
    "compact (28 x 28)": {"head": "compact"},
    "compact, coarser, 64": {"head": "compact", "channels": 64, "partition": -1},
}
RUNTIMES = ("onnxruntime", "onnxruntime-int8", "openvino", "openvino-bf16", "openvino-int8")


@dataclass
class Row:
    """One head on one runtime, over all categories."""

    times: list[float]
    aurocs: list[float]
    f1s: list[float]
    difference: float = 0.0


def halves(root: Path, most: int) -> tuple[list[tuple[Path, bool]], list[tuple[Path, bool]]]:
    """(hold-out, evaluated) pictures, each with whether it is defective."""
    found: tuple[list[tuple[Path, bool]], list[tuple[Path, bool]]] = ([], [])
    for folder in sorted(path for path in (root / "test").iterdir() if path.is_dir()):
        files = sorted(folder.iterdir())
        for index, file in enumerate(files):
            found[index >= (len(files) + 1) // 2].append((file, folder.name != "good"))
    return tuple(  # type: ignore[return-value]
        [half[at] for at in np.unique(np.linspace(0, len(half) - 1, most, dtype=int))]
        for half in found
    )


def main() -> None:
    """Fits, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--categories", default="bottle,metal_nut,magnetic_tile,hazelnut,cookie")
    parser.add_argument(
        "--weights", default=str(SHARED / "weights/resnet18_imagenet1k.safetensors")
    )
    parser.add_argument("--train", type=int, default=60, help="training pictures")
    parser.add_argument("--test", type=int, default=40, help="pictures of each half, at most")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--heads", default="", help="beginnings of names, by comma")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    backbone = load_backbone(arguments.weights)
    wanted = tuple(arguments.heads.split(","))
    heads = {name: options for name, options in HEADS.items() if name.startswith(wanted)}
    rows: dict[tuple[str, str], Row] = {}
    categories = arguments.categories.split(",")
    for index, category in enumerate(categories):
        one_category(category, heads, backbone, arguments, rows, is_timed=index == 0)
        print_table(rows, categories[: index + 1])
    if arguments.json:
        content = [{"head": h, "runtime": r, **vars(row)} for (h, r), row in rows.items()]
        arguments.json.write_text(json.dumps({"categories": categories, "rows": content}, indent=1))


def one_category(
    category: str,
    heads: dict[str, dict[str, str | int]],
    backbone: Backbone,
    arguments: argparse.Namespace,
    rows: dict[tuple[str, str], Row],
    *,
    is_timed: bool,
) -> None:
    """Fits every head and adds what it finds to the rows."""
    root = SHARED / "data" / category
    paths = sorted((root / "train" / "good").iterdir())
    chosen = np.unique(np.linspace(0, len(paths) - 1, arguments.train, dtype=int))
    train = PreparedImages([paths[at] for at in chosen], PREPROCESSING)
    hold, rest = halves(root, arguments.test)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        opened: dict[tuple[str, str], Runtime] = {}
        for name, options in heads.items():
            started = time.monotonic()
            graph = made(name, options, train, backbone, Path(folder))
            for runtime in RUNTIMES:
                opened[name, runtime] = stack.enter_context(
                    open_runtime(graph, runtime, arguments.threads)
                )
            print(f"{category}: {name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        scores = {key: ([], []) for key in opened}  # type: ignore[var-annotated]
        for which, half in enumerate((hold, rest)):
            for path, _ in half:
                image = prepare(read_image(path), PREPROCESSING)
                for key, runtime_ in opened.items():
                    scores[key][which].append(runtime_.infer(image).score)
        if is_timed:
            timed(opened, train[0], arguments.rounds, rows)
        add(rows, scores, [bad for _, bad in hold], [bad for _, bad in rest])


def made(
    name: str,
    options: dict[str, str | int],
    train: PreparedImages,
    backbone: Backbone,
    folder: Path,
) -> Graph:
    """A fitted head as fp32 and int8 graphs."""
    fitted = scorer_named("protoad", **options).fit(Material(train), backbone, 0, lambda *_: None)
    slug = "".join(letter if letter.isalnum() else "-" for letter in name)
    path = folder / f"{slug}.onnx"
    size = PREPROCESSING.crop
    export_onnx(ScoringGraph(backbone, fitted.head, size, fitted.sigma, fitted.top_pixels), path)
    images = [train[at] for at in np.linspace(0, len(train) - 1, RANGES, dtype=int)]
    write_int8(path, path.with_suffix(".int8.onnx"), images)
    return Graph(path, PREPROCESSING.crop, precisions={"int8": path.with_suffix(".int8.onnx")})


def timed(
    opened: dict[tuple[str, str], Runtime],
    image: np.ndarray,
    rounds: int,
    rows: dict[tuple[str, str], Row],
) -> None:
    """All in turn, after a pause in which the threads of the one before go to sleep."""
    for _ in range(rounds):
        for key, runtime in opened.items():
            time.sleep(0.003)
            runtime.infer(image)
            started = time.perf_counter()
            runtime.infer(image)
            taken = (time.perf_counter() - started) * 1e3
            rows.setdefault(key, Row([], [], [])).times.append(taken)


def add(
    rows: dict[tuple[str, str], Row],
    scores: dict[tuple[str, str], tuple[list[float], list[float]]],
    hold: Sequence[bool],
    rest: Sequence[bool],
) -> None:
    """AUROC and F1 on the half that the threshold doesn't know."""
    for (name, runtime), (first, second) in scores.items():
        reference, exact = scores[name, "onnxruntime"]
        threshold = f1_threshold(np.asarray(reference), np.asarray(hold))
        found, bad = np.asarray(second), np.asarray(rest)
        row = rows.setdefault((name, runtime), Row([], [], []))
        row.aurocs.append(auroc(found, bad))
        row.f1s.append(confusion(found, bad, threshold).f1)
        differences = np.abs(np.asarray(first + second) - np.asarray(reference + exact))
        row.difference = max(row.difference, float(differences.max()))


def print_table(rows: dict[tuple[str, str], Row], categories: Sequence[str]) -> None:
    """Markdown; times in ms, and how many times faster than the published head on that runtime."""
    print(f"\n| head | runtime | ms | times faster | {' | '.join(categories)} | F1 | differs |")
    print("| --- " * (len(categories) + 6) + "|")
    for (name, runtime), row in rows.items():
        median = float(np.median(row.times))
        published = rows.get(("published", runtime), row)
        aurocs = " | ".join(f"{value:.3f}" for value in row.aurocs)
        print(
            f"| {name} | {runtime} | {median:.1f} | {np.median(published.times) / median:.1f} | "
            f"{aurocs} | {np.mean(row.f1s):.3f} | {row.difference:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
