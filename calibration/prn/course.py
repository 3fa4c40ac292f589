"""PRN's training for `calibration.training`: batches, loss, hold-out figures, averaged weights.

What is judged and kept are running averages of the weights, not the weights of the last step. The
paper trains for 700 epochs at a low rate; averages make a high rate usable, and, unlike a falling
rate, they need not know when the training will end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from calibration.averaging import Averaged
from calibration.features import HalfArray
from calibration.judging import judged
from calibration.prn.examples import Anomalies, Frozen, Shown
from calibration.prn.losses import LAMBDA, focal_loss, smooth_loss
from calibration.prn.network import PRN, residuals_of
from calibration.prototypes import Prototypes
from calibration.scorers import Labelled
from calibration.training import is_mixed
from inspectd.core.records import ImageArray, MapArray, MaskArray

JUDGED = 64
"""Hold-out pictures that are looked at during training, evenly many of good and defective."""


class PRNCourse:
    """A `Course`: see `calibration.training`."""

    def __init__(
        self,
        model: Averaged[PRN],
        optimiser: torch.optim.Optimizer,
        prototypes: Sequence[Prototypes],
        frozen: Frozen,
        normal: Sequence[HalfArray],
        anomalies: Anomalies,
        holdout: Sequence[Labelled],
        top_pixels: int,
    ) -> None:
        """Takes the (N, C, h, w) features of good pictures as `normal`."""
        self.model = model
        self.optimisers = {"adam": optimiser}
        self.prototypes, self.top_pixels = prototypes, top_pixels
        self._frozen = frozen
        self._normal, self._anomalies = normal, anomalies
        self._holdout = evenly(holdout)
        self._judged = judged(self._holdout, top_pixels)

    def losses(self, step: int, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
        """Equation 5 of one batch, its two parts."""
        if step:
            self.model.update()
        device = self._frozen.device
        shown = self._anomalies.draw(step, rng)
        normal = self._anomalies.shares.normal
        chosen = rng.integers(len(self._normal[0]), size=normal)
        with torch.autocast(device, torch.bfloat16, enabled=is_mixed(device)):
            anomalous = self._frozen.stages([one.image for one in shown])
            stages = [
                torch.cat([torch.from_numpy(known[chosen]).to(device).float(), found.float()])
                for known, found in zip(self._normal, anomalous, strict=True)
            ]
            logits = self.model(stages, residuals_of(self.prototypes, stages))
        mask = _mask(normal, [one.mask for one in shown]).to(device)
        logits = _full(logits, mask.shape[-2:])
        counted = self._counted(chosen, shown)
        return {
            "smooth L1": smooth_loss(logits, mask, counted),
            "focal": LAMBDA * focal_loss(logits, mask, counted),
        }

    def _counted(
        self, chosen: npt.NDArray[np.int64], shown: Sequence[Shown]
    ) -> torch.Tensor | None:
        """(B, 1, H, W) float32, 1 where a picture of the batch is inspected; None: everywhere."""
        regions = self._anomalies.generator.regions
        if regions is None:
            return None
        inside = [regions[index] for index in chosen] + [one.region for one in shown]
        known = [one for one in inside if one is not None]
        if len(known) < len(inside):
            raise AssertionError("where good pictures have a region, seen defects have one, too")
        found = torch.from_numpy(np.stack(known) > 0).float()[:, None]
        return found.to(self._frozen.device)

    def judge(self) -> Mapping[str, float]:
        """Image AUROC and pixel AP of the averages."""
        self.model.update()
        if not self._judged.is_useful:
            return {}
        return self._judged.figures(self._map(one.image) for one in self._holdout)

    def _map(self, image: ImageArray) -> MapArray:
        """(H, W) float32 probabilities."""
        device = self._frozen.device
        with torch.autocast(device, torch.bfloat16, enabled=is_mixed(device)):
            stages = [stage.float() for stage in self._frozen.stages([image])]
            logits = self.model(stages, residuals_of(self.prototypes, stages))
        size = torch.Size(image.shape[:2])
        found: MapArray = _full(torch.sigmoid(logits.float()), size)[0, 0].cpu().numpy()
        return found


def evenly(holdout: Sequence[Labelled], limit: int = JUDGED) -> list[Labelled]:
    """At most `limit` pictures, half of them good if there are as many, evenly spread."""
    found = []
    for wanted in (False, True):
        places = [at for at, one in enumerate(holdout) if one.is_defect is wanted]
        spread = np.linspace(0, len(places) - 1, min(limit // 2, len(places)), dtype=int)
        found += [holdout[places[at]] for at in spread]
    return found


def _mask(normal: int, masks: Sequence[MaskArray]) -> torch.Tensor:
    """(B, 1, H, W) float32: nothing in the normal pictures, which come first."""
    anomalous = torch.from_numpy(np.stack(masks) > 0).float()[:, None]
    return torch.cat([anomalous.new_zeros((normal, *anomalous.shape[1:])), anomalous])


def _full(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """As `calibration.graph` enlarges the head's map."""
    return functional.interpolate(x.float(), size=list(size), mode="bilinear", align_corners=False)
