"""Makes a product revision from pictures: fit, export, hold-out, threshold, golden set, bundle.

The threshold is found on scores of the exported graph in the runtime the line will use, so it
can't differ from what the line sees; torch only has to agree with it, which is checked here too.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic

import cv2
import numpy as np
import torch

import inspectd
from calibration.backbones import Backbone
from calibration.checkpoints import forget_checkpoint, read_checkpoint
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
    maps_and_masks,
    pixel_figures,
    score_labelled,
)
from calibration.gallery import Exhibit, Gallery, draw_gallery, worst, write_gallery
from calibration.graph import ScoringGraph, export_onnx
from calibration.material import PreparedImages, PreparedSamples, SimulatedSamples, draw_seen
from calibration.metrics import auroc
from calibration.policies import GOOD_ONLY, Choice, check, choose, require_support
from calibration.report import CASES, CalibrationReport, choose_cases, render_calibration_report
from calibration.rethreshold import revision_digest
from calibration.scorers import Curve, Labelled, Material, Report, Scorer
from calibration.thresholds import pixel_f1_threshold
from calibration.training import device_named
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
from inspectd.core.errors import BundleError
from inspectd.core.holdout import HoldoutPicture, HoldoutScores, write_holdout
from inspectd.core.images import image_size
from inspectd.core.preprocess import Preprocessing
from inspectd.core.records import Threshold
from inspectd.core.store import ProductStore
from inspectd.runtimes import open_runtime

PARITY = 1e-4
"""Largest difference between torch's score and the runtime's that is called the same model."""
GOLDEN_TOLERANCE = 1e-3
GOLDEN_EACH = 4
"""Golden pictures of good parts, and as many of defects."""
HOLDOUT_SHARE = 0.2
HOLDOUT_LEAST = 15
"""Good pictures kept apart at least, if that leaves two thirds to learn from."""
HOLDOUT_MOST = 60
F1 = PolicyPart(name="f1")


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks for."""

    product: str
    images: Path
    holdout: Path | None
    resize: tuple[int, int]
    """(H, W) pixels."""
    crop: tuple[int, int]
    """(H, W) pixels."""
    seed: int
    runtime: str = "auto"
    threads: int = 0
    policy: PolicyPart = F1
    checkpoints: Path | None = None
    """Folder for those of a training; None: none are written."""
    is_resumed: bool = False
    """Continues the interrupted training of the same request."""
    budget_s: float | None = None
    """Seconds that a training may take; None: as long as it is planned."""
    device: str = "auto"
    """Where a training computes: `auto`, `cpu` or `cuda`."""


@dataclass(frozen=True, slots=True)
class Holdout:
    """The scored hold-out set."""

    scored: tuple[Scored, ...]
    basis: str
    """`real` or `simulated` defects."""


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
    found = _holdout_samples(request, held_back)
    seen, samples = draw_seen(found, scorer.seen_limit, request.seed)
    _require_support(request, samples)
    sizes = _source_sizes([*train_paths, *(sample.path for sample in found)], report)
    preprocessing = Preprocessing(
        resize=request.resize,
        crop=request.crop,
        source_size=sizes[0] if len(sizes) == 1 else None,
    )
    train = PreparedImages(train_paths, preprocessing)
    refuse_identical([train[i] for i in np.unique(np.linspace(0, len(train) - 1, 16, dtype=int))])
    pictures = _holdout_pictures(request, samples, preprocessing)
    material = Material(
        good=train,
        holdout=pictures,
        seen=PreparedSamples(seen, preprocessing),
        folder=request.checkpoints,
        request=_digest(request, scorer, backbone, preprocessing, (train_paths, seen, samples)),
        is_resumed=request.is_resumed,
        budget_s=request.budget_s,
        device=device_named(request.device),
    )
    _require_resumable(material)
    fitted = scorer.fit(material, backbone, request.seed, report)
    with store.staging(request.product) as folder:
        graph = ScoringGraph(backbone, fitted.head, request.crop, fitted.sigma, fitted.top_pixels)
        report("exporting", 0, 1)
        export_onnx(graph, folder / MODEL)
        report("exporting", 1, 1)
        target = Graph(folder / MODEL, request.crop)
        with open_runtime(target, request.runtime, request.threads) as runtime:
            holdout = _score_holdout(request, pictures, runtime, report)
            runtime_name = runtime.name
        report("checking and writing the revision", 0, 1)
        golden = choose_golden(holdout.scored)
        worst = check_parity(graph, golden, folder)
        scores = holdout_scores(holdout)
        choice = choose(request.policy, scores)
        threshold = choice.threshold
        facts = {
            **_facts(request, scorer, backbone, train_paths),
            **fitted.facts,
            "runtime of the threshold": runtime_name,
            "torch against runtime": f"at most {worst:.1e} apart in score",
            "calibrated in": f"{monotonic() - started:.0f} s",
        }
        revision = store.next_revision(
            request.product, revision_digest(sha256_of(folder / MODEL), threshold, preprocessing)
        )
        remarks = (
            *choice.remarks,
            *_overlap_remark(train_paths, samples),
            *_seen_remark(scorer, seen),
            *fitted.remarks,
        )
        write_holdout(folder, scores)
        gallery = _gallery(holdout, threshold)
        write_gallery(folder, gallery)
        goldens = _write_golden(folder, golden)
        page = _report(
            request.product, revision, choice, scores, gallery, remarks, facts, fitted.curves
        )
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
    if request.checkpoints is not None:
        forget_checkpoint(request.checkpoints)
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


def holdout_scores(holdout: Holdout) -> HoldoutScores:
    """What a threshold is chosen on, now and later, without pictures and maps."""
    return HoldoutScores(
        pictures=tuple(
            HoldoutPicture(
                name=one.name,
                label=one.label,
                origin="simulated" if one.is_defect and holdout.basis == "simulated" else "real",
                score=one.score,
                peak=float(one.anomaly_map.max()),
            )
            for one in holdout.scored
        ),
        pixel_f1=pixel_f1_threshold(*maps_and_masks(holdout.scored)),
    )


def choose_golden(scored: Sequence[Scored]) -> list[Scored]:
    """Pictures over the whole range of scores of good parts and of defects."""
    chosen = []
    for wanted in (False, True):
        ranked = sorted((s for s in scored if s.is_defect is wanted), key=lambda s: s.score)
        if not ranked:
            continue
        picks = np.unique(np.linspace(0, len(ranked) - 1, GOLDEN_EACH, dtype=int))
        chosen += [ranked[pick] for pick in picks]
    return chosen


def check_parity(graph: ScoringGraph, golden: Sequence[Scored], folder: Path) -> float:
    """Largest difference in score between torch and the runtime on the golden pictures.

    Raises:
        BundleError: it is more than `PARITY`.
    """
    worst = 0.0
    with torch.inference_mode():
        for one in golden:
            _, score = graph(torch.tensor(one.image[None]))  # a copy: pictures are read-only
            worst = max(worst, abs(float(score) - one.score))
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


def _holdout_pictures(
    request: Request, samples: list[Sample], preprocessing: Preprocessing
) -> Sequence[Labelled]:
    if request.holdout is None:
        return SimulatedSamples(samples, preprocessing, request.seed)
    return PreparedSamples(samples, preprocessing)


def _score_holdout(
    request: Request, pictures: Sequence[Labelled], runtime: Runtime, report: Report
) -> Holdout:
    scored = score_labelled(
        pictures, runtime, lambda done, total: report("scoring the hold-out set", done, total)
    )
    return Holdout(tuple(scored), "simulated" if request.holdout is None else "real")


def _require_resumable(material: Material) -> None:
    """Refuses to go on from what isn't there, before features are extracted."""
    if material.is_resumed and material.folder is not None:
        read_checkpoint(material.folder, material.request)


def _digest(
    request: Request,
    scorer: Scorer,
    backbone: Backbone,
    preprocessing: Preprocessing,
    pictures: tuple[list[Path], list[Sample], list[Sample]],
) -> str:
    """Hash of all that decides what is learned: good pictures, defects shown, hold-out set."""
    good, seen, holdout = pictures
    decisive = [
        scorer.name,
        scorer.options(),
        backbone.sha256,
        request.seed,
        preprocessing.model_dump(mode="json"),
        digest_of(good),
        digest_of([sample.path for sample in seen]),
        digest_of([sample.path for sample in holdout]),
    ]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


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


def _seen_remark(scorer: Scorer, seen: Sequence[Sample]) -> tuple[str, ...]:
    """Says which defects were taught, or that none were to a method that wants some."""
    if not scorer.seen_limit:
        return ()
    if not seen:
        return (
            f"Warning: no real defect was learned from, and {scorer.name} is made for a few. Pass "
            "--holdout with defects and their masks in ground_truth/: at most half of those, "
            f"{scorer.seen_limit} at most, are learned from.",
        )
    kinds = Counter(sample.label for sample in seen)
    names = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return (
        f"{len(seen)} defects of the hold-out folder were learned from ({names}); they are left "
        "out of the hold-out set, so nothing is judged on what it was taught.",
    )


def _write_golden(folder: Path, golden: Sequence[Scored]) -> tuple[GoldenPart, ...]:
    (folder / "golden").mkdir()
    parts = []
    for index, one in enumerate(golden):
        name = f"golden/{index:02d}.png"
        cv2.imwrite(str(folder / name), cv2.cvtColor(one.image, cv2.COLOR_RGB2BGR))
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
        exhibits[index] = Exhibit(one.image, one.anomaly_map, mask)
    return draw_gallery(exhibits, threshold.pixel)


def _report(
    product: str,
    revision: str,
    choice: Choice,
    scores: HoldoutScores,
    gallery: Gallery,
    remarks: tuple[str, ...],
    facts: dict[str, str],
    curves: tuple[Curve, ...],
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
            curves=curves,
        )
    )


def _metrics(holdout: Holdout) -> dict[str, float]:
    scores, is_defect = arrays(holdout.scored)
    if not is_defect.any():
        return {}
    return {"image_auroc": auroc(scores, is_defect), **pixel_figures(holdout.scored)}


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
    request: Request, scorer: Scorer, backbone: Backbone, train: Sequence[Path]
) -> dict[str, str]:
    crop = f"{request.crop[0]} x {request.crop[1]}"
    resize = f"{request.resize[0]} x {request.resize[1]}"
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
