"""Seen defects from a folder: one folder per kind, masks in ``ground_truth/``."""

from __future__ import annotations

from pathlib import Path

from calibration.anomalies.records import SeenDefect
from calibration.dataset import Sample, find_defects, read_mask
from inspectd.core.errors import DatasetError, ImageSizeError
from inspectd.core.images import read_image
from inspectd.core.preprocess import Preprocessing, prepare, prepare_mask


def read_seen(folder: Path, preprocessing: Preprocessing) -> list[SeenDefect]:
    """All defects of a folder whose mask is known, in name order.

    Raises:
        DatasetError: no folder, no defect, none with a mask that the model would see, a mask of
            another size than its picture, or the test set.
        ImageError: a picture or mask can't be read.
    """
    return prepare_seen(find_defects(folder), preprocessing, str(folder))


def prepare_seen(
    samples: list[Sample], preprocessing: Preprocessing, place: str
) -> list[SeenDefect]:
    """Those of the samples that have a mask, at the model's size.

    A defect outside the crop is left out.

    Args:
        samples: of defective parts, with or without masks.
        preprocessing: the one of the good pictures.
        place: where they are from, for messages.

    Raises:
        DatasetError, ImageError: see `read_seen`.
    """
    prepared = [_prepared(sample, sample.mask, preprocessing) for sample in samples if sample.mask]
    seen = [defect for defect in prepared if defect is not None]
    if not seen:
        raise DatasetError(
            f"{place}: no defect has a mask with something marked; draw some as "
            "ground_truth/KIND/NAME_mask.png, white where defective"
        )
    return seen


def _prepared(sample: Sample, mask: Path, preprocessing: Preprocessing) -> SeenDefect | None:
    whole = SeenDefect(read_image(sample.path), read_mask(mask), str(mask))
    try:
        image = prepare(whole.image, preprocessing)
    except ImageSizeError as error:
        raise DatasetError(f"{sample.path}: {error}") from error
    inside = prepare_mask(whole.mask, preprocessing)
    return SeenDefect(image, inside, sample.name) if inside.any() else None
