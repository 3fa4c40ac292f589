"""Textures from procedures and from folders."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.anomalies import FolderTextures, ProceduralTextures
from calibration.anomalies.textures import FAMILIES, LONGEST
from inspectd.core.errors import DatasetError, ImageError

IMAGE = np.full((48, 70, 3), 128, np.uint8)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(48, 70), (33, 32)])
def test_families_fill_the_size_with_shares(family, size: tuple[int, int]) -> None:
    """(H, W) in [0, 1], the same for the same state."""
    for seed in range(5):
        pattern = family(size, np.random.default_rng(seed))
        assert pattern.shape == size
        assert pattern.dtype == np.float32
        assert 0 <= pattern.min() <= pattern.max() <= 1
        np.testing.assert_array_equal(pattern, family(size, np.random.default_rng(seed)))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.__name__ != "plain"])
def test_families_have_a_pattern(family) -> None:
    """All but the plain one vary over the picture."""
    patterns = [family((64, 64), np.random.default_rng(seed)) for seed in range(5)]
    assert np.mean([pattern.std() for pattern in patterns]) > 0.05


def test_drawn_textures_vary() -> None:
    """Twenty draws are twenty different pictures of the size asked for, darker and lighter."""
    rng = np.random.default_rng(0)
    drawn = [ProceduralTextures().draw(IMAGE, rng) for _ in range(20)]
    assert {texture.shape for texture in drawn} == {IMAGE.shape}
    assert len({texture.tobytes() for texture in drawn}) == 20
    means = [texture.mean() for texture in drawn]
    assert min(means) < 110
    assert max(means) > 146


def test_a_folder_is_read_with_the_folders_in_it(tmp_path: Path) -> None:
    """Large pictures are made smaller, grey ones get three channels, small ones go on mirrored."""
    (tmp_path / "woven").mkdir()
    cv2.imwrite(str(tmp_path / "large.png"), np.full((900, 40, 3), 250, np.uint8))
    cv2.imwrite(str(tmp_path / "woven" / "grey.png"), np.full((10, 12), 250, np.uint8))
    source = FolderTextures(tmp_path)
    assert [picture.shape for picture in source.pictures] == [(LONGEST, 17, 3), (10, 12, 3)]
    for seed in range(6):
        texture = source.draw(IMAGE, np.random.default_rng(seed))
        assert texture.shape == IMAGE.shape
        assert texture.min() >= 249


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    """It says which folder, and what belongs there."""
    with pytest.raises(DatasetError, match="no picture in it"):
        FolderTextures(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        FolderTextures(tmp_path / "absent")


def test_an_unreadable_texture_is_named(tmp_path: Path) -> None:
    """It fails at once, not in the middle of training."""
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"broken\.png"):
        FolderTextures(tmp_path)
