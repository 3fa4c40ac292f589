"""Draws anomalies into good pictures, after section 3.4 and appendix A.1 of PRN.

"Prototypical Residual Networks for Anomaly Detection and Localization" (Zhang et al., CVPR 2023).
All three kinds end in `blend` (equations 4 and 6) and differ in the source A and the region M:

- extended: A is a seen defect in other colours, turned, sheared and moved (figure 5), M where it
  overlaps a target area;
- heterologous: A is a texture in other colours, M noise within a target area;
- homologous: A is another good picture in other colours, cut into 8 x 8 cells and shuffled, M as
  before.

Three departures. The paper binarises noise at a fixed level; here the level is a quantile inside
the target area, so that M is never empty and its size is known. The mask marks only what visibly
changed: a defect that can't be seen teaches nothing and spoils a threshold. And a texture on a
grey picture is grey: a grey camera sees no colour, so a coloured defect would be too easy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from calibration.anomalies.areas import foreground, target_area
from calibration.anomalies.augment import as_grey, augment_colours, is_grey, moved, shuffled
from calibration.anomalies.blend import blend, spot, visible_change
from calibration.anomalies.noise import perlin
from calibration.anomalies.records import TRAINING, Kind, SeenDefect, SimulatedDefect, Style
from calibration.anomalies.textures import ProceduralTextures, TextureSource
from inspectd.core.errors import DatasetError
from inspectd.core.records import ImageArray, MaskArray

ATTEMPTS = 12
"""Draws of one sample until something can be seen; then a plain spot is the defect."""
LEAST_PIXELS = 16
"""Fewer visible pixels are no defect."""
LEAST_SHARE = 0.3
"""Share of the region that must be visible."""


@dataclass(frozen=True, slots=True)
class AnomalyGenerator:
    """Makes any number of defective pictures; sample `index` is the same whenever it is asked for.

    A sample depends on the seed, its index and its kind only, not on the samples before it: workers
    may share the indexes among them as they like. Nothing in it changes, so it can be copied to
    other processes; there ``cv2.setNumThreads(1)`` pays, for the pictures are small.
    """

    good: Sequence[ImageArray]
    """Good pictures, (H, W, 3) RGB each; all of one size. They are read again for every sample:
    keep them in memory where speed matters."""
    seen: Sequence[SeenDefect] = ()
    """For extended anomalies."""
    textures: TextureSource = field(default_factory=ProceduralTextures)
    """For heterologous anomalies."""
    seed: int = 0
    """Not negative."""
    style: Style = TRAINING
    """How large and plain the defects are."""
    regions: Sequence[MaskArray] | None = None
    """Of each good picture, (H, W), non-zero where a defect may lie; None: everywhere."""

    def __post_init__(self) -> None:
        if not len(self.good):
            raise DatasetError("anomalies are drawn into good pictures; there is none")

    def sample(self, index: int, kind: Kind) -> SimulatedDefect:
        """Defect `index` of a kind, on a good picture drawn at random.

        Raises:
            DatasetError: an extended anomaly is asked for and no defect was seen.
        """
        rng = self._rng(index, kind)
        return self._draw(int(rng.integers(len(self.good))), kind, rng)

    def sample_on(self, good: int, index: int, kind: Kind) -> SimulatedDefect:
        """As `sample`, on the good picture at that place.

        Raises:
            DatasetError: an extended anomaly is asked for and no defect was seen.
        """
        return self._draw(good, kind, self._rng(index, kind))

    def _rng(self, index: int, kind: Kind) -> np.random.Generator:
        return np.random.default_rng((self.seed, index, list(Kind).index(kind)))

    def _draw(self, good: int, kind: Kind, rng: np.random.Generator) -> SimulatedDefect:
        if kind is Kind.EXTENDED and not self.seen:
            raise DatasetError(
                "extended anomalies are made from seen defects; give pictures of defects with "
                "masks, or leave this kind out"
            )
        image = self.good[good]
        part, style = self._part(good, image), self.style
        sizes = style.extended_area if kind is Kind.EXTENDED else style.area
        for _ in range(ATTEMPTS):
            area, place = target_area(part, sizes, rng)
            if kind is Kind.EXTENDED:
                source, region = self._extended(image, area, place, rng)
            else:
                region = self._noisy(area, rng)
                source = self._source(kind, image, rng)
            changed = self._blended(image, source, region, kind, rng)
            mask = visible_change(image, changed, region, style.visible)
            visible = cv2.countNonZero(mask)
            if visible >= max(LEAST_PIXELS, LEAST_SHARE * cv2.countNonZero(region)):
                return SimulatedDefect(changed, mask, kind, good)
        return SimulatedDefect(*spot(image, place), kind, good, is_fallback=True)

    def _part(self, good: int, image: ImageArray) -> npt.NDArray[np.bool_]:
        """(H, W): where the part is and a defect may lie; where that is nowhere, what may."""
        part = foreground(image)
        if self.regions is None:
            return part
        region = self.regions[good] > 0
        return part & region if (part & region).any() else region

    def _blended(
        self,
        image: ImageArray,
        source: ImageArray,
        region: MaskArray,
        kind: Kind,
        rng: np.random.Generator,
    ) -> ImageArray:
        style = self.style
        limits = style.extended_opacity if kind is Kind.EXTENDED else style.opacity
        return blend(image, source, region, rng.uniform(*limits), style.softness)

    def _extended(
        self, image: ImageArray, area: MaskArray, place: tuple[int, int], rng: np.random.Generator
    ) -> tuple[ImageArray, MaskArray]:
        """A seen defect with a pixel of it at `place`, and its region R clipped by the area."""
        defect = self.seen[int(rng.integers(len(self.seen)))]
        marked = np.flatnonzero(defect.mask)
        pivot = divmod(int(marked[rng.integers(marked.size)]), defect.mask.shape[1])
        map_ = moved(pivot, place, rng)
        size = (image.shape[1], image.shape[0])  # OpenCV says (W, H)
        coloured = augment_colours(defect.image, rng)
        source = cv2.warpAffine(coloured, map_, size, borderMode=cv2.BORDER_REFLECT_101)
        region = cv2.warpAffine(
            (defect.mask > 0).astype(np.uint8), map_, size, flags=cv2.INTER_NEAREST
        )
        return np.asarray(source, np.uint8), np.asarray(region, np.uint8) & area

    def _noisy(self, area: MaskArray, rng: np.random.Generator) -> MaskArray:
        """(H, W) of 0 and 1: the highest of the noise within the target area."""
        low, high = self.style.cells
        cells = (2 ** int(rng.integers(low, high + 1)), 2 ** int(rng.integers(low, high + 1)))
        noise = perlin((area.shape[0], area.shape[1]), cells, rng)
        level = np.quantile(noise[area > 0], 1 - rng.uniform(*self.style.filled))
        return np.asarray((noise >= level) & (area > 0), np.uint8)

    def _source(self, kind: Kind, image: ImageArray, rng: np.random.Generator) -> ImageArray:
        if kind is Kind.HETEROLOGOUS:
            texture = self.textures.draw(image, rng)
            return augment_colours(as_grey(texture) if is_grey(image) else texture, rng)
        other = self.good[int(rng.integers(len(self.good)))]
        return shuffled(augment_colours(other, rng), rng)
