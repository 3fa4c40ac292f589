"""What PRN is taught: shares of a batch, kinds, cached features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.anomalies import AnomalyGenerator, Kind, SeenDefect
from calibration.backbones import load_backbone
from calibration.prn.examples import Anomalies, Frozen, Shares, seen_defects
from calibration.scorers import Labelled
from inspectd.core.records import ImageArray

KINDS = tuple(Kind)


def _pictures(count: int = 5) -> list[ImageArray]:
    rng = np.random.default_rng(0)
    return [rng.integers(90, 166, (64, 64, 3), dtype=np.uint8) for _ in range(count)]


def _seen() -> list[SeenDefect]:
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 255
    image = _pictures(1)[0].copy()
    image[mask > 0] = 250
    return [SeenDefect(image, mask, "scratch/0.png")]


def _anomalies(
    seen: list[SeenDefect], kinds: tuple[Kind, ...] = KINDS, unchanged: float = 0.0
) -> Anomalies:
    return Anomalies(AnomalyGenerator(_pictures(), seen), kinds, Shares(8, unchanged))


@pytest.mark.parametrize(("batch", "parts"), [(64, (32, 16, 16)), (8, (4, 2, 2)), (5, (2, 1, 2))])
def test_a_batch_has_the_papers_shares(batch: int, parts: tuple[int, int, int]) -> None:
    """Section 4.1's 32, 16 and 16, or as near as the batch allows."""
    shares = Shares(batch, 0.0)
    assert (shares.normal, shares.extended, shares.simulated) == parts


def test_extended_anomalies_come_first_and_the_simulated_ones_take_turns() -> None:
    """Two extended ones, then both simulated kinds, in another order in the next batch."""
    anomalies = _anomalies(_seen())
    rows = [[anomalies.kind_of(8 * step + at, at) for at in range(4)] for step in range(2)]
    simulated = {Kind.HETEROLOGOUS, Kind.HOMOLOGOUS}
    for row in rows:
        assert row[:2] == [Kind.EXTENDED] * 2
        assert set(row[2:]) == simulated
    assert rows[0] != rows[1]


def test_without_seen_defects_all_anomalies_are_simulated() -> None:
    """Table 5's row without extended anomalies."""
    anomalies = _anomalies([])
    kinds = {anomalies.kind_of(at, at % 4) for at in range(16)}
    assert kinds == {Kind.HETEROLOGOUS, Kind.HOMOLOGOUS}
    assert len(anomalies.draw(0, np.random.default_rng(0))) == 4


def test_extended_anomalies_alone_fill_the_batch() -> None:
    """Table 5's first row."""
    anomalies = _anomalies(_seen(), (Kind.EXTENDED,))
    assert {anomalies.kind_of(at, at % 4) for at in range(8)} == {Kind.EXTENDED}


def test_seen_defects_are_shown_as_they_are_if_wanted() -> None:
    """All extended ones at a share of 1, none at 0."""
    seen = _seen()
    always = _anomalies(seen, unchanged=1.0).draw(0, np.random.default_rng(0))
    never = _anomalies(seen, unchanged=0.0).draw(0, np.random.default_rng(0))
    assert [np.array_equal(one.image, seen[0].image) for one in always] == [True] * 2 + [False] * 2
    assert not any(np.array_equal(one.image, seen[0].image) for one in never)


def test_the_same_step_draws_the_same_batch() -> None:
    """So that a resumed training goes on as it would have."""
    anomalies = _anomalies(_seen(), unchanged=0.5)
    first, again, other = (anomalies.draw(step, np.random.default_rng(step)) for step in (3, 3, 4))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, same.image)
        np.testing.assert_array_equal(one.mask, same.mask)
    assert not all(np.array_equal(a.image, b.image) for a, b in zip(first, other, strict=True))


def test_frozen_stages_are_the_backbones() -> None:
    """Three maps, without gradients; a tensor that can be trained on."""
    stages = Frozen(load_backbone("filterbank").network, "cpu").stages(_pictures(2))
    assert [stage.shape[2] for stage in stages] == [16, 8, 4]
    assert not any(stage.requires_grad or stage.is_inference() for stage in stages)


def test_a_seen_defect_outside_the_crop_teaches_nothing() -> None:
    """Neither does one without a mask."""
    image, mask = _seen()[0].image, _seen()[0].mask
    shown = [
        Labelled("a/0.png", "a", image, mask),
        Labelled("a/1.png", "a", image, np.zeros_like(mask)),
        Labelled("a/2.png", "a", image, None),
    ]
    assert [one.name for one in seen_defects(shown)] == ["a/0.png"]


def test_a_seen_defect_outside_the_region_teaches_nothing() -> None:
    """What lies half inside keeps that half."""
    image, mask = _seen()[0].image, _seen()[0].mask
    left, top = np.zeros_like(mask), np.zeros_like(mask)
    left[:, :10] = 255
    top[:30] = 255
    shown = [Labelled("a/0.png", "a", image, mask, one) for one in (left, top)]
    (kept,) = seen_defects(shown)
    assert kept.region is top
    assert kept.mask.any()
    np.testing.assert_array_equal(kept.mask, np.where(top > 0, mask, 0))


def test_anomalies_say_where_their_picture_is_inspected() -> None:
    """Each the region of its own picture, or of the seen defect's."""
    regions = [np.full((64, 64), index + 1, np.uint8) for index in range(5)]
    seen = [replace(_seen()[0], region=np.full((64, 64), 9, np.uint8))]
    generator = AnomalyGenerator(_pictures(), seen, regions=regions)
    anomalies = Anomalies(generator, KINDS, Shares(8, 1.0))
    shown = anomalies.draw(0, np.random.default_rng(0))
    kinds = [int(one.region[0, 0]) for one in shown if one.region is not None]
    assert kinds[:2] == [9, 9]
    for one, index in zip(shown[2:], kinds[2:], strict=True):
        changed = (one.image != generator.good[index - 1]).any(axis=2)
        assert changed[one.mask > 0].all()
        assert changed.mean() < 1
