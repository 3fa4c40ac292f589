"""Collects patch features of many pictures within a bound of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from calibration.backbones import Backbone
from inspectd.core.records import ImageArray

BATCH = 4
"""Pictures per forward pass."""

Combine = Callable[[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], torch.Tensor]


def sample_patches(
    images: Sequence[ImageArray],
    backbone: Backbone,
    combine: Combine,
    *,
    limit: int,
    seed: int,
    report: Callable[[int, int], None],
) -> npt.NDArray[np.float32]:
    """(N, C) patch features, at most `limit`, evenly many from each picture as far as that goes.

    Args:
        images: each (H, W, 3) uint8 RGB.
        backbone: gives three stages.
        combine: three stages to (B, C, h, w).
        limit: of N; where it binds, positions are drawn at random for each picture.
        seed: of that draw.
        report: called with (pictures done, pictures in all).
    """
    rng = np.random.default_rng(seed)
    quota = max(1, limit // len(images))
    patches: npt.NDArray[np.float32] | None = None
    filled = done = 0
    for features in _batches(images, backbone.network, combine):
        for picture in features:  # (C, h, w)
            rows = picture.flatten(1).T.numpy()  # (h * w, C)
            if quota < len(rows):
                rows = rows[np.sort(rng.choice(len(rows), quota, replace=False))]
            if patches is None:
                patches = np.empty((len(rows) * len(images), rows.shape[1]), dtype=np.float32)
            patches[filled : filled + len(rows)] = rows
            filled += len(rows)
            done += 1
        report(done, len(images))
    if patches is None:
        raise AssertionError("no pictures; `find_good` refuses an empty folder")
    if limit < len(patches):  # more pictures than patches wanted: one each was one too many
        return patches[np.sort(rng.choice(len(patches), limit, replace=False))]
    return patches


def _batches(
    images: Sequence[ImageArray], network: nn.Module, combine: Combine
) -> Iterator[torch.Tensor]:
    """Features of BATCH pictures at a time, (B, C, h, w)."""
    mean = torch.tensor(network.mean)[None, :, None, None]
    std = torch.tensor(network.std)[None, :, None, None]
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            stop = min(start + BATCH, len(images))
            batch = np.stack([images[index] for index in range(start, stop)])
            x = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255  # (B, 3, H, W)
            yield combine(network((x - mean) / std))
