"""PRN, equation 5: smooth L1 of the map, plus five times the focal loss.

Section 4.1: alpha 0.5 and gamma 4. A softmax over two classes is the sigmoid of the difference of
their logits, so the network gives that one number per pixel.
"""

from __future__ import annotations

import torch
from torch.nn import functional

ALPHA = 0.5
GAMMA = 4.0
LAMBDA = 5.0


def total_loss(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Equation 5 as a mean over all pixels, a scalar.

    Args:
        logits: (B, 1, H, W) float32, of the pixel being anomalous.
        mask: (B, 1, H, W) float32, 1 where it is.
    """
    return smooth_loss(logits, mask) + LAMBDA * focal_loss(logits, mask)


def smooth_loss(
    logits: torch.Tensor, mask: torch.Tensor, counted: torch.Tensor | None = None
) -> torch.Tensor:
    """Smooth L1 (Girshick, 2015) of the probabilities, mean over all pixels that count.

    `counted` is (B, 1, H, W), 1 where a pixel counts and else 0; None: they all do.
    """
    losses = functional.smooth_l1_loss(torch.sigmoid(logits), mask, reduction="none")
    return _mean(losses, counted)


def focal_loss(
    logits: torch.Tensor, mask: torch.Tensor, counted: torch.Tensor | None = None
) -> torch.Tensor:
    """-alpha_t (1 - p_t)^gamma log p_t (Lin et al., 2017, equation 5), mean as `smooth_loss`'s."""
    signed = torch.where(mask > 0.5, logits, -logits)  # the logit of the true class
    share = torch.where(mask > 0.5, ALPHA, 1 - ALPHA)
    losses = share * torch.sigmoid(-signed) ** GAMMA * -functional.logsigmoid(signed)
    return _mean(losses, counted)


def _mean(losses: torch.Tensor, counted: torch.Tensor | None) -> torch.Tensor:
    return losses.mean() if counted is None else (losses * counted).sum() / counted.sum()
