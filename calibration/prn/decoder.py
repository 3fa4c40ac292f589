"""PRN's U-Net (figure 3): a trainable bottom below the frozen stages, and the way up.

The paper says "upsampling and convolution blocks" and no more. Here the bottom is one block of
ResNet-18's layer 4, with weights learned from nothing; a step up is a 1x1 convolution, bilinear
up-sampling, the skip connection beside it, and a 3x3 convolution with batch normalisation and
ReLU. The last step has no skip and ends at half the input's resolution: the finest stage, at a
quarter of it, is all that there is to see.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from calibration.backbones.resnet import BasicBlock, ResNetShape
from calibration.prn.fusion import Up

OUTWARD = 16
"""Channels of the last step."""


class Bottom(nn.Module):
    """The trainable stage below stage 3."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.block = BasicBlock(inputs, 2 * inputs, 2, ResNetShape((1, 1, 1), bottleneck=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, 2C, H / 2, W / 2), rounded up."""
        out: torch.Tensor = self.block(x)
        return out


class Step(nn.Module):
    """One step up, beside a skip connection."""

    def __init__(self, inputs: int, skip: int, outputs: int, size: tuple[int, int]) -> None:
        """Takes the channels from below, of the skip connection and of the output."""
        super().__init__()
        self.up = Up(inputs, outputs, size)
        self.join = convolved(outputs + skip, outputs)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(B, inputs, h, w) and (B, skip, H, W) to (B, outputs, H, W)."""
        out: torch.Tensor = self.join(torch.cat([self.up(x), skip], dim=1))
        return out


class Decoder(nn.Module):
    """From the bottom and three skip connections to one logit per pixel."""

    def __init__(
        self,
        bottom: int,
        skips: Sequence[int],
        outputs: Sequence[int],
        sizes: Sequence[tuple[int, int]],
    ) -> None:
        """Takes channels below, of the skips and of each step, and the three (H, W); finest first.

        The output is twice as fine as the finest of them.
        """
        super().__init__()
        below = (*outputs[1:], bottom)
        self.steps = nn.ModuleList(
            Step(*shape) for shape in zip(below, skips, outputs, sizes, strict=True)
        )
        height, width = sizes[0]
        self.last = nn.Sequential(
            Up(outputs[0], OUTWARD, (2 * height, 2 * width)),
            nn.ReLU(),
            convolved(OUTWARD, OUTWARD),
            nn.Conv2d(OUTWARD, 1, 1),
        )

    def forward(self, bottom: torch.Tensor, skips: Sequence[torch.Tensor]) -> torch.Tensor:
        """(B, C4, H/32, W/32) and three skips, finest first, to logits (B, 1, H/2, W/2)."""
        x = bottom
        for step, skip in zip(reversed(self.steps), reversed(skips), strict=True):
            x = step(x, skip)
        logits: torch.Tensor = self.last(x)
        return logits


def convolved(inputs: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
