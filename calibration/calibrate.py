"""Makes a product revision from pictures: fit, export, hold-out, threshold, golden set, bundle.

The threshold is found on scores of the exported graph in the runtime the line will use, so it
can't differ from what the line sees; torch only has to agree with it, which is checked here too.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import cv2
import numpy as np
import torch

import inspectd
from calibration.backbones import Backbone
from calibration.budget import Budget, Chosen, Trial, choose_within, latency_ms
from calibration.dataset import (
    PreparedImages,
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
    pixel_figures,
)
from calibration.gallery import Exhibit, Gallery, draw_gallery, worst, write_gallery
from calibration.graph import ScoringGraph, export_onnx
from calibration.holdout import (
    Holdout,
    compared,
    holdout_scores,
    real_holdout,
    simulated_beside,
    simulated_holdout,
)
from calibration.metrics import auroc
from calibration.policies import GOOD_ONLY, Choice, check, choose, require_support
from calibration.report import CASES, CalibrationReport, choose_cases, render_calibration_report
from calibration.rethreshold import revision_digest
from calibration.scorers import Fitted, Report, Scorer
from calibration.variants import PRECISIONS, make_variants
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
from inspectd.core.errors import BundleError, ConfigError
from inspectd.core.holdout import HoldoutScores, write_holdout
from inspectd.core.images import image_size
from inspectd.core.paths import cache_dir
from inspectd.core.preprocess import Preprocessing
from inspectd.core.records import Threshold
from inspectd.core.store import ProductStore
from inspectd.pipeline import verified
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
    precisions: tuple[str, ...] = PRECISIONS
    """In which the model is written beside fp32, where it reproduces fp32's verdicts."""
    budget: Budget | None = None
    """None takes the scorer as it is."""


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
    if request.budget is not None and request.policy.name in GOOD_ONLY:
        raise ConfigError(
            "--latency-budget weighs speed against F1, which needs defects; choose a policy that "
            "looks at them, or a form of the scorer by hand"
        )
    sizes = _source_sizes([*train_paths, *(sample.path for sample in samples)], report)
    preprocessing = Preprocessing(
        resize=request.resize,
        crop=request.crop,
        source_size=sizes[0] if len(sizes) == 1 else None,
    )
    train = PreparedImages(train_paths, preprocessing)
    refuse_identical([train[i] for i in np.unique(np.linspace(0, len(train) - 1, 16, dtype=int))])
    within: tuple[str, ...] = ()
    if request.budget is None:
        fitted = scorer.fit(train, backbone, request.seed, report)
    else:
        chosen = _within(request.budget, request, scorer, backbone, train, samples, report)
        scorer, fitted = chosen.scorer, chosen.fitted
        within = (chosen.remark(request.budget),)
    with store.staging(request.product) as folder:
        graph = ScoringGraph(backbone, fitted.head, request.crop)
        report("exporting", 0, 1)
        export_onnx(graph, folder / MODEL)
        report("exporting", 1, 1)
        target = Graph(folder / MODEL, request.crop)
        with open_runtime(target, request.runtime, request.threads) as runtime:
            holdout = _score_holdout(request, samples, preprocessing, runtime, report)
            beside = simulated_beside(holdout, request.policy, runtime, request.seed, report)
            runtime_name = runtime.name
        golden = choose_golden(holdout.scored)
        worst = check_parity(graph, golden, folder)
        scores = holdout_scores(holdout)
        choice = choose(request.policy, scores)
        threshold = choice.threshold
        variants = make_variants(
            target,
            request.precisions,
            train,
            holdout.scored,
            threshold.image,
            GOLDEN_TOLERANCE,
            request.threads,
            report,
        )
        report("checking and writing the revision", 0, 1)
        comparison, figures = compared(beside, threshold.image, holdout)
        facts = {
            **_facts(request, scorer, backbone, train_paths),
            **fitted.facts,
            **comparison,
            **variants.facts,
            "runtime of the threshold": runtime_name,
            "torch against runtime": f"at most {worst:.1e} apart in score",
            "calibrated in": f"{monotonic() - started:.0f} s",
        }
        revision = store.next_revision(
            request.product, revision_digest(sha256_of(folder / MODEL), threshold, preprocessing)
        )
        remarks = (*choice.remarks, *within, *_overlap_remark(train_paths, samples))
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
            precisions=variants.parts,
            threshold=ThresholdPart.model_validate(asdict(threshold)),
            policy=choice.policy,
            remarks=remarks,
            metrics={**_metrics(holdout), **figures},
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
    with suppress(OSError):  # without a record the daemon says how to make one
        for name, parity in variants.proven:
            verified.write(cache_dir(), bundle.manifest.files[MODEL], name, parity)
    return bundle


def _within(
    budget: Budget,
    request: Request,
    scorer: Scorer,
    backbone: Backbone,
    train: PreparedImages,
    samples: list[Sample],
    report: Report,
) -> Chosen:
    """The most exact variant of a scorer that keeps to the budget."""
    image = train[0]

    def fit(candidate: Scorer) -> Fitted:
        return candidate.fit(train, backbone, request.seed, _prefixed(str(candidate), report))

    def measure(candidate: Scorer, fitted: Fitted) -> Iterator[Trial]:
        said = _prefixed(str(candidate), report)
        with TemporaryDirectory() as folder:
            target = Graph(Path(folder) / MODEL, request.crop)
            export_onnx(ScoringGraph(backbone, fitted.head, request.crop), target.path)
            with open_runtime(target, request.runtime, request.threads) as runtime:
                holdout = _score_holdout(request, samples, train.preprocessing, runtime, said)
                threshold = choose(request.policy, holdout_scores(holdout)).threshold
                name = runtime.name.partition("-")[0]
                yield Trial(str(candidate), name, latency_ms(runtime, image), threshold.f1)
            made = make_variants(
                target,
                [one for one in request.precisions if one == "int8"],
                train,
                holdout.scored,
                threshold.image,
                GOLDEN_TOLERANCE,
                request.threads,
                said,
            )
            if "int8" not in made.parts:
                return
            f1 = made.f1["int8"]
            slim = replace(target, precisions={"int8": target.path.with_name("model.int8.onnx")})
            name = made.parts["int8"].runtime.partition("-")[0] + "-int8"
            with open_runtime(slim, name, request.threads) as runtime:
                yield Trial(str(candidate), name, latency_ms(runtime, image), f1)

    return choose_within(budget, scorer, fit, measure)


def _prefixed(what: str, report: Report) -> Report:
    return lambda stage, done, total: report(f"{what}: {stage}", done, total)


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


def _score_holdout(
    request: Request,
    samples: list[Sample],
    preprocessing: Preprocessing,
    runtime: Runtime,
    report: Report,
) -> Holdout:
    if request.holdout is None:
        return simulated_holdout(samples, preprocessing, runtime, request.seed, report)
    return real_holdout(samples, preprocessing, runtime, report)


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
