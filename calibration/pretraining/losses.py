"""What the network learns: to name materials, and to tell defects from good parts by cosines.

Naming: from each stage's features one linear map tells the material, and another its family, which
has few members and is learned first. Telling: good pictures of a product give references, and the
cosine to the nearest reference must be lower on the product's defects than anywhere else: what
ProtoAD (equation 3) will ask of the features, asked while they are learned.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from calibration.pretraining.dice import Dice
from calibration.pretraining.scenes import Scenes

Stages = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
STEEPNESS = 3.0
"""Of the ranking, in powers of e of a distance."""
NAMED = 48
"""Places per picture and stage that are named."""
COMPARED = 160
"""Places per defective picture that are compared with all places of the good ones."""
FAVOUR = 0.7
"""By how much places of a defect are preferred among them."""
LEAST = 0.25
"""Share of a place's pixels from which it counts as defective."""
EPSILON = 1e-4


class Names(nn.Module):
    """Per stage, what tells materials and families apart; it starts from zero."""

    families: torch.Tensor

    def __init__(self, channels: tuple[int, ...], families: torch.Tensor) -> None:
        """Takes the stages' channels and the (materials,) family of each material."""
        super().__init__()
        self.register_buffer("families", families)
        outputs = len(families) + int(families.max()) + 1
        self.maps = nn.ModuleList(nn.Linear(width, outputs) for width in channels)
        self.centres = nn.ModuleList(nn.BatchNorm1d(width, affine=False) for width in channels)
        for one in self.maps.parameters():
            nn.init.zeros_(one)

    def loss(self, stage: int, features: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Of (N, C) features of (N,) materials; -1 doesn't count."""
        found = self.maps[stage](self.centres[stage](features))
        materials, families = found.tensor_split([len(self.families)], dim=1)
        family = torch.where(wanted < 0, wanted, self.families[wanted.clamp_min(0)])
        fine = functional.cross_entropy(materials, wanted, ignore_index=-1)
        return fine + functional.cross_entropy(families, family, ignore_index=-1)


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
        losses.append(names.loss(index, found, wanted))
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
    share = functional.avg_pool2d(scenes.defects[:, good:].flatten(0, 1).float()[:, None], 4)
    is_normal = functional.max_pool2d(share, 3, stride=1, padding=1).flatten(1) == 0
    is_defect = share.flatten(1) >= LEAST  # (D, h * w)
    score = dice.uniform(0, 1, *is_defect.shape) + FAVOUR * is_defect
    chosen = score.topk(min(COMPARED, score.shape[1]), dim=1).indices  # (D, N)
    first, others = _split(stages, products, views, good)
    everywhere = torch.arange(score.shape[1], device=score.device).expand(len(first[0]), -1)
    references = patches_at(first, everywhere).reshape(products, -1, _width(stages))
    asked = patches_at(others, chosen).reshape(products, -1, _width(stages))
    distance = 1 - (asked @ references.transpose(1, 2)).amax(dim=2)  # (P, M)
    masks = [mask.gather(1, chosen).reshape(products, -1) for mask in (is_normal, is_defect)]
    return ranking(distance, *masks)


def _split(stages: Stages, products: int, views: int, good: int) -> tuple[Stages, Stages]:
    """The stages of good pictures, and of the others."""
    whole = [stage.reshape(products, views, *stage.shape[1:]) for stage in stages]
    first, second, third = (stage[:, :good].flatten(0, 1) for stage in whole)
    fourth, fifth, sixth = (stage[:, good:].flatten(0, 1) for stage in whole)
    return (first, second, third), (fourth, fifth, sixth)


def _width(stages: Stages) -> int:
    return sum(stage.shape[1] for stage in stages)


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
    """
    level = (distance + EPSILON).log()
    counted = is_normal / is_normal.sum(dim=1, keepdim=True).clamp_min(1)  # (P, M)
    wanted = is_defect / is_defect.sum(dim=1, keepdim=True).clamp_min(1)
    gaps = STEEPNESS * (level[:, :, None] - level[:, None, :])  # normal - defective
    pairs = counted[:, :, None] * wanted[:, None, :]
    return (pairs * functional.softplus(gaps)).sum() / pairs.sum().clamp_min(EPSILON)
