"""Anomalies: visible, honestly masked, repeatable in any order, within the part."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from calibration.anomalies import (
    AnomalyGenerator,
    Kind,
    ProceduralTextures,
    SimulatedDefect,
    Style,
)
from calibration.anomalies.areas import foreground
from inspectd.core.errors import DatasetError
from inspectd.core.records import ImageArray


class Same:
    """A texture source that gives the picture itself: nothing of it can be seen."""

    def draw(self, image: ImageArray, rng: np.random.Generator) -> ImageArray:
        """The picture."""
        return image


def _digest(defects: Sequence[SimulatedDefect]) -> list[bytes]:
    return [defect.image.tobytes() + defect.mask.tobytes() for defect in defects]


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("name", ["part", "black", "white", "noise", "small", "odd"])
def test_the_mask_marks_what_visibly_changed(
    generator: AnomalyGenerator, pictures: dict[str, np.ndarray], name: str, kind: Kind
) -> None:
    """Some pixels are marked, each changed visibly; the good picture itself stays as it was."""
    image = pictures[name]
    kept = image.copy()
    alone = replace(generator, good=[image])
    for index in range(6):
        defect = alone.sample(index, kind)
        change = np.abs(defect.image.astype(int) - image).max(axis=2)
        assert defect.image.shape == image.shape
        assert defect.image.dtype == defect.mask.dtype == np.uint8
        assert set(np.unique(defect.mask)) == {0, 255}
        assert change[defect.mask > 0].min() >= alone.style.visible
        assert (defect.mask > 0).sum() >= 16
    np.testing.assert_array_equal(image, kept)


@pytest.mark.parametrize("kind", Kind)
def test_most_of_what_changed_is_marked(generator: AnomalyGenerator, kind: Kind) -> None:
    """Visible changes outside the mask don't exist: the edge fades inward."""
    for index in range(10):
        defect = generator.sample(index, kind)
        change = np.abs(defect.image.astype(int) - generator.good[defect.good]).max(axis=2)
        np.testing.assert_array_equal(change >= generator.style.visible, defect.mask > 0)


def test_a_sample_depends_on_seed_index_and_kind_only(generator: AnomalyGenerator) -> None:
    """Asked for backwards, or of a copy in another process, the samples are the same."""
    jobs = [(index, kind) for index in range(3) for kind in Kind]
    forward = _digest([generator.sample(*job) for job in jobs])
    backward = _digest([generator.sample(*job) for job in reversed(jobs)])
    copy = pickle.loads(pickle.dumps(generator))  # noqa: S301 - made a line above
    assert forward == backward[::-1] == _digest([copy.sample(*job) for job in jobs])
    assert len(set(forward)) == len(jobs)
    other = replace(generator, seed=5)
    assert not set(forward) & set(_digest([other.sample(*job) for job in jobs]))


def test_every_good_picture_is_used(generator: AnomalyGenerator) -> None:
    """Unless told which, a sample takes any of them; told which, it takes that one."""
    assert {generator.sample(index, Kind.HOMOLOGOUS).good for index in range(20)} == {0, 1, 2}
    assert generator.sample_on(2, 0, Kind.HOMOLOGOUS).good == 2


@pytest.mark.parametrize("kind", Kind)
def test_defects_lie_on_the_part(generator: AnomalyGenerator, kind: Kind) -> None:
    """On a plain belt no defect is drawn, for none would ever be there."""
    for index in range(15):
        defect = generator.sample(index, kind)
        assert foreground(generator.good[defect.good])[defect.mask > 0].all()


def test_an_extended_anomaly_shows_the_seen_defect(generator: AnomalyGenerator) -> None:
    """It is no larger than the seen one, and with the opacity its level comes near."""
    plain = replace(generator, style=Style(extended_area=(0.9, 0.95), extended_opacity=(1, 1)))
    sizes = [(plain.sample(index, Kind.EXTENDED).mask > 0).sum() for index in range(10)]
    assert max(sizes) <= 1.15 * 8 * 30
    assert np.median(sizes) > 0.4 * 8 * 30


def test_extended_anomalies_need_seen_defects(generator: AnomalyGenerator) -> None:
    """Without one the error says what to give."""
    with pytest.raises(DatasetError, match="pictures of defects with masks"):
        replace(generator, seen=()).sample(0, Kind.EXTENDED)


def test_good_pictures_are_needed() -> None:
    """An empty sequence is refused at once."""
    with pytest.raises(DatasetError, match="there is none"):
        AnomalyGenerator([])


def test_what_cannot_be_seen_falls_back_to_a_spot(
    pictures: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every draw is invisible a plain spot is drawn on the part, and said to be one."""
    monkeypatch.setattr("calibration.anomalies.generator.augment_colours", lambda image, _: image)
    image = pictures["part"]
    defect = AnomalyGenerator([image], textures=Same()).sample(0, Kind.HETEROLOGOUS)
    assert defect.is_fallback
    assert (defect.mask > 0).sum() >= 16
    change = np.abs(defect.image.astype(int) - image).max(axis=2)
    assert change[defect.mask > 0].min() >= 43
    assert not AnomalyGenerator([image]).sample(0, Kind.HETEROLOGOUS).is_fallback


def test_a_read_only_picture_is_enough() -> None:
    """Pictures from disk are read-only."""
    image = np.full((40, 40, 3), 90, np.uint8)
    image.setflags(write=False)
    for kind in (Kind.HETEROLOGOUS, Kind.HOMOLOGOUS):
        assert AnomalyGenerator([image]).sample(0, kind).mask.any()


def test_faint_styles_are_fainter(generator: AnomalyGenerator) -> None:
    """With a smaller opacity the picture changes less."""
    faint = replace(generator, style=Style(opacity=(0.2, 0.3), visible=5))
    plain = replace(generator, style=Style(opacity=(0.9, 1.0), visible=5))

    def change(made: AnomalyGenerator, index: int) -> float:
        defect = made.sample(index, Kind.HETEROLOGOUS)
        difference = np.abs(defect.image.astype(int) - made.good[defect.good]).max(axis=2)
        return float(difference[defect.mask > 0].mean())

    means = [np.mean([change(made, index) for index in range(15)]) for made in (faint, plain)]
    assert 2 * means[0] < means[1]


def test_textures_are_the_source(generator: AnomalyGenerator) -> None:
    """Another texture source makes other heterologous anomalies and the same homologous ones."""
    other = replace(generator, textures=Same())
    same = replace(generator, textures=ProceduralTextures())
    for kind, is_same in ((Kind.HETEROLOGOUS, False), (Kind.HOMOLOGOUS, True)):
        first, second = other.sample(0, kind), same.sample(0, kind)
        assert np.array_equal(first.image, second.image) is is_same


@pytest.mark.parametrize(("name", "is_coloured"), [("black", False), ("part", True)])
def test_a_grey_picture_gets_grey_textures(
    pictures: dict[str, np.ndarray], name: str, is_coloured: bool
) -> None:
    """What a grey camera saw has no colour afterwards; a coloured picture may get some."""
    made = AnomalyGenerator([pictures[name]])
    defects = [made.sample(index, Kind.HETEROLOGOUS) for index in range(8)]
    spreads = [np.ptp(one.image[one.mask > 0].astype(int), axis=1).max() for one in defects]
    assert bool(max(spreads) > 30) is is_coloured
    assert is_coloured or max(spreads) == 0


@pytest.mark.parametrize("kind", Kind)
def test_a_defect_lies_where_it_may(generator: AnomalyGenerator, kind: Kind) -> None:
    """Each picture has a region of its own; where no part is in it, the region itself counts."""
    regions = [np.zeros(one.shape[:2], np.uint8) for one in generator.good]
    regions[0][40:60, 50:70] = 255  # on the part
    regions[1][:20, :30] = 255  # off the part
    regions[2][50:, :] = 255
    bounded = replace(generator, regions=regions)
    for index in range(9):
        defect = bounded.sample_on(index % 3, index, kind)
        if not defect.is_fallback:
            assert regions[index % 3][defect.mask > 0].all()
    free = [generator.sample_on(0, index, kind).mask for index in range(9)]
    assert any((mask > 0)[regions[0] == 0].any() for mask in free)


def test_an_extended_anomaly_shows_the_defect_where_it_is_marked(
    generator: AnomalyGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Picture and mask are turned, sheared and moved together: under the mask lies the bar."""
    monkeypatch.setattr("calibration.anomalies.generator.augment_colours", lambda image, _: image)
    style = replace(generator.style, extended_opacity=(1.0, 1.0), softness=0.0)
    plain = replace(generator, style=style)
    shares = []
    for index in range(12):
        defect = plain.sample(index, Kind.EXTENDED)
        if not defect.is_fallback:
            marked = defect.image[defect.mask > 0].astype(int)
            shares.append((np.abs(marked - (250, 240, 230)).max(axis=1) < 30).mean())
    assert len(shares) > 6
    assert min(shares) > 0.7
