"""Equation 5 against values worked by hand."""

from __future__ import annotations

from math import log

import pytest
import torch

from calibration.prn.losses import focal_loss, smooth_loss, total_loss


def _logit(probability: float) -> float:
    return log(probability / (1 - probability))


@pytest.mark.parametrize(
    ("probability", "truth", "expected"),
    [
        (0.5, 1.0, 0.5 * 0.5**4 * log(2)),
        (0.9, 1.0, 0.5 * 0.1**4 * -log(0.9)),
        (0.9, 0.0, 0.5 * 0.9**4 * -log(0.1)),
        (0.2, 0.0, 0.5 * 0.2**4 * -log(0.8)),
    ],
)
def test_the_focal_loss_is_the_printed_one(
    probability: float, truth: float, expected: float
) -> None:
    """-alpha (1 - p_t)^gamma log p_t with alpha 0.5 and gamma 4."""
    logits = torch.full((1, 1, 2, 2), _logit(probability))
    mask = torch.full((1, 1, 2, 2), truth)
    assert float(focal_loss(logits, mask)) == pytest.approx(expected, rel=1e-4)


def test_the_total_is_smooth_l1_and_five_times_focal() -> None:
    """Of two pixels: 0.5 where 1 is true, and 0.2 where 0 is."""
    logits = torch.tensor([_logit(0.5), _logit(0.2)]).reshape(1, 1, 1, 2)
    mask = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    smooth = (0.5 * 0.5**2 + 0.5 * 0.2**2) / 2
    focal = (0.5 * 0.5**4 * log(2) + 0.5 * 0.2**4 * -log(0.8)) / 2
    assert float(total_loss(logits, mask)) == pytest.approx(smooth + 5 * focal, rel=1e-4)


def test_certain_mistakes_stay_finite() -> None:
    """A probability of exactly 0 or 1 has a loss and a gradient."""
    logits = torch.tensor([-200.0, 200.0]).reshape(1, 1, 1, 2).requires_grad_()
    loss = total_loss(logits, torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_pixels_outside_of_the_region_have_no_loss() -> None:
    """Neither in the mean nor in the gradient, whatever stands there."""
    inner = torch.tensor([_logit(0.5), _logit(0.2)]).reshape(1, 1, 1, 2)
    outer = torch.tensor([[[[-9.0, 9.0]]]])
    logits = torch.cat([inner, outer], dim=3).requires_grad_()
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0]).reshape(1, 1, 1, 4)
    counted = torch.tensor([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 1, 4)
    for loss in (smooth_loss, focal_loss):
        found = loss(logits, mask, counted)
        assert float(found.detach()) == pytest.approx(float(loss(inner, mask[..., :2])), rel=1e-6)
        (gradient,) = torch.autograd.grad(found, logits)
        assert gradient[..., 2:].abs().max() == 0
        assert gradient[..., :2].abs().min() > 0
