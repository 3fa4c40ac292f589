"""Makes a product revision from pictures: fit, export, hold-out, threshold, golden set, bundle.

The threshold is found on scores of the exported graph in the runtime the line will use, so it
can't differ from what the line sees; torch only has to agree with it, which is checked here too.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import overload

import cv2
import numpy as np
import torch

import inspectd
from calibration.backbones import Backbone
from calibration.dataset import (
    Sample,
    digest_of,
    find_good,
    find_good_holdout,
    find_holdout,
    refuse_identical,
)
from calibration.evaluate import (
    Scored,
    arrays,
    kept_roi,
    let_go,
    maps_and_masks,
    pixel_figures,
    score_one,
    score_samples,
)
from calibration.framing import Framing, framed, preprocessing_of, scope_remarks
from calibration.gallery import Exhibit, Gallery, draw_gallery, worst, write_gallery
from calibration.graph import ScoringGraph, export_onnx
from calibration.large import inputs_of, shrunk
from calibration.metrics import auroc
from calibration.placing import place_defect
from calibration.policies import GOOD_ONLY, Choice, check, choose, require_support
from calibration.report import CASES, CalibrationReport, choose_cases, render_calibration_report
from calibration.rethreshold import revision_digest
from calibration.scorers import Report, Scorer
from calibration.thresholds import pixel_f1_threshold
from inspectd.core.bundle import (
    MODEL,
    REPORT,
    SCHEMA_VERSION,
    Bundle,
    DatasetPart,
    GoldenPart,
    Graph,
    Manifest,
    PolicyPart,
    RecipePart,
    ThresholdPart,
    sha256_of,
    write_manifest,
)
from inspectd.core.contracts import Runtime
from inspectd.core.errors import BundleError, DatasetError, ImageSizeError
from inspectd.core.holdout import HoldoutPicture, HoldoutScores, write_holdout
from inspectd.core.images import image_size, read_image
from inspectd.core.preprocess import Preprocessing, prepare
from inspectd.core.records import AnomalyMap, ImageArray, Threshold
from inspectd.core.scope import WHOLE, Scope, scope_facts, scope_of, write_roi
from inspectd.core.store import ProductStore
from inspectd.pipeline.score import examine
from inspectd.runtimes import open_runtime

PARITY = 1e-4
"""Largest difference between torch's score and the runtime's that is called the same model."""
GOLDEN_TOLERANCE = 1e-3
GOLDEN_EACH = 4
"""Golden pictures of good parts, and as many of defects."""
GOLDEN_TILED = 1
"""The same of tiled pictures: each runs the graph as often as it has tiles."""
HOLDOUT_SHARE = 0.2
HOLDOUT_LEAST = 15
"""Good pictures kept apart at least, if that leaves two thirds to learn from."""
HOLDOUT_MOST = 60
F1 = PolicyPart(name="f1")
EVERYTHING = Framing()


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks for."""

    product: str
    images: Path
    holdout: Path | None
    resize: tuple[int, int] | None
    """(H, W) pixels; None: the pictures' own size."""
    crop: tuple[int, int] | None
    """(H, W) pixels; None: all of that."""
    seed: int
    runtime: str = "auto"
    threads: int = 0
    policy: PolicyPart = F1
    framing: Framing = EVERYTHING
    """Region of interest, least area and tiles."""


@dataclass(frozen=True, slots=True)
class Holdout:
    """The scored hold-out set."""

    scored: tuple[Scored, ...]
    basis: str
    """`real` or `simulated` defects."""
    scope: Scope = WHOLE
    """What of the pictures counted."""


class PreparedImages(Sequence[ImageArray]):
    """Pictures on disk that are read and prepared one at a time; (H, W, 3) uint8 RGB each."""

    def __init__(self, paths: Sequence[Path], preprocessing: Preprocessing) -> None:
        self.paths = paths
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> ImageArray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ImageArray]: ...
    def __getitem__(self, index: int | slice) -> ImageArray | Sequence[ImageArray]:
        if isinstance(index, slice):
            return PreparedImages(self.paths[index], self.preprocessing)
        try:
            return prepare(read_image(self.paths[index]), self.preprocessing)
        except ImageSizeError as error:
            raise DatasetError(f"{self.paths[index]}: {error}") from error


def calibrate(
    request: Request, scorer: Scorer, backbone: Backbone, store: ProductStore, report: Report
) -> Bundle:
    """Makes a revision, activates it and returns it; on any failure the store is as before.

    Raises:
        DatasetError: the pictures can't serve; the message says why.
        ImageError: a picture can't be read.
        BundleError: the exported graph disagrees with torch.
        RuntimeUnavailableError: no runtime to find the threshold with.
        ConfigError: the threshold's policy can't be meant.
    """
    check(request.policy)
    started = monotonic()
    train_paths, held_back = split_good(find_good(request.images), request)
    samples = _holdout_samples(request, held_back)
    _require_support(request, samples)
    sizes = _source_sizes([*train_paths, *(sample.path for sample in samples)], report)
    preprocessing = preprocessing_of(request.resize, request.crop, request.framing.tiles, sizes)
    counts, roi = framed(request.framing, preprocessing, sizes)
    scope = scope_of(counts, preprocessing, roi)
    pictures = PreparedImages(train_paths, preprocessing)
    some = np.unique(np.linspace(0, len(pictures) - 1, 16, dtype=int))
    refuse_identical([shrunk(pictures[i]) for i in some])
    train = inputs_of(pictures, preprocessing.crop, scope, request.seed)
    fitted = scorer.fit(train, backbone, request.seed, report)
    with store.staging(request.product) as folder:
        graph = ScoringGraph(backbone, fitted.head, preprocessing.input_size)
        report("exporting", 0, 1)
        export_onnx(graph, folder / MODEL)
        report("exporting", 1, 1)
        target = Graph(folder / MODEL, preprocessing.input_size)
        with open_runtime(target, request.runtime, request.threads) as runtime:
            holdout = _score_holdout(request, samples, preprocessing, scope, runtime, report)
            runtime_name = runtime.name
        report("checking and writing the revision", 0, 1)
        golden = choose_golden(holdout.scored, GOLDEN_EACH if scope.tiles is None else GOLDEN_TILED)
        worst = check_parity(graph, golden, folder, scope)
        scores = holdout_scores(holdout)
        choice = choose(request.policy, scores)
        threshold = choice.threshold
        facts = {
            **_facts(request, preprocessing, scorer, backbone, train_paths),
            **scope_facts(counts, preprocessing),
            **fitted.facts,
            "runtime of the threshold": runtime_name,
            "torch against runtime": f"at most {worst:.1e} apart in score",
            "calibrated in": f"{monotonic() - started:.0f} s",
        }
        region = "" if roi is None else write_roi(folder, roi)
        digest = revision_digest(
            sha256_of(folder / MODEL), threshold, preprocessing, counts, region
        )
        revision = store.next_revision(request.product, digest)
        remarks = (
            *choice.remarks,
            *_overlap_remark(train_paths, samples),
            *scope_remarks(holdout.scored, scope, counts),
        )
        write_holdout(folder, scores)
        gallery = _gallery(holdout, threshold)
        write_gallery(folder, gallery)
        goldens = _write_golden(folder, golden)
        page = _report(request.product, revision, choice, scores, gallery, remarks, facts)
        (folder / REPORT).write_text(page, encoding="utf-8")
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            product=request.product,
            revision=revision,
            created_at=datetime.now(UTC),
            recipe=RecipePart(
                scorer=scorer.name,
                backbone=backbone.name,
                backbone_sha256=backbone.sha256,
                seed=request.seed,
                options=scorer.options(),
            ),
            preprocessing=preprocessing,
            scope=counts,
            threshold=ThresholdPart.model_validate(asdict(threshold)),
            policy=choice.policy,
            remarks=remarks,
            metrics=_metrics(holdout),
            dataset=_dataset(train_paths, holdout, sizes),
            golden=goldens,
            golden_tolerance=GOLDEN_TOLERANCE,
            tools={**_tools(), "runtime": runtime_name},
            files={
                file.relative_to(folder).as_posix(): sha256_of(file)
                for file in sorted(folder.rglob("*"))
                if file.is_file()
            },
        )
        write_manifest(folder, manifest)
        bundle = store.commit(request.product, folder, revision)
        report("checking and writing the revision", 1, 1)
    store.activate(request.product, revision)
    return bundle


def split_good(good: list[Path], request: Request) -> tuple[list[Path], list[Path]]:
    """Training pictures and, where no hold-out folder is given, those kept apart for it."""
    if request.holdout is not None:
        return good, []
    least = min(HOLDOUT_LEAST, len(good) // 3)
    count = min(HOLDOUT_MOST, max(2, least, round(HOLDOUT_SHARE * len(good))))
    rng = np.random.default_rng(request.seed)
    kept = set(rng.choice(len(good), count, replace=False).tolist())
    train = [path for index, path in enumerate(good) if index not in kept]
    return train, [good[index] for index in sorted(kept)]


def simulated_holdout(
    held_back: Sequence[Sample],
    preprocessing: Preprocessing,
    scope: Scope,
    runtime: Runtime,
    seed: int,
    report: Report,
) -> list[Scored]:
    """Scores kept-apart good pictures, each as it is and with a simulated defect.

    As many defects as good parts: with many more, failing everything has the highest F1.
    """
    rng = np.random.default_rng(seed)
    images = PreparedImages([sample.path for sample in held_back], preprocessing)
    scored: list[Scored] = []
    clean = np.zeros(preprocessing.crop, dtype=np.uint8)
    for index, sample in enumerate(held_back):
        image = images[index]
        scored.append(score_one(sample.name, "good", image, clean, scope, runtime))
        defect = place_defect(image, rng, scope)
        name = f"simulated/{sample.path.name}"
        scored.append(score_one(name, "simulated", defect.image, defect.mask, scope, runtime))
        let_go(scored)
        report("scoring the hold-out set", index + 1, len(held_back))
    return scored


def holdout_scores(holdout: Holdout) -> HoldoutScores:
    """What a threshold is chosen on, now and later, without pictures and maps.

    Where a defect has a least area a peak is a level too: what is smaller never is marked.
    """
    by_area = holdout.scope.min_pixels > 1
    return HoldoutScores(
        pictures=tuple(
            HoldoutPicture(
                name=one.name,
                label=one.label,
                origin="simulated" if one.is_defect and holdout.basis == "simulated" else "real",
                score=one.score,
                peak=one.score if by_area else float(one.anomaly_map.max()),
            )
            for one in holdout.scored
        ),
        pixel_f1=pixel_f1_threshold(*maps_and_masks(holdout.scored), kept_roi(holdout.scope)),
    )


def choose_golden(scored: Sequence[Scored], each: int = GOLDEN_EACH) -> list[Scored]:
    """Pictures over the whole range of scores of good parts and of defects.

    Of large pictures only those that `let_go` kept.
    """
    chosen = []
    kept = [s for s in scored if s.full is not None] or scored
    for wanted in (False, True):
        ranked = sorted((s for s in kept if s.is_defect is wanted), key=lambda s: s.score)
        if not ranked:
            continue
        picks = np.unique(np.linspace(0, len(ranked) - 1, each, dtype=int))
        chosen += [ranked[pick] for pick in picks]
    return chosen


class _InTorch:
    """The graph as it was learned, scored like a runtime."""

    def __init__(self, graph: ScoringGraph) -> None:
        self._graph = graph

    def infer(self, image: ImageArray) -> AnomalyMap:
        """One (H, W, 3) input."""
        values, score = self._graph(torch.tensor(image[None]))  # a copy: pictures are read-only
        return AnomalyMap(values[0].numpy(), float(score))


def check_parity(
    graph: ScoringGraph, golden: Sequence[Scored], folder: Path, scope: Scope = WHOLE
) -> float:
    """Largest difference in score between torch and the runtime on the golden pictures.

    Raises:
        BundleError: it is more than `PARITY`.
    """
    worst = 0.0
    with torch.inference_mode():
        for one in golden:
            score = examine(_InTorch(graph), one.input, scope).score
            worst = max(worst, abs(score - one.score))
    if worst > PARITY:
        raise BundleError(
            folder,
            f"the exported graph's scores differ from torch's by {worst:.1e} (at most "
            f"{PARITY:.0e} is allowed); calibrate with --runtime onnxruntime and report this",
        )
    return worst


def _holdout_samples(request: Request, held_back: list[Path]) -> list[Sample]:
    if request.holdout is None:
        return [Sample(path, "good") for path in held_back]
    find = find_good_holdout if request.policy.name in GOOD_ONLY else find_holdout
    return find(request.holdout)


def _require_support(request: Request, samples: list[Sample]) -> None:
    """Refuses what the policy can't be found on, before the model is learned."""
    n_defect = sum(sample.is_defect for sample in samples)
    n_good = len(samples) - n_defect
    require_support(request.policy, n_good, n_good if request.holdout is None else n_defect)


def _score_holdout(
    request: Request,
    samples: list[Sample],
    preprocessing: Preprocessing,
    scope: Scope,
    runtime: Runtime,
    report: Report,
) -> Holdout:
    if request.holdout is None:
        scored = simulated_holdout(samples, preprocessing, scope, runtime, request.seed, report)
        return Holdout(tuple(scored), "simulated", scope)
    scored = score_samples(
        samples,
        preprocessing,
        scope,
        runtime,
        lambda done, total: report("scoring the hold-out set", done, total),
    )
    return Holdout(tuple(scored), "real", scope)


def _source_sizes(paths: Sequence[Path], report: Report) -> list[tuple[int, int]]:
    """Distinct (H, W) of the pictures, most frequent first."""
    counts: dict[tuple[int, int], int] = {}
    for index, path in enumerate(paths):
        size = image_size(path)
        counts[size] = counts.get(size, 0) + 1
        report("checking pictures", index + 1, len(paths))
    return sorted(counts, key=lambda size: -counts[size])


def _overlap_remark(train: Sequence[Path], samples: Sequence[Sample]) -> tuple[str, ...]:
    """Warns where a hold-out picture was learned from: its score is then too low."""
    known = {sha256_of(path) for path in train}
    twice = sum(sha256_of(sample.path) in known for sample in samples)
    if not twice:
        return ()
    return (
        f"Warning: {twice} picture(s) of the hold-out set are also among those learned from, so "
        "their scores are too low; remove them from one of the two.",
    )


def _write_golden(folder: Path, golden: Sequence[Scored]) -> tuple[GoldenPart, ...]:
    (folder / "golden").mkdir()
    parts = []
    for index, one in enumerate(golden):
        name = f"golden/{index:02d}.png"
        cv2.imwrite(str(folder / name), cv2.cvtColor(one.input, cv2.COLOR_RGB2BGR))
        parts.append(GoldenPart(file=name, label=one.label, score=one.score))
    return tuple(parts)


def _gallery(holdout: Holdout, threshold: Threshold) -> Gallery:
    """Pictures of what this page shows, and of what another threshold's may."""
    scores, is_defect = arrays(holdout.scored)
    labels = tuple(one.label for one in holdout.scored)
    shown = choose_cases(scores, labels, threshold.image, CASES).values()
    wanted = sorted(worst(scores, is_defect).union(*shown))
    exhibits = {}
    for index in wanted:
        one = holdout.scored[index]
        mask = one.mask if one.is_defect else None
        exhibits[index] = Exhibit(one.image, one.anomaly_map, mask, kept_roi(holdout.scope))
    return draw_gallery(exhibits, threshold.pixel)


def _report(
    product: str,
    revision: str,
    choice: Choice,
    scores: HoldoutScores,
    gallery: Gallery,
    remarks: tuple[str, ...],
    facts: dict[str, str],
) -> str:
    return render_calibration_report(
        CalibrationReport(
            product=product,
            revision=revision,
            created_at=datetime.now(UTC),
            threshold=choice.threshold,
            scores=scores.scores,
            labels=scores.labels,
            names=scores.names,
            gallery=gallery,
            policy=choice.policy,
            remarks=remarks,
            facts=facts,
        )
    )


def _metrics(holdout: Holdout) -> dict[str, float]:
    scores, is_defect = arrays(holdout.scored)
    if not is_defect.any():
        return {}
    return {"image_auroc": auroc(scores, is_defect), **pixel_figures(holdout.scored, holdout.scope)}


def _dataset(train: Sequence[Path], holdout: Holdout, sizes: list[tuple[int, int]]) -> DatasetPart:
    defects = sum(one.is_defect for one in holdout.scored)
    return DatasetPart(
        sha256=digest_of(train),
        n_train=len(train),
        n_holdout_good=len(holdout.scored) - defects,
        n_holdout_defect=defects,
        source_sizes=tuple(sizes[:16]),
    )


def _facts(
    request: Request,
    preprocessing: Preprocessing,
    scorer: Scorer,
    backbone: Backbone,
    train: Sequence[Path],
) -> dict[str, str]:
    crop = f"{preprocessing.crop[0]} x {preprocessing.crop[1]}"
    resize = f"{preprocessing.resize[0]} x {preprocessing.resize[1]}"
    return {
        "scorer": scorer.name,
        "backbone": f"{backbone.name} ({backbone.sha256[:12]}…)",
        "pictures learned from": str(len(train)),
        "input (H x W)": crop if crop == resize else f"{resize}, centre {crop}",
        "seed": str(request.seed),
        **_tools(),
    }


def _tools() -> dict[str, str]:
    packages = ("torch", "onnx", "scipy", "numpy", "opencv-python-headless")
    return {
        "inspectd": inspectd.__version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
    }


def _version(package: str) -> str:
    """A package's version; `other build` where it came under another name (opencv-python, say)."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "other build"
