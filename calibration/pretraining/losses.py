"""What the network learns: to name materials, and to tell defects from good parts by cosines.

Naming: each stage's features, of length 1, are compared with one learned direction per material
(NormFace, Wang et al. 2017). Telling: good pictures of a product give references, and the cosine
to the nearest reference must be lower on the product's defects than anywhere else: what ProtoAD
(equation 3) will ask of the features, asked while they are learned.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from calibration.pretraining.dice import Dice
from calibration.pretraining.scenes import Scenes

Stages = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
SHARPNESS = 16.0
"""Of the softmax over cosines."""
STEEPNESS = 3.0
"""Of the ranking, in powers of e of a distance."""
NAMED = 48
"""Places per picture and stage that are named."""
COMPARED = 160
"""Places per picture that are compared."""
FAVOUR = 0.7
"""By how much places of a defect are preferred among them."""
LEAST = 0.25
"""Share of a place's pixels from which it counts as defective."""
EPSILON = 1e-4


class Names(nn.Module):
    """One direction per stage and material."""

    def __init__(self, channels: tuple[int, ...], count: int) -> None:
        """Takes the stages' channels and the number of materials."""
        super().__init__()
        self.directions = nn.ParameterList(
            nn.Parameter(functional.normalize(torch.randn(count, width), dim=1))
            for width in channels
        )
        self.centres = nn.ModuleList(nn.BatchNorm1d(width, affine=False) for width in channels)

    def forward(self, stage: int, features: torch.Tensor) -> torch.Tensor:
        """(N, C) features to (N, materials)."""
        directions = functional.normalize(self.directions[stage], dim=1)
        return SHARPNESS * functional.normalize(self.centres[stage](features), dim=1) @ directions.T


def naming(names: Names, stages: Stages, scenes: Scenes, dice: Dice) -> list[torch.Tensor]:
    """The loss of each stage, over places of one material without a defect."""
    materials, defects = scenes.materials.flatten(0, 1), scenes.defects.flatten(0, 1)
    losses = []
    for index, features in enumerate(stages):
        stride = materials.shape[-1] // features.shape[-1]
        labels = _labels(materials, defects, stride).flatten(1)  # (B, h * w)
        score = dice.uniform(0, 1, *labels.shape) + (labels >= 0)
        chosen = score.topk(min(NAMED, score.shape[1]), dim=1).indices  # (B, N)
        rows = torch.arange(len(labels), device=labels.device)[:, None]
        found = features.flatten(2).transpose(1, 2)[rows, chosen].flatten(0, 1).float()
        wanted = labels[rows, chosen].flatten()
        losses.append(functional.cross_entropy(names(index, found), wanted, ignore_index=-1))
    return losses


def _labels(materials: torch.Tensor, defects: torch.Tensor, stride: int) -> torch.Tensor:
    """(B, H, W) to (B, h, w): each place's material, -1 where there are more or a defect."""
    values = materials.float()[:, None]
    high = functional.max_pool2d(values, stride)
    low = -functional.max_pool2d(-values, stride)
    spoilt = functional.max_pool2d(defects.float()[:, None], stride)
    return torch.where((high == low) & (spoilt == 0), high, -1.0)[:, 0].long()


def telling(stages: Stages, scenes: Scenes, good: int, dice: Dice) -> torch.Tensor:
    """The ranking loss: normal places nearer to the references than defective ones."""
    products, views = scenes.defects.shape[:2]
    share = functional.avg_pool2d(scenes.defects.flatten(0, 1).float()[:, None], 4)  # (B, 1, h, w)
    is_normal = functional.max_pool2d(share, 3, stride=1, padding=1).flatten(1) == 0
    is_defect = share.flatten(1) >= LEAST  # (B, h * w)
    score = dice.uniform(0, 1, *is_defect.shape) + FAVOUR * is_defect
    chosen = score.topk(min(COMPARED, score.shape[1]), dim=1).indices  # (B, N)
    features = patches_at(stages, chosen)
    features = features.reshape(products, views, *features.shape[1:])
    references = features[:, :good].flatten(1, 2)  # (P, R, C)
    asked = features[:, good:].flatten(1, 2)  # (P, M, C)
    distance = 1 - (asked @ references.transpose(1, 2)).amax(dim=2)  # (P, M)
    masks = [
        mask.gather(1, chosen).reshape(products, views, -1)[:, good:].flatten(1)
        for mask in (is_normal, is_defect)
    ]
    return ranking(distance, *masks)


def patches_at(stages: Stages, chosen: torch.Tensor) -> torch.Tensor:
    """(B, N, C1 + C2 + C3) of length 1: the scorer's patches at places of the finest stage.

    Interpolated as `calibration.projected.every_fourth` does it, but at (B, N) flat indices only.
    """
    height, width = stages[0].shape[-2:]
    y, x = chosen.div(width, rounding_mode="floor"), chosen % width
    places = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    found = [
        functional.grid_sample(
            stage.float(), places[:, None], padding_mode="border", align_corners=False
        )[:, :, 0]
        for stage in stages
    ]  # each (B, C, N)
    return functional.normalize(torch.cat(found, dim=1), dim=1).transpose(1, 2)


def ranking(
    distance: torch.Tensor, is_normal: torch.Tensor, is_defect: torch.Tensor
) -> torch.Tensor:
    """Mean over products of how far defects fail to lie beyond normal places, all (P, M).

    Logarithms make it a matter of ratios, so that nothing is gained by scaling all distances.
    Normal places count by their distance: the farthest decides about a picture.
    """
    level = (distance + EPSILON).log()
    weights = (distance * is_normal).detach()
    weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(EPSILON)
    wanted = is_defect / is_defect.sum(dim=1, keepdim=True).clamp_min(1)  # (P, M)
    gaps = STEEPNESS * (level[:, :, None] - level[:, None, :])  # normal - defective
    pairs = weights[:, :, None] * wanted[:, None, :]
    return (pairs * functional.softplus(gaps)).sum() / pairs.sum().clamp_min(EPSILON)
