"""Makes a product revision from pictures: fit, export, hold-out, threshold, golden set, bundle.

The threshold is found on scores of the exported graph in the runtime the line will use, so it
can't differ from what the line sees; torch only has to agree with it, which is checked here too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import numpy as np

from calibration.backbones import Backbone
from calibration.budget import Budget
from calibration.checkpoints import forget_checkpoint, read_checkpoint
from calibration.dataset import (
    PreparedImages,
    Sample,
    digest_of,
    find_good,
    find_good_holdout,
    find_holdout,
    refuse_identical,
)
from calibration.evaluate import arrays, kept_roi, pixel_figures
from calibration.facts import recipe_facts, tools
from calibration.framing import Framing, framed, preprocessing_of, scope_remarks
from calibration.gallery import Exhibit, Gallery, draw_gallery, worst, write_gallery
from calibration.golden import (
    GOLDEN_EACH,
    GOLDEN_TILED,
    GOLDEN_TOLERANCE,
    check_parity,
    choose_golden,
    write_golden,
)
from calibration.graph import ScoringGraph, export_onnx
from calibration.holdout import (
    Holdout,
    compared,
    holdout_scores,
    score_holdout,
    simulated_beside,
)
from calibration.large import inputs_of, labelled_inputs_of, regions_of, shrunk
from calibration.material import (
    PreparedSamples,
    SimulatedSamples,
    checked_mask,
    draw_seen,
    overlap_remark,
    seen_remark,
)
from calibration.metrics import auroc
from calibration.policies import GOOD_ONLY, Choice, check, choose, require_support
from calibration.report import CASES, CalibrationReport, choose_cases, render_calibration_report
from calibration.rethreshold import revision_digest
from calibration.scorers import Curve, Labelled, Material, Report, Scorer
from calibration.training import device_named
from calibration.variants import PRECISIONS, make_variants
from calibration.within import Setting, fit_within
from inspectd.core.bundle import (
    MODEL,
    REPORT,
    SCHEMA_VERSION,
    Bundle,
    DatasetPart,
    Graph,
    Manifest,
    PolicyPart,
    RecipePart,
    ThresholdPart,
    sha256_of,
    write_manifest,
)
from inspectd.core.errors import ConfigError
from inspectd.core.holdout import HoldoutScores, write_holdout
from inspectd.core.images import image_size, read_image
from inspectd.core.paths import cache_dir
from inspectd.core.preprocess import Preprocessing
from inspectd.core.records import MaskArray, Threshold
from inspectd.core.scope import Scope, ScopePart, scope_facts, scope_of, write_roi
from inspectd.core.store import ProductStore
from inspectd.pipeline import verified
from inspectd.runtimes import open_runtime

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
    precisions: tuple[str, ...] = PRECISIONS
    """In which the model is written beside fp32, where it reproduces fp32's verdicts."""
    latency: Budget | None = None
    """None takes the scorer as it is."""
    checkpoints: Path | None = None
    """Folder for those of a training; None: none are written."""
    is_resumed: bool = False
    """Continues the interrupted training of the same request."""
    budget_s: float | None = None
    """Seconds that a training may take; None: as long as it is planned."""
    device: str = "auto"
    """Where a training computes: `auto`, `cpu` or `cuda`."""


def calibrate(
    request: Request, scorer: Scorer, backbone: Backbone, store: ProductStore, report: Report
) -> Bundle:
    """Makes a revision, activates it and returns it; on any failure the store is as before.

    Raises:
        DatasetError: the pictures can't serve; the message says why.
        ImageError: a picture can't be read.
        BundleError: the exported graph disagrees with torch.
        RuntimeUnavailableError: no runtime to find the threshold with.
        ConfigError: the threshold's policy or an option can't be meant, or nothing keeps to the
            latency budget.
    """
    check(request.policy)
    _require_trained(request, scorer)
    started = monotonic()
    train_paths, held_back = split_good(find_good(request.images), request)
    found = _holdout_samples(request, held_back)
    seen, samples = draw_seen(found, scorer.seen_limit, request.seed)
    _require_support(request, samples)
    if request.latency is not None and request.policy.name in GOOD_ONLY:
        raise ConfigError(
            "--latency-budget weighs speed against F1, which needs defects; choose a policy that "
            "looks at them, or a form of the scorer by hand"
        )
    sizes = _source_sizes([*train_paths, *(sample.path for sample in found)], report)
    for sample in found:
        checked_mask(sample)
        if scorer.is_trained:  # a damaged picture is better known now than after hours
            read_image(sample.path)
    preprocessing = preprocessing_of(request.resize, request.crop, request.framing.tiles, sizes)
    counts, roi = framed(request.framing, preprocessing, sizes)
    scope = scope_of(counts, preprocessing, roi)
    good = PreparedImages(train_paths, preprocessing)
    some = np.unique(np.linspace(0, len(good) - 1, 16, dtype=int))
    refuse_identical([shrunk(good[index]) for index in some])
    train = inputs_of(good, preprocessing.crop, scope, request.seed)
    basis = "simulated" if request.holdout is None else "real"
    pictures = _holdout_pictures(request, samples, preprocessing, scope)
    device = device_named(request.device)
    material = Material(
        good=train,
        regions=regions_of(train, scope),
        holdout=labelled_inputs_of(pictures, scope, request.seed),
        seen=labelled_inputs_of(PreparedSamples(seen, preprocessing), scope, request.seed),
        folder=request.checkpoints,
        request=_digest(
            request,
            scorer,
            backbone,
            device,
            _framing_digest(preprocessing, counts, roi),
            (train_paths, seen, samples),
        ),
        is_resumed=request.is_resumed,
        budget_s=request.budget_s,
        device=device,
    )
    _require_resumable(material)
    within: tuple[str, ...] = ()
    if request.latency is None:
        fitted = scorer.fit(material, backbone, request.seed, report)
    else:
        setting = Setting(
            material,
            pictures,
            basis,
            scope,
            backbone,
            request.seed,
            request.policy,
            request.runtime,
            request.threads,
            request.precisions,
        )
        chosen = fit_within(request.latency, scorer, setting, report)
        scorer, fitted = chosen.scorer, chosen.fitted
        within = (chosen.remark(request.latency),)
    counts = counts.model_copy(update={"top_pixels": fitted.top_pixels})
    scope = scope_of(counts, preprocessing, roi)
    size = preprocessing.input_size
    with store.staging(request.product) as folder:
        graph = ScoringGraph(backbone, fitted.head, size, fitted.sigma, fitted.top_pixels)
        report("exporting", 0, 1)
        export_onnx(graph, folder / MODEL)
        report("exporting", 1, 1)
        target = Graph(folder / MODEL, size)
        with open_runtime(target, request.runtime, request.threads) as runtime:
            holdout = score_holdout(pictures, basis, scope, runtime, report)
            beside = simulated_beside(
                holdout, pictures, request.policy, runtime, request.seed, report
            )
            runtime_name = runtime.name
        golden = choose_golden(holdout.scored, GOLDEN_EACH if scope.tiles is None else GOLDEN_TILED)
        worst = check_parity(graph, golden, folder, scope)
        scores = holdout_scores(holdout, fitted.highest)
        choice = choose(request.policy, scores)
        threshold = choice.threshold
        variants = make_variants(
            target,
            request.precisions,
            train,
            holdout,
            pictures,
            threshold.image,
            GOLDEN_TOLERANCE,
            request.threads,
            report,
        )
        report("checking and writing the revision", 0, 1)
        comparison, figures = compared(beside, threshold.image, holdout)
        facts = {
            **recipe_facts(scorer, backbone, preprocessing, len(train_paths), request.seed),
            **scope_facts(counts, preprocessing),
            **fitted.facts,
            **comparison,
            **variants.facts,
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
            *within,
            *overlap_remark([*train_paths, *(one.path for one in seen)], samples),
            *seen_remark(scorer, seen),
            *scope_remarks(holdout.scored, scope, counts),
            *fitted.remarks,
        )
        write_holdout(folder, scores)
        gallery = _gallery(holdout, threshold)
        write_gallery(folder, gallery)
        goldens = write_golden(folder, golden)
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
            scope=counts,
            precisions=variants.parts,
            threshold=ThresholdPart.model_validate(asdict(threshold)),
            policy=choice.policy,
            remarks=remarks,
            metrics={**_metrics(holdout), **figures},
            dataset=_dataset(train_paths, holdout, sizes),
            golden=goldens,
            golden_tolerance=GOLDEN_TOLERANCE,
            tools={**tools(), "runtime": runtime_name},
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
    request: Request, samples: list[Sample], preprocessing: Preprocessing, scope: Scope
) -> Sequence[Labelled]:
    if request.holdout is None:
        return SimulatedSamples(PreparedSamples(samples, preprocessing), scope, request.seed)
    return PreparedSamples(samples, preprocessing)


def _require_trained(request: Request, scorer: Scorer) -> None:
    """Refuses what is meant for a training where there is none."""
    asked = {
        "--budget": request.budget_s is not None,
        "--device": request.device == "cuda",
        "--resume": request.is_resumed,
    }
    unheard = ", ".join(name for name, is_asked in asked.items() if is_asked)
    if unheard and not scorer.is_trained:
        raise ConfigError(
            f"{unheard}: {scorer.name} is not trained, it learns in one pass on the CPU; leave it "
            "out, or choose a --scorer that is trained: mpfnet or prn"
        )


def _require_resumable(material: Material) -> None:
    """Refuses to go on from what isn't there, before features are extracted."""
    if material.is_resumed and material.folder is not None:
        read_checkpoint(material.folder, material.request)


def _framing_digest(preprocessing: Preprocessing, counts: ScopePart, roi: MaskArray | None) -> str:
    """Hash of what the model is shown."""
    parts = [preprocessing.model_dump_json(), counts.model_dump_json()]
    region = b"" if roi is None else roi.tobytes()
    return hashlib.sha256("".join(parts).encode() + region).hexdigest()


def _digest(
    request: Request,
    scorer: Scorer,
    backbone: Backbone,
    device: str,
    framing: str,
    pictures: tuple[list[Path], list[Sample], list[Sample]],
) -> str:
    """Hash of all that decides what is learned: good pictures, defects shown, hold-out set.

    The device too, as schedules and the last bits differ, and versions: another one may learn
    otherwise, or another network.
    """
    good, seen, holdout = pictures
    decisive = [
        scorer.name,
        scorer.options(),
        backbone.sha256,
        request.seed,
        device,
        tools(),
        framing,
        digest_of(good),
        *(_labelled_digest(samples) for samples in (seen, holdout)),
    ]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _labelled_digest(samples: Sequence[Sample]) -> list[list[str]]:
    """Hashes of labelled pictures with their masks: a mask that was redrawn is another lesson."""
    rows = [
        [sample.label, *(digest_of([path]) for path in (sample.path, sample.mask) if path)]
        for sample in samples
    ]
    return sorted(rows)


def _source_sizes(paths: Sequence[Path], report: Report) -> list[tuple[int, int]]:
    """Distinct (H, W) of the pictures, most frequent first."""
    counts: dict[tuple[int, int], int] = {}
    for index, path in enumerate(paths):
        size = image_size(path)
        counts[size] = counts.get(size, 0) + 1
        report("checking pictures", index + 1, len(paths))
    return sorted(counts, key=lambda size: -counts[size])


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
