"""The hold-out scores a threshold was found on, kept in the bundle: ``holdout.json``.

Enough to find another threshold by another policy, without a picture and without the model.
``inspectd threshold`` reads it; the line never does. Like every file of a bundle it is hashed in
the manifest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from inspectd.core.bundle import HOLDOUT, Bundle
from inspectd.core.errors import BundleError

GOOD = "good"
"""The label of a part without a defect; every other label is a kind of defect."""
SIMULATED = "simulated_"
"""What the names of those figures in a manifest's metrics begin with that compare a threshold from
simulated defects with the one from real ones."""
REMEDY = "; calibrate the product anew to have them stored"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class HoldoutPicture(_Part):
    """One picture of the hold-out set."""

    name: str
    label: str
    """`good` or the kind of defect."""
    origin: Literal["real", "simulated"] = "real"
    """Whether its defect is real; of a good part always `real`."""
    score: float
    """Of the whole picture, not clamped."""
    peak: float | None = None
    """Highest value of the anomaly map, in the pixel threshold's units; None where unknown."""


class HoldoutScores(_Part):
    """What ``holdout.json`` says."""

    version: Literal[1] = 1
    pictures: tuple[HoldoutPicture, ...]
    pixel_f1: float | None
    """The pixel threshold with the highest F1 over all pixels with a mask; None without masks.
    What is a defective pixel doesn't depend on what an escape costs, so policies share it."""
    highest: float | None = None
    """No part can score above it; None where there is no bound, or none is known."""

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """(N,)."""
        return np.array([picture.score for picture in self.pictures], np.float64)

    @property
    def is_defect(self) -> npt.NDArray[np.bool_]:
        """(N,)."""
        return np.array([picture.label != GOOD for picture in self.pictures], np.bool_)

    @property
    def labels(self) -> tuple[str, ...]:
        """(N,) `good` or the kind of defect."""
        return tuple(picture.label for picture in self.pictures)

    @property
    def names(self) -> tuple[str, ...]:
        """(N,)."""
        return tuple(picture.name for picture in self.pictures)

    @property
    def good_peaks(self) -> npt.NDArray[np.float64] | None:
        """(M,) peaks of the good parts, or None where one isn't known."""
        peaks = [picture.peak for picture in self.pictures if picture.label == GOOD]
        known = [peak for peak in peaks if peak is not None]
        return np.array(known, np.float64) if len(known) == len(peaks) else None

    @property
    def basis(self) -> str:
        """`simulated` where a defect is, else `real`."""
        is_simulated = any(picture.origin == "simulated" for picture in self.pictures)
        return "simulated" if is_simulated else "real"


def write_holdout(folder: Path, holdout: HoldoutScores) -> None:
    """Writes ``holdout.json`` into a bundle that is being made."""
    (folder / HOLDOUT).write_text(holdout.model_dump_json(indent=0), encoding="utf-8")


def read_holdout(bundle: Bundle) -> HoldoutScores:
    """The stored hold-out scores of a revision, also of one made by manifest version 1.

    Raises:
        BundleError: none are stored, or they aren't valid; the remedy is named.
    """
    path, manifest = bundle.path, bundle.manifest
    if HOLDOUT not in manifest.files:
        raise BundleError(path, f"has no {HOLDOUT}, so its hold-out scores aren't known{REMEDY}")
    try:
        text = (path / HOLDOUT).read_text(encoding="utf-8")
        content = json.loads(text)
        if isinstance(content, list):
            content = _upgraded(content, manifest.threshold.basis, manifest.threshold.pixel)
        found = HoldoutScores.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = f"{HOLDOUT} is not valid at {where}: {first['msg']}{REMEDY}"
        raise BundleError(path, problem) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(path, f"{HOLDOUT} can't be read ({error}){REMEDY}") from error
    if not found.pictures:
        raise BundleError(path, f"{HOLDOUT} holds no score{REMEDY}")
    return found


def _upgraded(rows: list[Any], basis: str, pixel: float | None) -> dict[str, Any]:
    """The plain list of rows that bundles of manifest version 1 have."""
    pictures = [
        {**row, "origin": "real" if row.get("label") == GOOD else basis}
        if isinstance(row, dict)
        else row
        for row in rows
    ]
    return {"pictures": pictures, "pixel_f1": pixel}
