"""PRN's training: averaged weights, and what is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.averaging import Averaged
from calibration.backbones import load_backbone
from calibration.dataset import PreparedImages, find_good
from calibration.prn.course import evenly
from calibration.prn.network import PRN, Modules, stage_sizes
from calibration.scorers import Labelled, Material
from calibration.scorers.prn import PRNScorer
from inspectd.core.preprocess import Preprocessing

CHANNELS = (4, 4, 4)


def _averaged() -> Averaged[PRN]:
    torch.manual_seed(0)
    sizes = stage_sizes((32, 32), (4, 8, 16))
    return Averaged(PRN(CHANNELS, sizes, Modules(prototypes=False, attention=False)))


def _weight(network: torch.nn.Module) -> torch.Tensor:
    return next(network.parameters())


def test_the_average_follows_the_network() -> None:
    """A tenth of the way at first, within a percent of it after some hundred updates."""
    model = _averaged()
    before = _weight(model.average).clone()
    with torch.no_grad():
        _weight(model.network).add_(1.0)
    model.update()
    torch.testing.assert_close(_weight(model.average), before + 0.9)
    for _ in range(400):
        model.update()
    torch.testing.assert_close(_weight(model.average), before + 1.0, atol=1e-2, rtol=0)


def test_a_late_step_moves_the_average_by_a_hundredth() -> None:
    """Noise of single steps is averaged out."""
    model = _averaged()
    model.updates += 10_000
    before = _weight(model.average).clone()
    with torch.no_grad():
        _weight(model.network).add_(1.0)
    model.update()
    torch.testing.assert_close(_weight(model.average), before + 0.01)


def test_evaluation_uses_the_average_and_training_the_network() -> None:
    """Only the network's weights take gradients."""
    model = _averaged()
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.1)
    stages = [torch.rand(2, 4, side, side) for side in (8, 4, 2)]
    model.eval()
    torch.testing.assert_close(model(stages, []), model.average(stages, []))
    model.train()
    assert not model.average.training
    model(stages, []).sum().backward()
    assert all(p.grad is not None for p in model.network.parameters())
    assert all(p.grad is None for p in model.average.parameters())


@pytest.mark.parametrize(
    ("good", "defective", "limit", "expected"),
    [(100, 100, 64, (32, 32)), (10, 100, 64, (10, 32)), (0, 3, 64, (0, 3)), (0, 0, 64, (0, 0))],
)
def test_judged_pictures_are_spread_over_good_and_defective(
    good: int, defective: int, limit: int, expected: tuple[int, int]
) -> None:
    """At most half of the limit of each, first and last included."""
    image = np.zeros((8, 8, 3), np.uint8)
    labels = ["good"] * good + ["dent"] * defective
    holdout = [Labelled(f"{at}.png", label, image, None) for at, label in enumerate(labels)]
    found = evenly(holdout, limit)
    counts = sum(not one.is_defect for one in found), sum(one.is_defect for one in found)
    assert counts == expected
    if defective == 100:
        assert found[-1] is holdout[-1]


def test_the_weight_decay_is_the_papers_and_decoupled(tiny_data: Path) -> None:
    """Section 4.1's 1e-2 and, on a GPU, 1e-4; the averages are not among what is learned."""
    preprocessing = Preprocessing(resize=(64, 64), crop=(64, 64))
    material = Material(good=PreparedImages(find_good(tiny_data)[:2], preprocessing))
    scorer = PRNScorer(learning_rate=1e-4, batch=4, modules="none")
    course = scorer._course(
        material, load_backbone("builtin"), scorer._anomalies(material, 0), 0, lambda *_: None
    )
    (optimiser,) = course.optimisers.values()
    (group,) = optimiser.param_groups
    assert isinstance(optimiser, torch.optim.AdamW)
    assert (group["lr"], group["weight_decay"]) == (1e-4, 1e-2)
    assert {id(one) for one in group["params"]} == {
        id(one) for one in course.model.network.parameters()
    }
