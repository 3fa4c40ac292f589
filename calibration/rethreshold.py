"""Another threshold for a product that is calibrated already: a new revision of the same model.

Model, golden pictures and hold-out scores are the parent's, shared on disk where the file system
can; manifest and report are new. Nothing is scored, so it takes about a second and needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from calibration.gallery import read_gallery
from calibration.policies import Choice
from calibration.report import CalibrationReport, render_calibration_report
from inspectd.core.bundle import (
    HOLDOUT,
    MODEL,
    REPORT,
    SCHEMA_VERSION,
    Bundle,
    Manifest,
    ThresholdPart,
    sha256_of,
    write_manifest,
)
from inspectd.core.holdout import SIMULATED, HoldoutScores, write_holdout
from inspectd.core.preprocess import Preprocessing
from inspectd.core.records import Threshold
from inspectd.core.scope import ROI, ScopePart, scope_facts
from inspectd.core.store import ProductStore

KEPT = ("learned from", "region of interest", "minimum area")
"""In the remarks of calibration that are true whatever the threshold."""


def rethreshold(
    store: ProductStore, parent: Bundle, choice: Choice, holdout: HoldoutScores
) -> Bundle:
    """Makes a revision with the parent's model and another threshold; activates nothing.

    Raises:
        ProductError, BundleError: the store can't be written, or the parent is damaged; nothing
            is changed.
    """
    manifest = parent.manifest
    with store.staging(manifest.product) as folder:
        for name in manifest.files:
            if name not in (REPORT, HOLDOUT):
                _share(parent.path / name, folder / name)
        if manifest.schema_version == 1:
            write_holdout(folder, holdout)
        else:
            _share(parent.path / HOLDOUT, folder / HOLDOUT)
        digest = revision_digest(
            manifest.files[MODEL],
            choice.threshold,
            manifest.preprocessing,
            manifest.scope,
            manifest.files.get(ROI, ""),
        )
        revision = store.next_revision(manifest.product, digest)
        remarks = (*choice.remarks, *(line for line in manifest.remarks if is_kept(line)))
        page = _page(parent, revision, choice, holdout, remarks)
        (folder / REPORT).write_text(page, encoding="utf-8")
        known = {name: sha for name, sha in manifest.files.items() if (folder / name).is_file()}
        fresh = {name: sha256_of(folder / name) for name in (REPORT, HOLDOUT)}
        update = {
            "schema_version": SCHEMA_VERSION,
            "revision": revision,
            "created_at": datetime.now(UTC),
            "threshold": ThresholdPart.model_validate(asdict(choice.threshold)),
            "policy": choice.policy,
            "parent": manifest.revision,
            "remarks": remarks,
            "precisions": {
                name: part.model_copy(update={"near": ()})  # found at the parent's threshold
                for name, part in manifest.precisions.items()
            },
            "metrics": _without_comparison(manifest.metrics),
            "files": {**known, **fresh},
        }
        write_manifest(folder, manifest.model_copy(update=update))
        return store.commit(manifest.product, folder, revision)


def is_kept(remark: str) -> bool:
    """Whether a remark is true of a revision with another threshold too."""
    return any(words in remark for words in KEPT)


def revision_digest(
    model: str,
    threshold: Threshold,
    preprocessing: Preprocessing,
    scope: ScopePart,
    roi: str,
) -> str:
    """Hash of what decides verdicts: the same pictures, seed and settings give the same.

    Args:
        model: sha256 of the model's file.
        threshold: with all it rests on.
        preprocessing: of the model's input.
        scope: what of a picture counts.
        roi: sha256 of the region's file; empty without one.
    """
    settings = [part.model_dump(mode="json") for part in (preprocessing, scope)]
    text = json.dumps([asdict(threshold), *settings], sort_keys=True)
    return hashlib.sha256((model + roi + text).encode()).hexdigest()


def _without_comparison(metrics: Mapping[str, float]) -> dict[str, float]:
    """What was measured of a threshold from simulated defects was of the parent's policy."""
    return {name: value for name, value in metrics.items() if not name.startswith(SIMULATED)}


def _share(source: Path, target: Path) -> None:
    """A second name for an immutable file; a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _page(
    parent: Bundle,
    revision: str,
    choice: Choice,
    holdout: HoldoutScores,
    remarks: tuple[str, ...],
) -> str:
    return render_calibration_report(
        CalibrationReport(
            product=parent.manifest.product,
            revision=revision,
            created_at=datetime.now(UTC),
            threshold=choice.threshold,
            scores=holdout.scores,
            labels=holdout.labels,
            names=holdout.names,
            gallery=read_gallery(parent),
            policy=choice.policy,
            remarks=remarks,
            facts=_facts(parent.manifest),
            parent=parent.manifest.revision,
        )
    )


def _facts(manifest: Manifest) -> dict[str, str]:
    recipe, crop = manifest.recipe, manifest.preprocessing.crop
    return {
        "model of revision": f"{manifest.revision} ({manifest.created_at:%Y-%m-%d %H:%M} UTC)",
        "scorer": recipe.scorer,
        "backbone": f"{recipe.backbone} ({recipe.backbone_sha256[:12]}…)",
        "pictures learned from": str(manifest.dataset.n_train),
        "input (H x W)": f"{crop[0]} x {crop[1]}",
        **scope_facts(manifest.scope, manifest.preprocessing),
        "seed": str(recipe.seed),
        **manifest.tools,
    }
