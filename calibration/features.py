"""Collects patch features of many pictures within a bound of memory."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from calibration.backbones import Backbone
from calibration.regions import Places, all_learned_places
from inspectd.core.errors import ConfigError
from inspectd.core.records import ImageArray, MaskArray

BATCH = 4
"""Pictures per forward pass."""

MEMORY = 1_000 * 2**20
"""Bytes that one cached array takes in memory at most; larger ones lie in a file."""

Stages = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Combine = Callable[[Stages], torch.Tensor]
HalfArray = npt.NDArray[np.float16]


def sample_patches(
    images: Sequence[ImageArray],
    backbone: Backbone,
    combine: Combine,
    *,
    limit: int,
    seed: int,
    report: Callable[[int, int], None],
    regions: Sequence[MaskArray] | None = None,
    sigma: float = 0.0,
) -> npt.NDArray[np.float32]:
    """(N, C) patch features, at most `limit`, evenly many from each picture as far as that goes.

    Args:
        images: each (H, W, 3) uint8 RGB.
        backbone: gives three stages.
        combine: three stages to (B, C, h, w).
        limit: of N; where it binds, positions are drawn at random for each picture.
        seed: of that draw.
        report: called with (pictures done, pictures in all).
        regions: of each picture, (H, W), non-zero where inspected; see `calibration.regions`.
        sigma: of the map's smoothing, in pixels of the input; of account where there are regions.
    """
    rng = np.random.default_rng(seed)
    quota = max(1, limit // len(images))
    patches: npt.NDArray[np.float32] | None = None
    places: Iterator[Places] = iter(())
    filled = done = 0
    for features in _batches(images, backbone.network, combine):
        for picture in features:  # (C, h, w)
            rows = picture.flatten(1).T.numpy()  # (h * w, C)
            if patches is None:
                grid = (int(picture.shape[1]), int(picture.shape[2]))
                places = all_learned_places(regions, len(images), grid, sigma)
                most = min(quota, len(rows)) * len(images)
                patches = np.empty((most, rows.shape[1]), dtype=np.float32)
            rows = rows[next(places)]
            if quota < len(rows):
                rows = rows[np.sort(rng.choice(len(rows), quota, replace=False))]
            patches[filled : filled + len(rows)] = rows
            filled += len(rows)
            done += 1
        report(done, len(images))
    if patches is None:
        raise AssertionError("no pictures; `find_good` refuses an empty folder")
    patches = patches[:filled]  # fewer where of some pictures little is inspected
    if limit < len(patches):  # more pictures than patches wanted: one each was one too many
        return patches[np.sort(rng.choice(len(patches), limit, replace=False))]
    return patches


def cached_maps(
    images: Sequence[ImageArray],
    backbone: Backbone,
    stages: Sequence[int],
    *,
    device: str = "cpu",
    report: Callable[[int, int], None],
) -> list[HalfArray]:
    """Maps of the wanted stages (0 is the finest) of every picture, each (N, C, h, w).

    What is beyond `MEMORY` lies in a file without a name, which is gone when it is let go.
    """
    network = backbone.network if device == "cpu" else deepcopy(backbone.network).to(device)
    found: list[HalfArray] = []
    done = 0
    for maps in _stages(images, network, device):
        wanted = [maps[stage].half().cpu().numpy() for stage in stages]
        found = found or [half_array((len(images), *one.shape[1:])) for one in wanted]
        for array, one in zip(found, wanted, strict=True):
            array[done : done + len(one)] = one
        done += len(wanted[0])
        report(done, len(images))
    return found


def half_array(shape: tuple[int, ...]) -> HalfArray:
    """An uninitialised float16 array, in memory or, where it is large, in a nameless file.

    Raises:
        ConfigError: there is no room for the file; found out later it would end the process.
    """
    size = 2 * math.prod(shape)
    if size <= MEMORY:
        return np.empty(shape, np.float16)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ConfigError(
            f"{folder}: no room for {size / 1e9:.1f} GB of features, {free / 1e9:.1f} GB are free; "
            "make some, set TMPDIR to another folder, or learn from fewer or smaller pictures"
        )
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float16, "w+", shape=shape)


def _batches(
    images: Sequence[ImageArray], network: nn.Module, combine: Combine
) -> Iterator[torch.Tensor]:
    """Features of BATCH pictures at a time, (B, C, h, w)."""
    for stages in _stages(images, network):
        with torch.inference_mode():
            features = combine(stages)
        yield features


def _stages(
    images: Sequence[ImageArray], network: nn.Module, device: str = "cpu"
) -> Iterator[Stages]:
    """The network's three maps of BATCH pictures at a time."""
    mean = torch.tensor(network.mean, device=device)[None, :, None, None]
    std = torch.tensor(network.std, device=device)[None, :, None, None]
    for start in range(0, len(images), BATCH):
        stop = min(start + BATCH, len(images))
        batch = np.stack([images[index] for index in range(start, stop)])
        x = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2).float() / 255  # (B, 3, H, W)
        with torch.inference_mode():
            stages = network((x - mean) / std)
        yield stages
