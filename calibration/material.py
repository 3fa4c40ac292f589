"""What scorers learn from and are stopped by: prepared pictures, and which defects are shown.

A supervised method is shown some real defects of the hold-out folder. Those leave the hold-out set
for good: neither the threshold nor early stopping is judged on what was taught.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from calibration.dataset import PreparedImages, Sample, read_mask
from calibration.lazy import Lazily
from calibration.placing import place_defect
from calibration.scorers import Labelled, Scorer
from inspectd.core.errors import DatasetError
from inspectd.core.files import sha256_of
from inspectd.core.holdout import GOOD
from inspectd.core.images import image_size
from inspectd.core.preprocess import Preprocessing, prepare_mask
from inspectd.core.records import ImageArray, MaskArray
from inspectd.core.scope import Scope

SIMULATED = "simulated"
"""The kind of a defect that was drawn on a good picture."""


class PreparedSamples(Sequence[Labelled]):
    """Labelled pictures on disk that are read and prepared, with their masks, one at a time."""

    def __init__(self, samples: Sequence[Sample], preprocessing: Preprocessing) -> None:
        self.samples = samples
        self.images = PreparedImages([sample.path for sample in samples], preprocessing)

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> Labelled: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Labelled]: ...
    def __getitem__(self, index: int | slice) -> Labelled | Sequence[Labelled]:
        if isinstance(index, slice):
            return PreparedSamples(self.samples[index], self.images.preprocessing)
        sample = self.samples[index]
        mask = prepared_mask(sample, self.images.preprocessing)
        return Labelled(sample.name, sample.label, self.images[index], mask)


class SimulatedSamples(Sequence[Labelled]):
    """Good pictures, each as it is and with a simulated defect, drawn whenever it is looked at.

    As many defects as good parts: with many more, failing everything has the highest F1.
    """

    def __init__(self, good: Sequence[Labelled], scope: Scope, seed: int) -> None:
        self._good = good
        self._scope = scope
        self._seed = seed

    def __len__(self) -> int:
        return 2 * len(self._good)

    @overload
    def __getitem__(self, index: int) -> Labelled: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Labelled]: ...
    def __getitem__(self, index: int | slice) -> Labelled | Sequence[Labelled]:
        if isinstance(index, slice):
            return [self[at] for at in range(len(self))[index]]
        which, is_defect = divmod(range(len(self))[index], 2)
        return self.defect(which) if is_defect else self._good[which]

    def defect(self, index: int) -> Labelled:
        """The good picture at that place with its defect."""
        name = self._good[index].name.removeprefix(f"{GOOD}/")
        image, mask = place_defect(pictures_of(self._good), index, self._scope, self._seed)
        return Labelled(f"{SIMULATED}/{name}", SIMULATED, image, mask)


def pictures_of(labelled: Sequence[Labelled]) -> Sequence[ImageArray]:
    """The pictures of labelled ones."""
    return Lazily(len(labelled), lambda index: labelled[index].image)


def prepared_mask(sample: Sample, preprocessing: Preprocessing) -> MaskArray | None:
    """(H, W), 255 where defective; zeros for a good part; None where no mask was drawn."""
    if not sample.is_defect:
        return np.zeros(preprocessing.crop, dtype=np.uint8)
    mask = checked_mask(sample)
    return None if mask is None else prepare_mask(mask, preprocessing)


def checked_mask(sample: Sample) -> MaskArray | None:
    """(H, W) of the source picture, 255 where defective; None where no mask was drawn.

    Raises:
        DatasetError: it is of another size than its picture.
        ImageError: one of both can't be read.
    """
    if sample.mask is None:
        return None
    mask, size = read_mask(sample.mask), image_size(sample.path)
    if mask.shape != size:
        raise DatasetError(
            f"{sample.mask}: the mask is {mask.shape[0]} x {mask.shape[1]} (H x W), its picture "
            f"{sample.path} is {size[0]} x {size[1]}; draw it at the picture's size"
        )
    return mask


def draw_seen(
    samples: Sequence[Sample], limit: int, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Defects to learn from, and what is left to judge by.

    Only defects with a mask are drawn, by turns over their kinds, and at most half of them, so
    that the threshold keeps as many as are taught.
    """
    masked = [sample for sample in samples if sample.is_defect and sample.mask is not None]
    order = np.random.default_rng(seed).permutation(len(masked))
    shuffled = [masked[index] for index in order]
    kinds = [sample.label for sample in shuffled]
    turns = [kinds[:at].count(kind) for at, kind in enumerate(kinds)]
    by_turns = sorted(range(len(shuffled)), key=turns.__getitem__)
    seen = {shuffled[at].path for at in by_turns[: min(limit, len(masked) // 2)]}
    return (
        [sample for sample in samples if sample.path in seen],
        [sample for sample in samples if sample.path not in seen],
    )


def overlap_remark(train: Sequence[Path], samples: Sequence[Sample]) -> tuple[str, ...]:
    """Warns where a hold-out picture was learned from: its score is then too low."""
    known = {sha256_of(path) for path in train}
    twice = sum(sha256_of(sample.path) in known for sample in samples)
    if not twice:
        return ()
    return (
        f"Warning: {twice} picture(s) of the hold-out set are also among those learned from, so "
        "their scores are too low; remove them from one of the two.",
    )


def seen_remark(scorer: Scorer, seen: Sequence[Sample]) -> tuple[str, ...]:
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
