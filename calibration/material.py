"""What scorers learn from and are stopped by: prepared pictures, and which defects are shown.

A supervised method is shown some real defects of the hold-out folder. Those leave the hold-out set
for good: neither the threshold nor early stopping is judged on what was taught.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from calibration.dataset import Sample, read_mask
from calibration.scorers import Labelled
from calibration.simulate import simulate_defect
from inspectd.core.errors import DatasetError, ImageSizeError
from inspectd.core.images import read_image
from inspectd.core.preprocess import Preprocessing, prepare, prepare_mask
from inspectd.core.records import ImageArray, MaskArray

SIMULATED = "simulated"
"""The kind of a defect that was drawn on a good picture."""


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
    """Good pictures, each as it is and with a simulated defect; drawn when first looked at.

    As many defects as good parts: with many more, failing everything has the highest F1.
    """

    def __init__(self, samples: Sequence[Sample], preprocessing: Preprocessing, seed: int) -> None:
        self._good = PreparedSamples(samples, preprocessing)
        self._seed = seed
        self._drawn: list[Labelled] = []

    def __len__(self) -> int:
        return 2 * len(self._good)

    @overload
    def __getitem__(self, index: int) -> Labelled: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Labelled]: ...
    def __getitem__(self, index: int | slice) -> Labelled | Sequence[Labelled]:
        if not self._drawn:
            self._drawn = self._draw()
        return self._drawn[index]

    def _draw(self) -> list[Labelled]:
        rng = np.random.default_rng(self._seed)
        drawn = []
        for good, sample in zip(self._good, self._good.samples, strict=True):
            defect = simulate_defect(good.image, rng)
            name = f"{SIMULATED}/{sample.path.name}"
            drawn += [good, Labelled(name, SIMULATED, defect.image, defect.mask)]
        return drawn


def prepared_mask(sample: Sample, preprocessing: Preprocessing) -> MaskArray | None:
    """(H, W), 255 where defective; zeros for a good part; None where no mask was drawn."""
    if not sample.is_defect:
        return np.zeros(preprocessing.crop, dtype=np.uint8)
    return None if sample.mask is None else prepare_mask(read_mask(sample.mask), preprocessing)


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
