"""What passes before the camera, and the truth about it: made once, then kept below the folder.

The parts are the demonstration's flange, drawn small. Two products are calibrated on different
pictures of it, so that a changeover has something to change to. A picture that the scorer decides
wrongly, or narrowly, is left out of the line: what goes wrong is then a fault's doing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inspectd.core.bundle import Bundle
from inspectd.core.errors import InspectdError
from inspectd.core.images import list_images, read_image
from inspectd.core.records import ImageArray, Verdict
from inspectd.core.store import ProductStore
from inspectd.demo.product import render_dataset, render_line, truth_of
from inspectd.pipeline.inspector import Inspector
from inspectd.runtimes import open_runtime
from inspectd.simulate.scenario import Scenario

PRODUCTS = ("sim-a", "sim-b")
VERSION = 1
"""Of what lies in the folder; another one is made anew."""
TRAIN, GOOD, PER_DEFECT = 60, 24, 6
PROTOTYPES = 200
DEFECT_SHARE = 0.25
SPARE = 4
"""Pictures drawn for each that is wanted."""
NARROW = 0.01
"""A margin below this share of the threshold is too narrow."""
RUNTIME = "onnxruntime"
"""What calibrates; the simulated one computes the same."""

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the line."""

    name: str
    is_defective: bool
    """In truth."""
    fails: dict[str, bool]
    """Product to whether the scorer, undisturbed, fails it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Products and pictures, on disk."""

    folder: Path
    pictures: tuple[Picture, ...]
    """In the order in which they pass, again and again."""
    left_out: int
    """Pictures that the scorer itself decides wrongly or narrowly."""

    @property
    def products(self) -> Path:
        """The product store."""
        return self.folder / "products"

    def images(self) -> list[ImageArray]:
        """(H, W, 3) each, in the line's order."""
        return [read_image(self.folder / "line" / f"{p.name}.png") for p in self.pictures]


def prepare_stage(folder: Path, scenario: Scenario, report: Report) -> Stage:
    """Draws and calibrates, unless that was done before.

    Raises:
        InspectdError: too few pictures are decided clearly.
    """
    key = f"stage-v{VERSION}-{scenario.size}-{scenario.seed}-{scenario.pictures}"
    place = folder / key
    if not (place / "stage.json").is_file():
        shutil.rmtree(place, ignore_errors=True)
        _make(place, scenario, report)
    content = json.loads((place / "stage.json").read_text(encoding="utf-8"))
    pictures = tuple(Picture(**picture) for picture in content["pictures"])
    return Stage(place, pictures, content["left_out"])


def _make(place: Path, scenario: Scenario, report: Report) -> None:
    size = (scenario.size * 4 // 3 // 4 * 4, scenario.size * 4 // 3 // 4 * 4)  # (H, W)
    bundles = [
        _calibrated(place, name, scenario, size, scenario.seed + 1 + number, report)
        for number, name in enumerate(PRODUCTS)
    ]
    render_line(
        place / "line",
        seed=scenario.seed,
        n_parts=scenario.pictures * SPARE,
        defect_share=DEFECT_SHARE,
        size=size,
        report=lambda done, total: report("drawing the parts of the line", done, total),
    )
    pictures, left_out = _judged(place / "line", bundles, scenario.pictures)
    content = {"pictures": [_as_dict(picture) for picture in pictures], "left_out": left_out}
    (place / "stage.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def _calibrated(
    place: Path, name: str, scenario: Scenario, size: tuple[int, int], seed: int, report: Report
) -> Bundle:
    from calibration.backbones import load_backbone
    from calibration.calibrate import Request, calibrate
    from calibration.scorers import scorer_named

    pictures = place / name
    render_dataset(
        pictures,
        seed=seed,
        n_train=TRAIN,
        n_good=GOOD,
        n_per_defect=PER_DEFECT,
        size=size,
        report=lambda done, total: report(f"drawing {name} to learn from", done, total),
    )
    request = Request(
        product=name,
        images=pictures,
        holdout=pictures / "holdout",
        resize=(scenario.size, scenario.size),
        crop=(scenario.size, scenario.size),
        seed=scenario.seed,
        runtime=RUNTIME,
        threads=1,
    )
    scorer = scorer_named("protoad", max_prototypes=PROTOTYPES)
    store = ProductStore(place / "products")
    return calibrate(request, scorer, load_backbone("filterbank"), store, report)


def _judged(line: Path, bundles: list[Bundle], wanted: int) -> tuple[list[Picture], int]:
    """Pictures that every product decides clearly and rightly, as many as are wanted."""
    fails: dict[str, dict[str, bool]] = {}
    doubtful: set[str] = set()
    files = list_images(line)
    for bundle in bundles:
        with open_runtime(bundle.graph, RUNTIME, threads=1) as runtime:
            inspector = Inspector(bundle, runtime)
            for file in files:
                decision, _ = inspector.inspect(read_image(file))
                failed = decision.verdict is Verdict.FAIL
                fails.setdefault(file.stem, {})[bundle.manifest.product] = failed
                is_narrow = abs(decision.margin or 0.0) < NARROW * abs(decision.threshold or 0.0)
                if is_narrow or failed != (truth_of(file.stem) is not None):
                    doubtful.add(file.stem)
    clear = [
        Picture(name, truth_of(name) is not None, verdicts)
        for name, verdicts in fails.items()
        if name not in doubtful
    ]
    if len(clear) < wanted or not any(picture.is_defective for picture in clear[:wanted]):
        raise InspectdError(
            f"the scorer decides only {len(clear)} of {len(files)} pictures clearly; raise `size`, "
            "or take another seed"
        )
    return clear[:wanted], len(doubtful)


def _as_dict(picture: Picture) -> dict[str, object]:
    return {
        "name": picture.name,
        "is_defective": picture.is_defective,
        "fails": picture.fails,
    }
