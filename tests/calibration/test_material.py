"""What is taught, and what is kept to judge by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.dataset import Sample, find_holdout
from calibration.material import PreparedSamples, SimulatedSamples, draw_seen
from inspectd.core.preprocess import Preprocessing
from inspectd.core.scope import WHOLE

PREPROCESSING = Preprocessing(resize=(64, 64), crop=(48, 56))


def _samples(**kinds: int) -> list[Sample]:
    """So many pictures of each kind; all but good ones have masks."""
    return [
        Sample(Path(f"{kind}/{index}.png"), kind, None if kind == "good" else Path("mask.png"))
        for kind, count in kinds.items()
        for index in range(count)
    ]


def test_defects_are_drawn_by_turns_over_their_kinds() -> None:
    """Every kind is taught before one is taught twice as often; good pictures never are."""
    samples = _samples(good=9, crack=20, dent=6, hole=7)
    seen, rest = draw_seen(samples, limit=10, seed=1)
    counts = {kind: [sample.label for sample in seen].count(kind) for kind in ("crack", "dent")}
    assert len(seen) == 10
    assert set(counts.values()) <= {3, 4}
    assert "good" not in {sample.label for sample in seen}
    assert [sample for sample in samples if sample not in seen] == rest


def test_at_most_half_of_the_defects_is_taught() -> None:
    """The other half is left to find the threshold on; without masks nothing is taught."""
    seen, rest = draw_seen(_samples(good=3, dent=5), limit=10, seed=0)
    assert len(seen) == 2
    assert sum(sample.is_defect for sample in rest) == 3
    unmarked = [Sample(Path(f"dent/{index}.png"), "dent") for index in range(8)]
    assert draw_seen(unmarked, limit=10, seed=0) == ([], unmarked)


def test_the_draw_is_the_seeds() -> None:
    """The same seed draws the same defects, another one others; a limit of 0 draws none."""
    samples = _samples(good=2, crack=30, dent=30)
    assert draw_seen(samples, 10, seed=3) == draw_seen(samples, 10, seed=3)
    assert draw_seen(samples, 10, seed=3) != draw_seen(samples, 10, seed=4)
    assert draw_seen(samples, 0, seed=3) == ([], samples)


def test_pictures_come_prepared_with_their_masks(tiny_data: Path) -> None:
    """Both of the model's size; a good part's mask is empty, a defect's is not."""
    samples = PreparedSamples(find_holdout(tiny_data / "holdout"), PREPROCESSING)
    assert len(samples) == 8
    for one in samples:
        assert one.image.shape == (48, 56, 3)
        assert one.mask is not None
        assert one.mask.shape == (48, 56)
        assert one.mask.any() == one.is_defect
    assert [one.name for one in samples[2:4]] == [samples[2].name, samples[3].name]
    with pytest.raises(IndexError):
        samples[8]


def test_simulated_defects_stand_beside_their_good_part(tiny_data: Path) -> None:
    """Each picture as it is and then with a defect inside its mask; the same for the same seed."""
    good = [one for one in find_holdout(tiny_data / "holdout") if not one.is_defect]
    first, again = (
        SimulatedSamples(PreparedSamples(good, PREPROCESSING), WHOLE, 5) for _ in range(2)
    )
    assert len(first) == 8
    for clean, defect, twin in zip(first[::2], first[1::2], again[1::2], strict=True):
        changed = (clean.image != defect.image).any(axis=2)
        assert (clean.label, defect.label) == ("good", "simulated")
        assert defect.mask is not None
        assert changed[defect.mask > 0].all()
        np.testing.assert_array_equal(defect.image, twin.image)
