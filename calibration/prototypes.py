"""Whole feature maps as prototypes, and what a picture differs from them.

This is PRN's section 3.1 (Zhang et al., CVPR 2023); MPFNet has the same prototypes.

K-means starts from K of the good pictures' maps, drawn at random, and runs for at most 300 rounds
(section 4.1). Distances between maps are found once, as the matrix of all dot products: a mean is
a linear combination of maps, so its distances follow from that matrix, and a round costs nothing,
however large the maps are. The clusters are those of plain k-means.

The text prints the residual as an "element-wise Euclidean distance"; between two numbers that is
the absolute difference, which is the default here. MemSeg (Yang et al., 2022), which section 3.4
cites, squares it: `squared`. A map at stage j, (C, H, W), is a row of D = C * H * W here.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.intp]
Residual = Literal["absolute", "squared"]

ROUNDS = 300
"""Section 4.1."""
BLOCK = 2**16
"""Elements of the rows multiplied at a time: the rows may be half precision, the sums are not."""


def prototype_count(pictures: int, ratio: float, most: int) -> int:
    """K: `ratio` of the good pictures (section 4.1: 10 %), at least one and at most `most`."""
    return max(1, min(most, round(ratio * pictures)))


def cluster_rows(rows: npt.NDArray[np.floating], count: int, seed: int) -> Floats:
    """K-means of (N, D) rows: (count, D) means, the same for the same seed."""
    labels = lloyd(dot_products(rows), count, seed)
    means = np.empty((count, rows.shape[1]), np.float32)
    for index in range(count):
        means[index] = rows[labels == index].mean(axis=0, dtype=np.float32)
    return means


def dot_products(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """(N, N) products of all pairs of (N, D) rows."""
    products = np.zeros((len(rows), len(rows)))
    for start in range(0, rows.shape[1], BLOCK):
        block = rows[:, start : start + BLOCK].astype(np.float32)
        products += block @ block.T
    return products


def lloyd(products: npt.NDArray[np.float64], count: int, seed: int) -> Labels:
    """(N,) cluster of each row, from the (N, N) products; each of the `count` clusters has rows."""
    centres = np.random.default_rng(seed).choice(len(products), count, replace=False)
    labels = _nearest(products, np.eye(len(products))[centres])
    for _ in range(ROUNDS):
        members = (labels == np.arange(count)[:, None]).astype(float)  # (K, N)
        after = _nearest(products, members / members.sum(axis=1, keepdims=True))
        if np.array_equal(after, labels):
            break
        labels = after
    return labels


def _nearest(products: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> Labels:
    """(N,) nearest of K means, each the (K, N) weighted sum of rows; none is left without rows."""
    crossed = weights @ products  # (K, N): mean k times row n
    lengths = (crossed * weights).sum(axis=1)  # (K,)
    distances = np.diag(products) - 2 * crossed + lengths[:, None]  # (K, N), squared
    labels: Labels = distances.argmin(axis=0)
    own = distances.min(axis=0)
    for empty in np.setdiff1d(np.arange(len(weights)), labels):
        shared = np.bincount(labels, minlength=len(weights))[labels] > 1
        farthest = int(np.where(shared, own, -np.inf).argmax())
        labels[farthest], own[farthest] = empty, 0.0
    return labels


class NearestMap(nn.Module):
    """The prototype with the smallest L2 distance to a whole map.

    In the exported graph: a Gemm with the prototypes, ArgMax and Gather, from one copy of them.
    """

    maps: torch.Tensor
    halves: torch.Tensor

    def __init__(self, maps: torch.Tensor) -> None:
        """Takes the (K, C, H, W) prototypes."""
        super().__init__()
        self.shape = tuple(maps.shape[1:])
        rows = maps.flatten(1).to(torch.float32)  # (K, D)
        self.register_buffer("maps", rows)
        self.register_buffer("halves", rows.square().sum(dim=1) / 2)  # (K,)

    def nearest(self, x: torch.Tensor) -> torch.Tensor:
        """(B,) index of the prototype that is nearest to the (B, C, H, W) map."""
        # x p - |p|^2 / 2 is (|x|^2 - |x - p|^2) / 2, and |x|^2 is the same for all p
        rows = x.reshape(-1, self.maps.shape[1])  # (B, D)
        return functional.linear(rows, self.maps, -self.halves).argmax(dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to its nearest prototype, (B, C, H, W)."""
        return self.maps[self.nearest(x)].reshape(-1, *self.shape)


class Prototypes(NearestMap):
    """Equation 1 at one scale: the residual of a map to the nearest of K prototypes."""

    def __init__(self, maps: torch.Tensor, residual: Residual) -> None:
        """Takes the (K, C, H, W) prototypes."""
        super().__init__(maps)
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to its residual, (B, C, H, W)."""
        with torch.autocast(x.device.type, enabled=False):
            difference = x.to(torch.float32) - super().forward(x.to(torch.float32))
            return difference.abs() if self.residual == "absolute" else difference.square()
