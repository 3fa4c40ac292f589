"""A demonstration product, drawn by a program: a turned flange on a conveyor, seen from above.

The flange has a bore with a keyway, six countersunk holes, a boss, a cast web and a laser mark.
Each part has its own pose in the fixture, light, lathe grain, casting skin and sensor noise. A
defect is painted last, so the same seed without it gives the defect-free twin, noise and all; the
mask holds the pixels where the two differ by more than the noise, gaps of a pixel or two closed.

Lengths are in units: 1 unit is 1/480 of the picture's shorter side, thus 1 px at 480 x 480.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inspectd.core.errors import ConfigError
from inspectd.core.records import ImageArray, MaskArray

DEFECT_KINDS: tuple[str, ...] = ("scratch", "chip", "dent", "contamination")
VISIBLE_DN = 8.0
"""A pixel is defective if a channel changed by more than this: four sigma of the noise or so."""

Layer = npt.NDArray[Any]
"""float32 throughout; OpenCV's own annotations don't say so."""
Report = Callable[[int, int], None]
"""Called with (parts done, parts in total)."""
Job = tuple[str, Path | None, str | None]
"""Name of the picture in its folder, where its mask goes, its defect."""

_MIN_SIDE = 96
"""Pixels; on a smaller picture the subtler defects would vanish."""
_OUTER, _BOSS, _BORE, _HOLE = 200.0, 96.0, 58.0, 19.0
"""Radii in units."""
_HOLES = [(140 * math.cos(a), 140 * math.sin(a)) for a in np.arange(6) * math.pi / 3]
"""Centres (x, y) in units from the part's."""
_LAMP = (-0.50, -0.58, 0.64)
"""Unit vector to the lamp: (right, down, towards the camera)."""
_RINGS, _ANGLES = 256, 768
"""Size of the lathe grain in polar coordinates: steps of the radius, steps of the angle."""
_STEEL, _BELT = (0.985, 1.0, 1.02), (0.80, 1.0, 1.12)
"""Colours (red, green, blue)."""
_NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)


@dataclass(frozen=True, slots=True)
class RenderedPart:
    """One picture and the truth about it."""

    image: ImageArray
    """(H, W, 3) RGB."""
    mask: MaskArray
    """(H, W), 255 where defective, else 0."""
    defect: str | None
    """One of `DEFECT_KINDS`, None for a good part."""


def render_part(
    rng: np.random.Generator, defect: str | None = None, size: tuple[int, int] = (480, 480)
) -> RenderedPart:
    """Draw one part of `size` (H, W) in pixels; equal states of `rng` give equal parts."""
    if defect is not None and defect not in DEFECT_KINDS:
        raise ConfigError(f"no defect is called {defect!r}; choose from {', '.join(DEFECT_KINDS)}")
    if min(size) < _MIN_SIDE:
        raise ConfigError(f"{size} (H, W) is too small to draw on; use {_MIN_SIDE} pixels or more")
    scene, light = _scene(rng, size), _light(rng, size)
    clean = scene.picture * light  # (H, W, 3)
    noise = _noise(rng, clean.shape) * cv2.sqrt(clean * 0.016 + 0.8)  # shot and read noise
    if defect is None:
        return RenderedPart(_quantise(clean + noise), np.zeros(size, np.uint8), None)
    lit, mask = _with_defect(rng, scene, light, defect)
    return RenderedPart(_quantise(lit + noise), mask, defect)


def render_dataset(
    folder: Path,
    *,
    seed: int,
    n_train: int,
    n_good: int,
    n_per_defect: int,
    size: tuple[int, int] = (480, 480),
    report: Report | None = None,
) -> None:
    """Write train and holdout pictures of `size` (H, W) and masks in MVTec's layout, as PNG."""
    jobs: list[Job] = [(f"train/good/{i:03d}.png", None, None) for i in range(n_train)]
    jobs += [(f"holdout/good/{i:03d}.png", None, None) for i in range(n_good)]
    for kind in DEFECT_KINDS:
        truth = folder / "holdout" / "ground_truth" / kind
        for i in range(n_per_defect):
            jobs.append((f"holdout/{kind}/{i:03d}.png", truth / f"{i:03d}_mask.png", kind))
    _write_all(folder, jobs, seed, size, report)


def render_line(
    folder: Path,
    *,
    seed: int,
    n_parts: int,
    defect_share: float = 0.2,
    size: tuple[int, int] = (480, 480),
    report: Report | None = None,
) -> None:
    """Write pictures to replay in name order; masks go to the sibling folder `<folder>_masks`."""
    if not 0.0 <= defect_share <= 1.0:
        raise ConfigError(f"defect_share is {defect_share}; it is a share, from 0 to 1")
    rng, jobs = np.random.default_rng(seed), list[Job]()
    for i in range(n_parts):
        kind, is_defective = str(rng.choice(DEFECT_KINDS)), rng.random() < defect_share
        name = f"{i:06d}-{kind if is_defective else 'good'}.png"
        mask = folder.with_name(f"{folder.name}_masks") / name
        jobs.append((name, mask, kind) if is_defective else (name, None, None))
    _write_all(folder, jobs, seed, size, report)


def truth_of(part_id: str) -> str | None:
    """The defect of a part of `render_line`, told from its file's stem; None for a good one."""
    kind = part_id.rpartition("-")[2]
    if kind != "good" and kind not in DEFECT_KINDS:
        raise ConfigError(f"{part_id!r} is no demo part; its name must end in -good or -<defect>")
    return None if kind == "good" else kind


def _write_all(
    folder: Path, jobs: list[Job], seed: int, size: tuple[int, int], report: Report | None
) -> None:
    """Seed each part by its name, so that it stays the same however many others there are."""
    for done, (name, mask, kind) in enumerate(jobs, 1):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        part = render_part(rng, kind, size)
        _write_png(folder / name, cv2.cvtColor(part.image, cv2.COLOR_RGB2BGR))
        if mask is not None:
            _write_png(mask, part.mask)
        if report is not None:
            report(done, len(jobs))


def _write_png(path: Path, image: Layer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())


# ---- the good part


@dataclass(frozen=True, slots=True)
class _Blank:
    """What all parts share, in the part's own frame; each (H, W)."""

    base: Layer
    """Shading without grain, in DN."""
    turned: Layer
    """Where the lathe's grain shows, 0 to 1."""
    cast: Layer
    """Where the casting's skin shows, 0 to 1."""
    alpha: Layer
    """Share of the pixel that is metal."""
    shadow: Layer
    """Share of the lamp's light that the part keeps from the belt."""
    polar: tuple[Layer, Layer]
    """OpenCV's fixed-point maps from (H, W) into the (rings, angles) of the lathe's grain."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """A good part in the camera's frame, before light and noise."""

    picture: Layer
    """(H, W, 3) in DN."""
    belt: Layer
    """(H, W, 3) in DN: the belt in the part's shadow, as it would look through a hole."""
    alpha: Layer
    """(H, W): share of the pixel that is metal."""
    pose: Layer
    """(2, 3): from units (x, y, 1) about the part's centre to pixels (x, y)."""
    scale: float
    """Pixels per unit."""


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Layer:
    """Standard normal noise in 256 steps: several times faster than the generator's own."""
    raw = np.frombuffer(rng.bytes(math.prod(shape)), np.uint8).reshape(shape)
    return cv2.LUT(raw, _NORMAL)


def _ramp(x: Layer, start: float, stop: float) -> Layer:
    return np.clip((x - start) / (stop - start), 0.0, 1.0)


def _blur(layer: Layer, sigma_px: float) -> Layer:
    return cv2.GaussianBlur(layer, (0, 0), sigma_px)


def _moved(layer: Layer, x: float, y: float) -> Layer:
    step = np.array([[1, 0, x], [0, 1, y]], np.float32)
    return cv2.warpAffine(layer, step, layer.shape[::-1])


@lru_cache(maxsize=4)
def _blank(size: tuple[int, int]) -> _Blank:
    """Model the part as a height over (x, y), shade its slopes, average 3 x 3 samples a pixel."""
    fine, px = (size[0] * 3, size[1] * 3), min(size) / 480
    y, x = (np.indices(fine, np.float32) + 0.5 - np.reshape(fine, (2, 1, 1)) / 2) / (3 * px)
    r = np.hypot(x, y)  # (3H, 3W), like all layers here
    hole = np.min([np.hypot(x - hx, y - hy) for hx, hy in _HOLES], axis=0)
    solid = (r < _OUTER) & (r > _BORE) & (hole > _HOLE) & ((np.abs(x) > 9) | (y < 0) | (y > 76))
    base, level = _shade(_height(r, hole) * 3 * px)
    web = _ramp(r, 99, 100) * _ramp(-r, -168, -167) * _ramp(hole, 30, 31)
    mark = _mark(fine, 3 * px)

    def small(layer: Layer) -> Layer:
        return cv2.resize(layer.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)

    alpha = small(solid)
    cast_shadow = _blur(_moved(alpha, 7 * px, 8 * px), 5 * px)
    return _Blank(
        base=small(base * (1 - 0.5 * mark) * (1 - 0.14 * web)),
        turned=small(level * (1 - web)),
        cast=small(web * (1 - 0.6 * mark)),
        alpha=alpha,
        shadow=np.maximum(cast_shadow, 0.55 * _blur(alpha, 11 * px)),
        polar=_polar(size),
    )


def _polar(size: tuple[int, int]) -> tuple[Layer, Layer]:
    y, x = np.indices(size, np.float32) + 0.5 - np.reshape(size, (2, 1, 1)) / 2
    angle = (np.arctan2(y, x) / (2 * math.pi) + 0.5) * _ANGLES
    ring = np.hypot(x, y) * (480 / min(size)) * (_RINGS / (_OUTER + 5))
    return cv2.convertMaps(angle.astype(np.float32), ring.astype(np.float32), cv2.CV_16SC2)


def _height(r: Layer, hole: Layer) -> Layer:
    """Height in units from the distances to the part's centre and to the nearest hole's."""
    rim = -7 * _ramp(r, _OUTER - 8, _OUTER) - 2.5 * np.exp(-(((r - 180) / 2.5) ** 2))
    boss = 7 * _ramp(-r, -_BOSS - 3, -_BOSS + 4) - 6 * _ramp(-r, -_BORE - 7, -_BORE)
    return np.asarray(rim + boss - 5 * _ramp(-hole, -_HOLE - 6, -_HOLE))


def _shade(height: Layer) -> tuple[Layer, Layer]:
    """Brightness in DN under the lamp, and where the surface is level (0 to 1)."""
    dy, dx = np.gradient(height)
    up = 1 / np.sqrt(dx * dx + dy * dy + 1)
    half = np.add(_LAMP, (0, 0, 1)) / math.sqrt(2 + 2 * _LAMP[2])  # of lamp and camera
    facing, glint = (np.maximum((-dx * v[0] - dy * v[1] + v[2]) * up, 0) for v in (_LAMP, half))
    level = _ramp(up, 0.9, 0.99)
    return 22 + 124 * facing + 190 * (1 - level) * glint**24, level


def _mark(fine: tuple[int, int], scale: float) -> Layer:
    """The laser mark between two holes, (3H, 3W), 0 to 1; `scale` in pixels per unit."""
    layer, font, width = np.zeros(fine, np.uint8), cv2.FONT_HERSHEY_SIMPLEX, round(1.5 * scale)
    for text, row in (("INSPECTD", -138), ("FL-40 H7", -122)):
        length = cv2.getTextSize(text, font, 0.42 * scale, max(1, width))[0][0]
        at = (fine[1] // 2 - length // 2, fine[0] // 2 + round(row * scale))
        cv2.putText(layer, text, at, font, 0.42 * scale, 255, max(1, width), cv2.LINE_AA)
    return layer / np.float32(255)


@lru_cache(maxsize=4)
def _belt(size: tuple[int, int]) -> Layer:
    """A stretch of woven belt, (H + 256, W + 256) in DN; each part lies somewhere on it."""
    shape, rng = (size[0] + 256, size[1] + 256), np.random.default_rng(0)
    y, x = np.indices(shape, np.float32)
    weave = np.sin((x + y) * 0.9) * np.sin((x - y) * 0.9)
    wear = 40 * _blur(_noise(rng, shape), 9) + 2.5 * _blur(_noise(rng, shape), 0.8)
    return np.asarray(34 + 4 * weave + wear, np.float32)


@lru_cache(maxsize=1)
def _streaks() -> Layer:
    """How a turned face mirrors the lamps, by angle: (2 * angles,) in DN, two rounds."""
    angle = (np.arange(2 * _ANGLES) / _ANGLES - 0.5) * 2 * math.pi
    lobes = [(-2.25, 6.0, 82.0), (-0.6, 14.0, 40.0), (-1.45, 30.0, 18.0)]
    glow = [dn * np.exp(sharp * (np.cos(2 * (angle - at)) - 1)) for at, sharp, dn in lobes]
    return np.asarray(26 + np.sum(glow, axis=0), np.float32)


def _turned(rng: np.random.Generator, turn: float) -> Layer:
    """The lathe's grain, (rings, angles + 1) in DN; its streaks don't turn with the part."""
    wobble = (_noise(rng, (_RINGS,)) * 10 + turn / 360 * _ANGLES).astype(np.int64) % _ANGLES
    glow = np.lib.stride_tricks.sliding_window_view(_streaks(), _ANGLES)[wobble]
    arcs = cv2.copyMakeBorder(_noise(rng, (_RINGS, _ANGLES)), 0, 0, 18, 18, cv2.BORDER_WRAP)
    arcs = cv2.blur(arcs, (37, 1))[:, 18:-18]
    rings = 1 + 0.06 * _noise(rng, (_RINGS, 1))
    return cv2.copyMakeBorder(glow * (arcs + rings), 0, 0, 0, 1, cv2.BORDER_WRAP)


def _cast(rng: np.random.Generator, size: tuple[int, int]) -> Layer:
    """The casting's skin, (H, W) in DN: fine grit on slow mottling."""
    slow = cv2.resize(_noise(rng, (size[0] // 12, size[1] // 12)), size[::-1])
    return np.asarray(15 * _blur(_noise(rng, size), 0.9) + 2 * slow)


def _scene(rng: np.random.Generator, size: tuple[int, int]) -> _Scene:
    """Give a blank its texture and its pose, and lay it on the belt."""
    blank, scale, middle = _blank(size), min(size) / 480, (size[1] / 2 - 0.5, size[0] / 2 - 0.5)
    turn = rng.uniform(-3, 3)  # degrees
    pose: Layer = cv2.getRotationMatrix2D(middle, turn, 1.0)
    pose[:, 2] += rng.uniform(-4, 4, 2) * scale
    grain = cv2.remap(
        _turned(rng, turn), *blank.polar, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    metal = blank.base + blank.turned * grain + blank.cast * _cast(rng, size)
    layers = (metal, blank.alpha, blank.shadow)  # one by one: twice as fast as merged
    metal, alpha, shadow = (cv2.warpAffine(layer, pose, size[::-1]) for layer in layers)
    top, left = rng.integers(0, 256, 2)
    belt = _belt(size)[top : top + size[0], left : left + size[1]] * (1 - 0.72 * shadow)
    metal, under = metal * alpha, belt * (1 - alpha)
    picture = cv2.merge([metal * s + under * b for s, b in zip(_STEEL, _BELT, strict=True)])
    to_px = np.column_stack([pose[:, :2] * scale, pose @ (*middle, 1.0)])
    return _Scene(picture, cv2.merge([belt * b for b in _BELT]), alpha, to_px, scale)


def _light(rng: np.random.Generator, size: tuple[int, int]) -> Layer:
    """The lamp's gain, colour and gradient on this part, (H, W, 3), about 1."""
    slope_y, slope_x = rng.uniform(-0.05, 0.05, 2)
    gains = rng.uniform(0.93, 1.07) * rng.uniform(0.99, 1.01, 3)
    rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in size)
    field: Layer = 1 + slope_y * rows[:, None] + slope_x * columns
    return cv2.merge([np.asarray(field * gain, np.float32) for gain in gains])


def _quantise(picture: Layer) -> ImageArray:
    return np.asarray(cv2.convertScaleAbs(np.maximum(picture, 0)), np.uint8)


# ---- defects: a painter returns the scene's picture with a defect, from modest (0.75) to plain (1)


def _with_defect(
    rng: np.random.Generator, scene: _Scene, light: Layer, kind: str
) -> tuple[Layer, MaskArray]:
    """The lit picture (H, W, 3) with the defect, and the mask (H, W) of what visibly changed."""
    clean, least_px = np.clip(scene.picture * light, 0, 255), max(6.0, 40 * scene.scale**2)
    strength = rng.uniform(0.75, 1.0)
    for _ in range(16):  # a defect that came out invisible is painted elsewhere, and stronger
        lit = _PAINTERS[kind](rng, scene, strength) * light
        change = cv2.absdiff(np.clip(lit, 0, 255), clean)
        mask = cv2.inRange(change, (0, 0, 0), (VISIBLE_DN,) * 3) ^ 255
        if cv2.countNonZero(mask) >= least_px:
            break
        strength = min(1.0, strength * 1.25)
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    return lit, np.asarray(closed, np.uint8)


def _spot(rng: np.random.Generator, scene: _Scene) -> Layer:
    """A random pixel (x, y) on the metal."""
    r, angle = rng.uniform(_BORE + 8, _OUTER - 8, 64), rng.uniform(-math.pi, math.pi, 64)
    spots = scene.pose @ np.stack([r * np.cos(angle), r * np.sin(angle), np.ones(64)])  # (2, 64)
    columns, rows = np.rint(spots).astype(int)
    return np.asarray(spots[:, np.argmax(scene.alpha[rows, columns])])


def _curve(rng: np.random.Generator, start: Layer, length_px: float, bend: float) -> Layer:
    """(32, 2) pixels (x, y) of a curve that turns by about `bend` radians."""
    turns = np.cumsum(rng.normal(0, 0.08 * bend, 32)) + np.linspace(-bend / 2, bend / 2, 32)
    heading = rng.uniform(-math.pi, math.pi) + turns
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * length_px / 32
    return np.asarray(start + np.cumsum(steps, axis=0))


def _stroke(scene: _Scene, points: Layer, width_px: float) -> Layer:
    """A smooth line that fades at both ends, (H, W), 0 to 1."""
    layer, sigma = np.zeros(scene.alpha.shape, np.uint8), max(0.55, 0.45 * width_px)
    fixed = np.rint(points * 16).astype(int)
    weights = np.sin(np.linspace(0.1, math.pi - 0.1, len(points) - 1)) ** 0.7
    for a, b, weight in zip(fixed[:-1], fixed[1:], weights, strict=True):
        cv2.line(layer, a, b, 255 * weight, 1, cv2.LINE_AA, shift=4)
    soft = _blur(layer / np.float32(255), sigma)
    return np.minimum(soft * (2.2 * sigma), 1)  # blurring spread the line: make up for it


def _blob(
    rng: np.random.Generator, scene: _Scene, centre: Layer, radius_px: float, rough: float
) -> Layer:
    """A ragged patch, (H, W), 0 to 1."""
    angle = np.linspace(0, 2 * math.pi, 28, endpoint=False) + rng.uniform(0, 6)
    bumps = rng.normal(0, rough, 28)
    radii = radius_px * np.clip(1 + bumps + np.roll(bumps, 1), 0.4, 1.6)
    rim = np.stack([np.cos(angle) * radii, np.sin(angle) * radii * rng.uniform(0.7, 1.0)], axis=1)
    layer = np.zeros(scene.alpha.shape, np.uint8)
    fixed = np.rint((centre + rim) * 16).astype(np.int32)
    cv2.fillPoly(layer, [fixed], 255, cv2.LINE_AA, shift=4)
    return _blur(layer / np.float32(255), 0.6)


def _slope(pit: Layer, soft_px: float) -> Layer:
    """How much the walls of a pit (H, W) face the lamp, -1 to 1."""
    depth = _blur(pit, soft_px)
    dx, dy = cv2.Sobel(depth, cv2.CV_32F, 1, 0), cv2.Sobel(depth, cv2.CV_32F, 0, 1)
    facing = dx * _LAMP[0] + dy * _LAMP[1]
    return np.asarray(facing / max(float(np.abs(facing).max()), 1e-6))


def _rgb(layer: Layer) -> Layer:
    """(H, W) to (H, W, 3); several times faster than broadcasting over an axis of 3."""
    return cv2.merge([layer] * 3)


def _mix(picture: Layer, other: Layer, weight: Layer) -> Layer:
    return np.asarray(picture + (other - picture) * _rgb(weight))


def _any_of(rng: np.random.Generator, *colours: tuple[int, int, int]) -> Layer:
    return np.array(colours[rng.integers(len(colours))], np.float32)


def _scratch(rng: np.random.Generator, scene: _Scene, strength: float) -> Layer:
    """One to three near-parallel scores: a bright groove beside a dark flank, or the reverse."""
    length, bend = rng.uniform(40, 150) * scene.scale, rng.uniform(0, 0.7)
    points = _curve(rng, _spot(rng, scene), length, bend)
    groove = _stroke(scene, points, rng.uniform(0.6, 2.2) * scene.scale)
    for _ in range(rng.integers(0, 3)):
        beside = points[rng.integers(0, 16) :] + rng.uniform(-8, 8, 2) * scene.scale
        groove = np.maximum(groove, 0.7 * _stroke(scene, beside, scene.scale))
    groove = groove * scene.alpha
    ground = np.average(scene.picture[..., 1], weights=groove + 1e-6)
    contrast = (45 + 110 * strength) * (-1 if ground > 165 else 1)  # DN
    return np.asarray(scene.picture + _rgb((groove - 0.55 * _moved(groove, 1, 1)) * contrast))


def _chip(rng: np.random.Generator, scene: _Scene, strength: float) -> Layer:
    """A piece broken out of rim, bore or hole: a rough facet, and belt where the metal is gone."""
    edges = [(0.0, 0.0, _OUTER, -1), (0.0, 0.0, _BORE, 1), *((*hole, _HOLE, 1) for hole in _HOLES)]
    x, y, edge, inward = edges[rng.choice(8, p=[0.5, 0.2, *[0.05] * 6])]
    angle, radius = rng.uniform(-math.pi, math.pi), 5 + 15 * strength * rng.uniform(0.4, 1.0)

    def patch(depth: float, size: float, rough: float) -> Layer:
        r = edge + inward * depth * radius
        centre = scene.pose @ (x + r * math.cos(angle), y + r * math.sin(angle), 1.0)
        return _blob(rng, scene, centre, size * radius * scene.scale, rough)

    facet, gone = patch(0.15, 1.0, 0.05), patch(-0.35, 0.8, 0.08)
    grit = 20 * _blur(_noise(rng, facet.shape), 1.0)
    stone = 96 + 90 * _slope(facet, 0.35 * radius * scene.scale) + grit  # (H, W) in DN
    broken = _mix(scene.picture, _rgb(stone), facet * scene.alpha)
    return _mix(broken, scene.belt, gone * scene.alpha)


def _dent(rng: np.random.Generator, scene: _Scene, strength: float) -> Layer:
    """A knock: the wall towards the lamp turns dark, the one opposite catches the light."""
    radius = rng.uniform(5, 20) * scene.scale
    pit = _blob(rng, scene, _spot(rng, scene), radius, 0.06)
    change = 0.6 * _slope(pit, 0.3 * radius) - 0.22 * _blur(pit, 0.3 * radius)
    return np.asarray(scene.picture * _rgb(1 + strength * change * scene.alpha))


def _contamination(rng: np.random.Generator, scene: _Scene, strength: float) -> Layer:
    """An oil stain, a few specks or a fibre."""
    return (_oil, _specks, _fibre)[rng.integers(3)](rng, scene, strength)


def _oil(rng: np.random.Generator, scene: _Scene, strength: float) -> Layer:
    radius = rng.uniform(9, 26) * scene.scale
    film = _blob(rng, scene, _spot(rng, scene), radius, 0.10)
    soft = _blur(film, 0.2 * radius)
    weight = 0.6 * strength * (soft + film * (1 - soft)) * scene.alpha  # its edge is darker
    stained = scene.picture * np.array((0.52, 0.40, 0.20), np.float32)
    return _mix(scene.picture, stained, weight)


def _specks(rng: np.random.Generator, scene: _Scene, strength: float) -> Layer:
    spot, dirt = _spot(rng, scene), np.zeros_like(scene.alpha)
    for _ in range(rng.integers(3, 10)):
        at = spot + rng.normal(0, 11, 2) * scene.scale
        dirt = np.maximum(dirt, _blob(rng, scene, at, rng.uniform(1, 4) * scene.scale, 0.12))
    colour = _any_of(rng, (52, 44, 36), (60, 34, 20))
    return _mix(scene.picture, colour, dirt * scene.alpha * strength)


def _fibre(rng: np.random.Generator, scene: _Scene, strength: float) -> Layer:
    length, bend = rng.uniform(40, 110) * scene.scale, rng.uniform(1.0, 5.0)
    hair = _stroke(scene, _curve(rng, _spot(rng, scene), length, bend), scene.scale)
    colour = _any_of(rng, (36, 50, 92), (40, 36, 34), (120, 40, 34))
    return _mix(scene.picture, colour, hair * min(1.0, 0.2 + strength))


_PAINTERS: dict[str, Callable[[np.random.Generator, _Scene, float], Layer]] = {
    "scratch": _scratch,
    "chip": _chip,
    "dent": _dent,
    "contamination": _contamination,
}
