"""The kept pictures of hold-out parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calibration.gallery import (
    EMPTY,
    NEAR,
    Exhibit,
    draw_gallery,
    read_gallery,
    worst,
    write_gallery,
)
from inspectd.core.bundle import SAMPLES, Bundle, open_bundle, sha256_of, write_manifest
from inspectd.core.errors import BundleError


@pytest.fixture
def bundle(tmp_path: Path, make_bundle: Callable[[Path], Bundle]) -> Bundle:
    """A bundle made by hand, without pictures of hold-out parts."""
    return make_bundle(tmp_path / "r0001-0123abcd")


def _sealed(bundle: Bundle) -> Bundle:
    files = {**bundle.manifest.files, SAMPLES: sha256_of(bundle.path / SAMPLES)}
    write_manifest(bundle.path, bundle.manifest.model_copy(update={"files": files}))
    return open_bundle(bundle.path)


def test_what_was_drawn_comes_back(bundle: Bundle) -> None:
    """Three pictures a part, by its place in the hold-out set, with scale and pixel threshold."""
    hot = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    image = np.full((16, 16, 3), 90, np.uint8)
    gallery = draw_gallery({3: Exhibit(image, hot, None), 7: Exhibit(image, hot, hot > 0.5)}, 0.95)
    assert {len(pictures) for pictures in gallery.pictures.values()} == {3}
    assert gallery.pictures[3][:2] == gallery.pictures[7][:2]
    assert gallery.pictures[3][2] != gallery.pictures[7][2]
    write_gallery(bundle.path, gallery)
    assert read_gallery(_sealed(bundle)) == gallery


def test_the_scale_can_be_another_sets() -> None:
    """With a scale of its own a part is drawn on that, whatever its own map holds."""
    hot = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    exhibits = {0: Exhibit(np.full((16, 16, 3), 90, np.uint8), hot, None)}
    suited, given = draw_gallery(exhibits, None), draw_gallery(exhibits, None, (2.0, 3.0))
    assert given.heat == (2.0, 3.0)
    assert given.pictures[0][1] == given.pictures[0][0]  # all below the scale: no heat
    assert suited.pictures[0][1] != suited.pictures[0][0]


def test_an_older_revision_has_no_pictures(bundle: Bundle) -> None:
    """Version 1 kept none: the report then goes without."""
    assert read_gallery(bundle) == EMPTY


@pytest.mark.parametrize("content", ["", "[]", '{"heat": [0], "pixel": null, "pictures": {}}'])
def test_pictures_of_another_form_are_refused(bundle: Bundle, content: str) -> None:
    """A file that isn't what is written is named."""
    (bundle.path / SAMPLES).write_text(content)
    with pytest.raises(BundleError, match=SAMPLES):
        read_gallery(_sealed(bundle))


def test_the_worst_of_each_class_are_kept() -> None:
    """The lowest defects and the highest good parts, whatever the threshold."""
    scores, is_defect = np.arange(100.0), np.arange(100) % 2 == 1
    wanted = {*range(1, 2 * NEAR, 2), *range(100 - 2 * NEAR, 100, 2)}
    assert worst(scores, is_defect) == wanted
    assert worst(scores[:3], is_defect[:3]) == {0, 1, 2}
