"""What pre-training asks of features."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from calibration.pretraining.dice import Dice
from calibration.pretraining.losses import Names, naming, patches_at, ranking, telling
from calibration.pretraining.scenes import Scenes
from calibration.scorers.protoad import patch_features

CHANNELS = (4, 4, 4)


def two_materials(defect: bool = False) -> Scenes:
    """One product seen twice, half of each material; a defect in the second view."""
    materials = torch.zeros(1, 2, 64, 64, dtype=torch.long)
    materials[..., 32:] = 1
    defects = torch.zeros(1, 2, 64, 64, dtype=torch.bool)
    defects[0, 1, 16:32, 16:32] = defect
    return Scenes(torch.zeros(1, 2, 3, 64, 64), materials, defects)


def stages_of(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(B, H, W) classes below 4 as perfect features, one-hot at strides 4, 8, 16."""
    one_hot = functional.one_hot(values, 4).permute(0, 3, 1, 2).float()
    first, second, third = (functional.avg_pool2d(one_hot, stride) for stride in (4, 8, 16))
    return first, second, third


def perfect_names() -> Names:
    """Takes the material, and its family of the same number, straight from the features."""
    names = Names(CHANNELS, torch.arange(4))
    for one in names.maps:
        one.weight.data = 20 * torch.eye(4).repeat(2, 1)
    return names.eval()


def test_features_that_name_materials_lose_nothing() -> None:
    """Features that point along a material's direction cost little, those of the other much."""
    scenes, names = two_materials(), perfect_names()
    right = naming(names, stages_of(scenes.materials[0]), scenes, Dice("cpu", 0))
    wrong = naming(names, stages_of(1 - scenes.materials[0]), scenes, Dice("cpu", 0))
    assert max(right) < 1e-4
    assert min(wrong) > 5


def test_defects_have_no_name() -> None:
    """What the features say of a defect's places doesn't count."""
    scenes, names = two_materials(defect=True), perfect_names()
    seen = torch.where(scenes.defects[0], 3, scenes.materials[0])
    assert max(naming(names, stages_of(seen), scenes, Dice("cpu", 0))) < 1e-4


def test_defects_that_look_like_nothing_good_are_told() -> None:
    """A defect with features of its own costs less than one that looks as good parts do."""
    scenes = two_materials(defect=True)
    seen = torch.where(scenes.defects[0], 3, scenes.materials[0])
    told, untold = (
        telling(stages_of(values), scenes, 1, Dice("cpu", 0))
        for values in (seen, scenes.materials[0])
    )
    assert told < 0.1 < untold


def test_without_a_defect_there_is_nothing_to_rank() -> None:
    """The loss is 0, not a division by zero."""
    scenes = two_materials()
    assert telling(stages_of(scenes.materials[0]), scenes, 1, Dice("cpu", 0)) == 0


def test_patches_are_the_scorers() -> None:
    """Places are interpolated and scaled exactly as ProtoAD does it."""
    stages = tuple(torch.rand(2, c, 64 // s, 48 // s) for c, s in ((3, 4), (5, 8), (6, 16)))
    chosen = torch.randint(16 * 12, (2, 50))
    wanted = patch_features(stages).flatten(2).transpose(1, 2)  # type: ignore[arg-type]
    found = patches_at(stages, chosen)  # type: ignore[arg-type]
    rows = torch.arange(2)[:, None]
    torch.testing.assert_close(found, wanted[rows, chosen], atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_a_ranking_is_a_matter_of_ratios(scale: float) -> None:
    """All distances made larger or smaller rank the same."""
    distance = torch.tensor([[0.2, 0.4, 0.6, 0.3]])
    is_normal = torch.tensor([[True, True, False, False]])
    found = [ranking(distance * s, is_normal, ~is_normal) for s in (1.0, scale)]
    torch.testing.assert_close(found[0], found[1], atol=0.01, rtol=0)
