"""Foreign textures for heterologous anomalies: pictures from a folder, or drawn by procedure.

PRN takes its textures from DTD, whose licence doesn't let it be shipped; whoever has it can name
its folder. The procedures below need nothing and make eight families in random colours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from calibration.anomalies.noise import perlin
from inspectd.core.errors import DatasetError
from inspectd.core.images import list_images, read_image
from inspectd.core.overlay import as_rgb
from inspectd.core.records import ImageArray, MapArray

MOST = 200
"""Pictures of a folder that are held in memory; of more, as many evenly spread by name."""
LONGEST = 384
"""Pixels of their longer side at most: 200 of them are at most 88 MB."""

Generator = np.random.Generator
Size = tuple[int, int]


class TextureSource(Protocol):
    """Where textures come from."""

    def draw(self, image: ImageArray, rng: Generator) -> ImageArray:
        """(H, W, 3) RGB uint8 of the picture's size; the same for the same `rng` state."""
        ...


class FolderTextures:
    """Pictures of a folder and the folders in it, cut, scaled and turned at random.

    Raises:
        DatasetError: there is no folder or no picture in it.
        ImageError: one can't be read.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; it must hold pictures of textures")
        folders = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
        paths = [path for one in folders for path in list_images(one)]
        if not paths:
            raise DatasetError(f"{folder}: no picture in it or below; put textures there")
        chosen = np.unique(np.linspace(0, len(paths) - 1, MOST, dtype=int))
        self.pictures = tuple(_reduced(as_rgb(read_image(paths[index]))) for index in chosen)

    def draw(self, image: ImageArray, rng: Generator) -> ImageArray:
        """A part of one of them; where it is too small it goes on mirrored."""
        picture = self.pictures[int(rng.integers(len(self.pictures)))]
        height, width = image.shape[:2]
        centre = rng.uniform(0, (picture.shape[1], picture.shape[0]))  # (x, y)
        turn = rng.uniform(0, 360), rng.uniform(0.7, 1.6)
        return np.asarray(_turned(picture, (height, width), centre, *turn), np.uint8)


class ProceduralTextures:
    """One of `FAMILIES`, in two colours with all shades in between."""

    def draw(self, image: ImageArray, rng: Generator) -> ImageArray:
        """Each colour is arbitrary, or one of the picture's that was made lighter or darker."""
        family = FAMILIES[int(rng.integers(len(FAMILIES)))]
        pattern = family(image.shape[:2], rng)  # (H, W)
        shades = np.linspace(_colour(image, rng), _colour(image, rng), 256)  # (256, 3)
        table = np.clip(shades, 0, 255).astype(np.uint8)
        levels = cv2.convertScaleAbs(pattern, alpha=255)
        return np.asarray(cv2.merge([cv2.LUT(levels, table[:, one]) for one in range(3)]), np.uint8)


def cloudy(size: Size, rng: Generator) -> MapArray:
    """Noise of three octaves."""
    cells = 2 ** int(rng.integers(1, 5))
    octaves = [perlin(size, (cells << n, cells << n), rng) / 2**n for n in range(3)]
    return np.asarray(np.clip(0.5 + 0.6 * sum(octaves), 0, 1), np.float32)


def grainy(size: Size, rng: Generator) -> MapArray:
    """White noise, in grains of one to four pixels."""
    grain = rng.uniform(1, 4)
    small = (max(2, round(size[0] / grain)), max(2, round(size[1] / grain)))
    return _grown(rng.random(small, np.float32), size, cv2.INTER_LINEAR)


def striped(size: Size, rng: Generator) -> MapArray:
    """Wavy stripes at any angle, soft or hard."""
    phase = _ramp(size, rng, rng.uniform(6, 60)) + rng.uniform(0, 4) * perlin(size, (2, 2), rng)
    return _edged(np.sin(phase), rng)


def checked(size: Size, rng: Generator) -> MapArray:
    """Fields of a board, or a weave where they are soft."""
    period, angle = rng.uniform(6, 50), rng.uniform(0, np.pi)
    across, along = (_wave(size, period, angle + turn) for turn in (0, np.pi / 2))
    return _edged(np.sin(across) * np.sin(along), rng)


def cellular(size: Size, rng: Generator) -> MapArray:
    """Worley's cells: the distance to the nearest of random points, or a shade for each."""
    points = np.full(size, 255, np.uint8)
    count = int(rng.integers(20, 400))
    points.flat[rng.integers(0, points.size, count)] = 0
    distance, labels = cv2.distanceTransformWithLabels(
        points, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    if rng.random() < 0.5:
        return np.asarray(rng.random(count + 1, np.float32)[labels])
    return np.asarray(np.minimum(distance * np.sqrt(count / points.size), 1), np.float32)


def fibrous(size: Size, rng: Generator) -> MapArray:
    """Noise drawn out in one direction."""
    reach = int(np.hypot(*size)) + 2
    thin, long = rng.uniform(1, 3), rng.uniform(15, 80)
    strands = rng.random((max(2, round(reach / thin)), max(2, round(reach / long))), np.float32)
    whole = _grown(strands, (reach, reach), cv2.INTER_LINEAR)
    centre = np.full(2, reach / 2)
    return np.asarray(_turned(whole, size, centre, rng.uniform(0, 180), 1), np.float32)


def scratched(size: Size, rng: Generator) -> MapArray:
    """Lines of one to three pixels on plain ground, most of them near one direction."""
    canvas = np.zeros(size, np.uint8)
    count, main = int(rng.integers(10, 80)), rng.uniform(0, np.pi)
    starts = rng.uniform(0, (size[1], size[0]), (count, 2))
    angles = main + rng.normal(0, 0.5, count)
    reach = rng.uniform(0.1, 1, (count, 1)) * max(size)
    ends = starts + reach * np.column_stack([np.cos(angles), np.sin(angles)])
    lines = np.rint(np.stack([starts, ends], axis=1)).astype(np.int32)
    for line, level in zip(lines, rng.integers(90, 256, count).tolist(), strict=True):
        cv2.line(canvas, line[0].tolist(), line[1].tolist(), level, 1 + level % 3, cv2.LINE_AA)
    return np.asarray(canvas / 255, np.float32)


def plain(size: Size, rng: Generator) -> MapArray:
    """One colour, as of paint, dirt or a hole."""
    return np.full(size, rng.random(), np.float32)


FAMILIES: tuple[Callable[[Size, Generator], MapArray], ...] = (
    cloudy, grainy, striped, checked, cellular, fibrous, scratched, plain,
)  # fmt: skip
"""Each makes (H, W) float32 in [0, 1]."""


def _colour(image: ImageArray, rng: Generator) -> np.ndarray:
    """(3,) RGB, may lie outside 0 to 255."""
    if rng.random() < 0.5:
        return rng.uniform(0, 255, 3)
    row, column = rng.integers(0, image.shape[:2])
    shift = rng.uniform(25, 150) * rng.choice((-1.0, 1.0))
    return np.asarray(image[row, column] + shift + rng.normal(0, 15, 3))


def _ramp(size: Size, rng: Generator, period: float) -> MapArray:
    return _wave(size, period, rng.uniform(0, np.pi))


def _wave(size: Size, period: float, angle: float) -> MapArray:
    """(H, W) phase in radians that grows along a direction."""
    down, right = _coordinates(size)
    step = np.float32(2 * np.pi / period)
    return np.asarray(step * (np.float32(np.sin(angle)) * down + np.float32(np.cos(angle)) * right))


@lru_cache(maxsize=8)
def _coordinates(size: Size) -> tuple[MapArray, MapArray]:
    """(H, 1) rows and (1, W) columns."""
    rows, columns = np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)
    return rows[:, None], columns[None, :]


def _edged(wave: MapArray, rng: Generator) -> MapArray:
    """-1 to 1 becomes 0 to 1, with edges from soft to hard."""
    return np.asarray(np.clip(0.5 + rng.uniform(0.5, 6) * wave, 0, 1), np.float32)


def _grown(values: MapArray, size: Size, method: int) -> MapArray:
    return np.asarray(cv2.resize(values, (size[1], size[0]), interpolation=method), np.float32)


def _turned(
    picture: np.ndarray, size: Size, centre: np.ndarray, degrees: float, scale: float
) -> np.ndarray:
    """What lies about `centre` (x, y), turned and scaled, (H, W, ...); it goes on mirrored."""
    place = (float(centre[0]), float(centre[1]))
    map_ = np.asarray(cv2.getRotationMatrix2D(place, degrees, scale))
    shift = np.array([size[1] / 2, size[0] / 2]) - centre
    map_ = np.column_stack([map_[:, :2], map_[:, 2] + shift])
    border = cv2.BORDER_REFLECT_101
    return np.asarray(cv2.warpAffine(picture, map_, (size[1], size[0]), borderMode=border))


def _reduced(picture: ImageArray) -> ImageArray:
    shrink = LONGEST / max(picture.shape[:2])
    if shrink >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * shrink)), max(1, round(picture.shape[0] * shrink)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
