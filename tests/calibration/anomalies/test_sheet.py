"""The contact sheet."""

from __future__ import annotations

import numpy as np

from calibration.anomalies import AnomalyGenerator, Kind
from calibration.anomalies.sheet import draw_sheet, marked


def test_a_sheet_has_three_tiles_a_defect(generator: AnomalyGenerator) -> None:
    """Two defects fill a row of six tiles, a third begins another row."""
    defects = [generator.sample(index, Kind.EXTENDED) for index in range(3)]
    row = draw_sheet(generator.good, defects[:2], (64, 64))
    both = draw_sheet(generator.good, defects, (64, 64))
    assert row.shape[1] > 6 * 64
    assert both.shape == (2 * row.shape[0], row.shape[1], 3)
    np.testing.assert_array_equal(both[: row.shape[0]], row)


def test_the_marked_picture_differs_at_the_mask_only(generator: AnomalyGenerator) -> None:
    """Away from the mask and its outline the defective picture is as it was."""
    defect = generator.sample(1, Kind.HOMOLOGOUS)
    shown = marked(defect)
    rows, columns = np.nonzero((shown != defect.image).any(axis=2))
    marks = np.argwhere(defect.mask > 0)
    assert len(rows) > 0
    assert rows.min() >= marks[:, 0].min() - 2
    assert columns.max() <= marks[:, 1].max() + 2
