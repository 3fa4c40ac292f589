"""Kinds, mixes and seen defects."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from calibration.anomalies import PAPER, UNSEEN, Kind, Mix, SeenDefect
from inspectd.core.errors import ConfigError, DatasetError


@pytest.mark.parametrize("start", [0, 1000])
def test_a_mix_keeps_its_shares_in_any_run(start: int) -> None:
    """Of any 32 indexes about half are extended and a quarter each of the others."""
    counts = Counter(PAPER.kind_of(index) for index in range(start, start + 32))
    assert counts[Kind.EXTENDED] == pytest.approx(16, abs=1)
    assert counts[Kind.HETEROLOGOUS] == pytest.approx(8, abs=1)
    assert counts[Kind.HOMOLOGOUS] == pytest.approx(8, abs=1)


def test_a_kind_without_a_share_never_comes() -> None:
    """Without seen defects there is no extended anomaly, and one kind alone is always it."""
    assert {UNSEEN.kind_of(index) for index in range(100)} == {Kind.HETEROLOGOUS, Kind.HOMOLOGOUS}
    assert {Mix(0, 0, 3).kind_of(index) for index in range(100)} == {Kind.HOMOLOGOUS}


@pytest.mark.parametrize("shares", [(0, 0, 0), (-1, 1, 1)])
def test_impossible_shares_are_refused(shares: tuple[float, float, float]) -> None:
    """All zero or negative."""
    with pytest.raises(ConfigError):
        Mix(*shares)


def test_a_mask_of_another_size_is_refused() -> None:
    """Both sizes are in the message, (H, W)."""
    with pytest.raises(DatasetError, match=r"x\.png: the picture is 8 x 9 but its mask 9 x 8"):
        SeenDefect(np.zeros((8, 9, 3), np.uint8), np.ones((9, 8), np.uint8), "x.png")


def test_an_empty_mask_is_refused() -> None:
    """There is nothing to cut out."""
    with pytest.raises(DatasetError, match="marks nothing"):
        SeenDefect(np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9), np.uint8))
