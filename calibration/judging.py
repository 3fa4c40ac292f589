"""The figures by which a training is stopped: of patch scores on the hold-out set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from calibration.metrics import auroc, has_defective_pixel, pixel_average_precision
from calibration.scorers import Labelled
from inspectd.core.records import MapArray, MaskArray

Values = TypeVar("Values", MapArray, MaskArray)

STRIDE = 2
"""Of the pixels that count, in each direction: the figure is compared with itself only."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of the hold-out pictures, without the pictures."""

    labels: npt.NDArray[np.bool_]
    """(N,) whether defective."""
    masks: tuple[MaskArray | None, ...]
    """(N,) of the model's input size, 255 where defective; None where it isn't known."""
    top_pixels: int = 1
    """A picture's score is the mean of so many highest pixels."""
    regions: tuple[MaskArray | None, ...] = ()
    """(N,) as the masks, non-zero where a picture is inspected; empty or None: everywhere."""

    @property
    def is_useful(self) -> bool:
        """Whether there are good parts and defective ones."""
        return bool(self.labels.any()) and not self.labels.all()

    def figures(self, maps: Iterable[MapArray]) -> Mapping[str, float]:
        """Image AUROC and, where defects have masks, pixel AP of (H, W) maps, in order.

        Only pixels that are inspected count.
        """
        peaks, thin = [], []
        for index, one in enumerate(maps):
            peaks.append(self._peak(self._inside(index, one)))
            thin.append(self._thin(index, one))
        found = {"image AUROC": auroc(np.array(peaks), self.labels)}
        known = [index for index, mask in enumerate(self.masks) if mask is not None]
        masks = [self._mask(index) for index in known]
        if has_defective_pixel(masks):
            found["pixel AP"] = pixel_average_precision([thin[index] for index in known], masks)
        return found

    def _peak(self, inside: MapArray) -> float:
        count = min(self.top_pixels, inside.size)
        return float(np.partition(inside, -count, axis=None)[-count:].mean())

    def _inside(self, index: int, values: Values) -> Values:
        """(M,) of an (H, W) array: what is inspected of that picture."""
        region = self.regions[index] if self.regions else None
        return values.ravel() if region is None else values[region > 0]

    def _thin(self, index: int, values: Values) -> Values:
        """(M,) of every `STRIDE`-th row and column."""
        region = self.regions[index] if self.regions else None
        few = values[::STRIDE, ::STRIDE]
        return few.ravel() if region is None else few[region[::STRIDE, ::STRIDE] > 0]

    def _mask(self, index: int) -> MaskArray | None:
        mask = self.masks[index]
        return self._thin(index, mask) if mask is not None and self.labels[index] else None


def judged(holdout: Sequence[Labelled], top_pixels: int = 1) -> Judged:
    """Labels and masks of the hold-out set; `top_pixels` as `Fitted` has it."""
    labels, masks, regions = [], [], []
    for one in holdout:
        labels.append(one.is_defect)
        masks.append(one.mask)
        regions.append(one.region)
    return Judged(np.array(labels, np.bool_), tuple(masks), top_pixels, tuple(regions))


def smoothed(patches: MapArray, size: tuple[int, int], sigma: float) -> MapArray:
    """(h, w) patch scores to the (H, W) map, as `calibration.graph` makes it."""
    full = cv2.resize(patches, size[::-1], interpolation=cv2.INTER_LINEAR)
    reach = 2 * int(4 * sigma + 0.5) + 1
    blurred = cv2.GaussianBlur(full, (reach, reach), sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, np.float32)
