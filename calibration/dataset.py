"""Finds the pictures to learn from, to hold out and to evaluate on.

Only `find_labelled`, which ``inspectd evaluate`` calls, looks into a folder called ``test``; what
calibration calls refuses it, so that the figures of the test set stay honest.

Two layouts for good pictures: MVTec's (``DIR/train/good``) or a plain folder. A labelled folder
(for ``--holdout`` and ``evaluate``) has ``good/`` and one folder per kind of defect; masks, where
they exist, lie beside it in ``ground_truth/KIND/NAME_mask.png``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspectd.core.errors import DatasetError
from inspectd.core.images import SUFFIXES, list_images, read_image
from inspectd.core.records import ImageArray, MaskArray

GOOD = "good"
MASKS = "ground_truth"
TEST = "test"
MINIMUM_GOOD = 4
"""Good pictures below which nothing can be learned and held out."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture on disk."""

    path: Path
    label: str
    """``good`` or the kind of defect."""
    mask: Path | None = None

    @property
    def is_defect(self) -> bool:
        """Whether the picture shows a defective part."""
        return self.label != GOOD

    @property
    def name(self) -> str:
        """Kind and file name, unique in its folder."""
        return f"{self.label}/{self.path.name}"


def find_good(folder: Path) -> list[Path]:
    """Good pictures of a product, in name order.

    Raises:
        DatasetError: no folder, no picture, too few, or the test set.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; --images takes a folder of good pictures")
    _refuse_test(folder)
    for candidate in (folder / "train" / GOOD, folder / GOOD, folder):
        if candidate.is_dir() and (found := list_images(candidate)):
            break
    else:
        raise DatasetError(
            f"{folder}: no pictures in train/good or in the folder itself; put pictures of good "
            f"parts there ({', '.join(sorted(SUFFIXES))})"
        )
    if len(found) < MINIMUM_GOOD:
        raise DatasetError(
            f"{candidate}: {len(found)} good picture(s); at least {MINIMUM_GOOD} are needed to "
            "learn what varies between good parts, and 30 to 200 are usual"
        )
    return found


def find_holdout(folder: Path) -> list[Sample]:
    """Labelled pictures to find a threshold with: as `find_labelled`, but never of ``test/``.

    Raises:
        DatasetError: no folder, no good picture, no defective one, or the test set.
    """
    if folder.is_dir():
        _refuse_test(folder)
    return _labelled(folder)


def find_good_holdout(folder: Path) -> list[Sample]:
    """As `find_holdout`, for what needs good parts only: defects are taken where there are some.

    Raises:
        DatasetError: no folder, no good picture, or the test set.
    """
    if folder.is_dir():
        _refuse_test(folder)
    return _with_good(folder)


def find_defects(folder: Path) -> list[Sample]:
    """Defective pictures, with their masks where known; ``good/`` is left out and not needed.

    Raises:
        DatasetError: no folder, no defective picture, or the test set.
    """
    if folder.is_dir():
        _refuse_test(folder)
    samples = [sample for sample in _samples(folder) if sample.is_defect]
    if not samples:
        raise DatasetError(
            f"{folder}: no defective picture; make one folder per kind, and one for the masks, "
            "ground_truth/"
        )
    return samples


def find_labelled(folder: Path) -> list[Sample]:
    """Labelled pictures: ``good/`` and a folder per defect; ``test/`` inside is looked into.

    Raises:
        DatasetError: no folder, no good picture or no defective one.
    """
    return _labelled(folder / TEST if (folder / TEST / GOOD).is_dir() else folder)


def _labelled(root: Path) -> list[Sample]:
    samples = _with_good(root)
    if not any(sample.is_defect for sample in samples):
        raise DatasetError(f"{root}: no defective picture; make one folder per kind beside good/")
    return samples


def _with_good(root: Path) -> list[Sample]:
    samples = _samples(root)
    if not any(not sample.is_defect for sample in samples):
        raise DatasetError(f"{root}: no picture in good/; put pictures of good parts there")
    return samples


def _samples(root: Path) -> list[Sample]:
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; it needs good/ and a folder per defect")
    return [
        Sample(path, kind.name, _mask_of(root, kind.name, path))
        for kind in sorted(root.iterdir())
        if kind.is_dir() and kind.name not in (MASKS, TEST) and not kind.name.startswith(".")
        for path in list_images(kind)
    ]


def refuse_identical(images: Sequence[ImageArray]) -> None:
    """Refuses pictures that are all the same: their variation is what is learned.

    Raises:
        DatasetError: every picture equals the first.
    """
    first = images[0]
    if all(image.shape == first.shape and np.array_equal(image, first) for image in images):
        raise DatasetError("the good pictures are identical; take pictures of different parts")


def read_mask(path: Path) -> MaskArray:
    """(H, W) mask, 255 where defective, also of a file that writes 1 for defective.

    Raises:
        ImageError: the file can't be read.
    """
    mask = read_image(path)
    grey = mask if mask.ndim == 2 else mask.max(axis=2)  # (H, W)
    return np.where(grey > grey.max() / 2, 255, 0).astype(np.uint8)


def digest_of(paths: Sequence[Path]) -> str:
    """sha256 over the pictures' contents, whatever their names and order."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _refuse_test(folder: Path) -> None:
    place = folder.resolve()
    if place.name == TEST or (place.name == GOOD and place.parent.name == TEST):
        raise DatasetError(
            f"{folder}: test/ is kept for inspectd evaluate, else its figures would flatter; "
            "move some of its pictures to a folder of their own, such as holdout/"
        )


def _mask_of(root: Path, kind: str, picture: Path) -> Path | None:
    if kind == GOOD:
        return None
    for base in (root, root.parent):
        for stem in (f"{picture.stem}_mask", picture.stem):
            for suffix in (".png", picture.suffix):
                path = base / MASKS / kind / f"{stem}{suffix}"
                if path.is_file():
                    return path
    return None
