"""The figures that a training is stopped by."""

from __future__ import annotations

import numpy as np

from calibration.judging import judged
from calibration.scorers import Labelled
from inspectd.core.records import MapArray, MaskArray

IMAGE = np.zeros((8, 8, 3), np.uint8)


def _mask(*rows: int) -> MaskArray:
    mask = np.zeros((8, 8), np.uint8)
    mask[list(rows)] = 255
    return mask


def _holdout(region: MaskArray | None) -> list[Labelled]:
    """A good part and one with two defective rows, of which the first four are inspected."""
    return [
        Labelled("good/0.png", "good", IMAGE, _mask(), region),
        Labelled("dent/0.png", "dent", IMAGE, _mask(2), region),
    ]


def _maps() -> list[MapArray]:
    """The good part has a bright blotch below, where nothing is inspected."""
    good, bad = np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)
    good[6:] = 9
    bad[2] = 5
    return [good, bad]


def test_what_is_not_inspected_is_not_judged() -> None:
    """A blotch outside of the region costs neither figure."""
    everywhere = judged(_holdout(None)).figures(_maps())
    inside = judged(_holdout(_mask(0, 1, 2, 3))).figures(_maps())
    assert everywhere["image AUROC"] == 0
    assert everywhere["pixel AP"] < 0.6
    assert inside == {"image AUROC": 1.0, "pixel AP": 1.0}


def test_a_region_of_fewer_pixels_than_are_averaged_will_do() -> None:
    """The score is then the mean of those that there are, as the line has it."""
    figures = judged(_holdout(_mask(2)), top_pixels=50).figures(_maps())
    assert figures["image AUROC"] == 1.0


def test_defects_that_thinning_loses_cost_only_the_pixel_figure() -> None:
    """Masks of single pixels may all fall between the rows that are looked at."""
    holdout = [Labelled("good/0.png", "good", IMAGE, _mask())]
    holdout.append(Labelled("dent/0.png", "dent", IMAGE, _mask(3)))
    assert judged(holdout).figures(_maps()) == {"image AUROC": 0.0}
