"""Sampling of patches: bounded, even, repeatable, and normalised as the graph does it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import calibration.features
from calibration.backbones import Backbone, load_backbone
from calibration.features import half_array, sample_patches
from calibration.graph import ScoringGraph
from calibration.scorers.protoad import PublishedHead, patch_features
from inspectd.core.errors import ConfigError
from inspectd.core.records import ImageArray

SIZE = (64, 64)
EACH = 16 * 16
"""Patches of one picture."""


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """The built-in one."""
    return load_backbone("filterbank")


def _images(count: int = 6) -> list[ImageArray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(count)]


def _sampled(backbone: Backbone, limit: int, seed: int = 0, count: int = 6) -> np.ndarray:
    return sample_patches(
        _images(count),
        backbone,
        patch_features,
        limit=limit,
        seed=seed,
        report=lambda done, total: None,
    )


@pytest.mark.parametrize("limit", [1, 5, 6, 7, 100, 1000, 6 * EACH, 10**6])
def test_the_limit_is_kept(backbone: Backbone, limit: int) -> None:
    """Never more than the limit, and all there are where it doesn't bind."""
    patches = _sampled(backbone, limit)
    assert patches.dtype == np.float32
    assert limit - 6 < len(patches) <= limit or len(patches) == 6 * EACH
    np.testing.assert_allclose(np.linalg.norm(patches, axis=1), 1, atol=1e-5)


def test_each_picture_gives_as_many(backbone: Backbone) -> None:
    """No picture counts more than another, and a patch is drawn but once."""
    everything = _sampled(backbone, 10**6)
    owner = {row.tobytes(): index // EACH for index, row in enumerate(everything)}
    drawn = [row.tobytes() for row in _sampled(backbone, 60)]
    assert len(set(drawn)) == 60
    np.testing.assert_array_equal(np.bincount([owner[row] for row in drawn]), [10] * 6)


def test_the_seed_decides_the_draw(backbone: Backbone) -> None:
    """The same seed draws the same patches, another one others."""
    first = _sampled(backbone, 60, seed=1)
    np.testing.assert_array_equal(first, _sampled(backbone, 60, seed=1))
    assert (first != _sampled(backbone, 60, seed=2)).any()


def test_progress_ends_at_the_last_picture(backbone: Backbone) -> None:
    """The report counts pictures upwards and ends at their number."""
    seen: list[tuple[int, int]] = []
    sample_patches(
        _images(),
        backbone,
        patch_features,
        limit=10,
        seed=0,
        report=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (6, 6)
    assert seen == sorted(seen)


def test_read_only_pictures_are_enough(backbone: Backbone) -> None:
    """Pictures from disk are read-only."""
    images = _images(4)
    for image in images:
        image.setflags(write=False)
    patches = sample_patches(
        images, backbone, patch_features, limit=8, seed=0, report=lambda done, total: None
    )
    assert len(patches) == 8


def test_what_was_learned_scores_zero(backbone: Backbone) -> None:
    """With all patches of a picture as prototypes the graph finds nothing new in it.

    So features are learned from the very numbers that the graph computes: preprocessing lives once.
    """
    patches = torch.from_numpy(_sampled(backbone, 10**6, count=1))
    graph = ScoringGraph(backbone, PublishedHead(patches), SIZE)
    with torch.inference_mode():
        values, score = graph(torch.tensor(_images(1)[0][None]))
        _, other = graph(torch.zeros((1, *SIZE, 3), dtype=torch.uint8))
    assert float(values.abs().max()) < 1e-5
    assert float(score) < 1e-5
    assert float(other) > 0.05


def test_large_features_need_their_room_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk can't hold is refused with a remedy; a hole in a file would kill later."""
    monkeypatch.setattr(calibration.features, "MEMORY", 1000)
    found = half_array((3, 4, 256))
    found[:] = 1.5
    assert found.sum() == 1.5 * 3 * 4 * 256
    with pytest.raises(ConfigError, match=r"no room for .* GB .* set TMPDIR"):
        half_array((2**20, 2**20, 2**9))
