"""PRN, section 3.3: self-attention over patches of four sizes, one per head (equation 3).

As printed, a fully connected layer would embed a flattened patch of 2c x 64 x 64 elements: 5e11
weights at the finest scale. Built here is the form of the works that the section builds on (M2TR,
Wang et al., ICMR 2022): queries, keys and values are 1x1 convolutions, their channels are split
over the heads, and patches are flattened only for the attention's product. Section 3.3's scale is
kept: the products are divided by the length of the flattened patch itself, not by its root.

Chosen for a CPU: a head has C / 8 channels instead of C / 4, and the "2D residual block" is a
bottleneck (1x1, 3x3, 1x1), whose short cut goes around the heads as well, as in M2TR. With C / 4
and two 3x3 convolutions of C channels a layer costs eight times as many multiplications.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from calibration.prn.norm import Norm

SPLITS = (1, 2, 4, 8)
"""Patches along each axis: their sizes are h, h/2, h/4 and h/8."""
SHARE = 8
"""A head has one channel in `SHARE` of the input's."""


class MultiSizeAttention(nn.Module):
    """One layer; its output has its input's shape."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        """Takes the input's channels and (H, W); where 8 doesn't divide these, zeros fill up."""
        super().__init__()
        self.size = size
        self.padded = tuple(-(-side // SPLITS[-1]) * SPLITS[-1] for side in size)
        self.width = max(1, channels // SHARE)
        inner = self.width * len(SPLITS)
        self.embed = nn.Conv2d(channels, 3 * inner, 1)
        self.block = nn.Sequential(
            Norm(inner),
            nn.Conv2d(inner, inner // 2, 1, bias=False),
            nn.BatchNorm2d(inner // 2),
            nn.ReLU(),
            nn.Conv2d(inner // 2, inner // 2, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner // 2),
            nn.ReLU(),
            nn.Conv2d(inner // 2, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        nn.init.zeros_(self.block[-1].weight)  # type: ignore[arg-type] # at first x passes through

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same."""
        embedded = self._filled(self.embed(x))  # (B, 12 width, H', W')
        parts = torch.split(embedded, self.width, dim=1)
        count = len(SPLITS)
        heads = [
            attend(parts[s], parts[count + s], parts[2 * count + s], splits)
            for s, splits in enumerate(SPLITS)
        ]
        joined = torch.cat(heads, dim=1)[:, :, : self.size[0], : self.size[1]]
        out: torch.Tensor = functional.relu(x + self.block(joined))
        return out

    def _filled(self, x: torch.Tensor) -> torch.Tensor:
        """Zeros below and to the right, up to a multiple of 8."""
        height, width = (full - side for full, side in zip(self.padded, self.size, strict=True))
        return functional.pad(x, (0, width, 0, height)) if height or width else x


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, splits: int
) -> torch.Tensor:
    """Equation 3 for one head: (B, C, H, W) each to (B, C, H, W), in splits x splits patches."""
    if splits == 1:  # one patch attends to itself alone: the softmax is 1
        return value
    channels, height, width = (int(side) for side in query.shape[1:])
    q, k, v = (patches(x, splits) for x in (query, key, value))  # (B, N, c^s)
    weights = torch.matmul(q, k.transpose(1, 2)) / int(q.shape[2])  # (B, N, N)
    mixed = torch.matmul(functional.softmax(weights, dim=2), v)  # (B, N, c^s)
    grid = (-1, splits, splits, channels, height // splits, width // splits)
    return mixed.reshape(grid).permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width)


def patches(x: torch.Tensor, splits: int) -> torch.Tensor:
    """(B, C, H, W) to its N = splits^2 patches, row by row and flattened: (B, N, C H W / N)."""
    channels, height, width = (int(side) for side in x.shape[1:])
    grid = (-1, channels, splits, height // splits, splits, width // splits)
    length = channels * height * width // splits**2
    return x.reshape(grid).permute(0, 2, 4, 1, 3, 5).reshape(-1, splits**2, length)
