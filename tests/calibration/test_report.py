"""The calibration report."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest

from calibration.gallery import EMPTY, Exhibit, draw_gallery
from calibration.intervals import wilson
from calibration.metrics import confusion
from calibration.report import (
    CalibrationReport,
    choose_cases,
    render_calibration_report,
)
from calibration.scorers import Curve
from inspectd.core.bundle import PolicyPart
from inspectd.core.errors import DatasetError
from inspectd.core.records import Threshold

LABELS = ("good",) * 20 + ("scratch",) * 10 + ("dent",) * 5
EVIL = '<script>alert("x")</script>&.png'


def scores(seed: int = 0) -> np.ndarray:
    """Good parts below 0.4, scratches above 0.6, one dent at 0.3, the others above 0.6."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.uniform(0.1, 0.4, 20), rng.uniform(0.6, 0.9, 15)])
    values[30] = 0.3
    return values


def threshold(values: np.ndarray, basis: str = "real") -> Threshold:
    """At 0.5, with the counts that the scores give."""
    counts = confusion(values, np.array([label != "good" for label in LABELS]), 0.5)
    return Threshold(
        image=0.5,
        pixel=0.45,
        policy="f1",
        basis=basis,
        f1=counts.f1,
        precision=counts.precision,
        recall=counts.recall,
        escapes=counts.escapes,
        overkill=counts.overkill,
        n_good=20,
        n_defect=15,
        escape_rate_interval=wilson(counts.escapes, 15),
        overkill_rate_interval=wilson(counts.overkill, 20),
    )


def exhibit(index: int, value: float) -> Exhibit:
    """A part with a hot corner."""
    anomaly_map = np.full((16, 16), 0.1, np.float32)
    anomaly_map[:4, :4] = value
    mask = (anomaly_map > 0.1).astype(np.uint8) * 255 if LABELS[index] != "good" else None
    image = np.full((32, 32, 3), 128, np.uint8)
    return Exhibit(image, anomaly_map, mask)


def report(values: np.ndarray | None = None, basis: str = "real") -> CalibrationReport:
    """Synthetic: 20 good and 15 defective parts, one escape."""
    values = scores() if values is None else values
    chosen = choose_cases(values, LABELS, 0.5, 2)
    return CalibrationReport(
        product="bottle",
        revision="r7",
        created_at=datetime(2025, 3, 4, 5, 6, tzinfo=UTC),
        threshold=threshold(values, basis),
        scores=values,
        labels=LABELS,
        names=tuple(f"part_{index}.png" for index in range(35)),
        gallery=draw_gallery(
            {i: exhibit(i, float(values[i])) for some in chosen.values() for i in some}, 0.45
        ),
        policy=PolicyPart(name="f1", promise="Policy f1 promises no rate."),
        cases=2,
        remarks=("The threshold maximises F1.",),
        facts={"Backbone": "resnet18"},
    )


class Page(HTMLParser):
    """What a page refers to, which elements it has, and what it says."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.elements: set[str] = set()
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects what a browser might load."""
        self.elements.add(tag)
        named = dict(attrs)
        self.ids += [str(named["id"])] if "id" in named else []
        loads = ("src", "href", "xlink:href", "srcset", "data", "poster")
        self.links += [str(named[name]) for name in loads if name in named]

    def handle_data(self, data: str) -> None:
        """Collects the text with plain spaces."""
        self.words += " ".join(data.replace("\u202f", " ").split()) + " "


def test_the_page_stands_alone() -> None:
    """No script, no style sheet, no picture or font from elsewhere."""
    html = render_calibration_report(report())
    page = Page(html)
    assert page.links
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert not page.elements & {"script", "link", "iframe", "object", "embed"}
    assert not re.search(r"@import|url\((?!#)", html)


def test_the_same_report_is_the_same_page() -> None:
    """Nothing in it depends on the time or on chance."""
    assert render_calibration_report(report()) == render_calibration_report(report())


def test_a_training_is_drawn() -> None:
    """Its curves are a plot of their own, named, with ids of its own; without curves none is."""
    curves = (
        Curve("loss, good", (0.0, 1.0, 2.0), (1.0, 0.5, 0.4)),
        Curve("loss, noise", (0.0, 1.0, 2.0), (1.0, 0.6, 0.3)),
        Curve("hold-out AUROC", (1.0, 2.0), (0.8, 0.9)),
    )
    page = Page(render_calibration_report(replace(report(), curves=curves)))
    assert "training" in page.ids
    assert len(page.ids) == len(set(page.ids))
    for word in ("loss", "noise", "hold-out AUROC"):
        assert word in page.words
    assert "training" not in Page(render_calibration_report(report())).ids


def test_every_id_is_unique() -> None:
    """Two plots in one page don't share a marker or a clip path."""
    ids = Page(render_calibration_report(report())).ids
    assert len(ids) == len(set(ids))


def test_rates_stand_beside_their_counts_and_intervals() -> None:
    """One escape of 15: the count, the rate, Wilson's interval, and what 0 overkill proves."""
    page = Page(render_calibration_report(report()))
    assert "1 of 15 defective parts would pass, and none of 20 good parts would fail." in page.words
    assert "6.7 % (1.2 % to 29.8 %)" in page.words
    assert "0 overkill in 20 good parts proves only a rate of at most 15.0 %" in page.words
    assert "0 escapes in" not in page.words
    assert "part_30.png dent pass: an escape 0.3000" in page.words
    assert "resnet18" in page.words
    assert "The threshold maximises F1." in page.words
    assert "2025-03-04 05:06 UTC" in page.words


def test_zero_escapes_come_with_the_rule_of_three() -> None:
    """0 of 15 is said to prove no more than 3/15."""
    values = scores()
    values[30] = 0.7
    page = Page(render_calibration_report(report(values)))
    assert "Every hold-out part is judged correctly." in page.words
    assert "0 escapes in 15 defects proves only a rate of at most 20.0 %" in page.words
    assert "Every wrong verdict" not in page.words


def test_the_kind_most_missed_comes_first() -> None:
    """Of the dents 4 of 5 are found, of the scratches all."""
    words = Page(render_calibration_report(report())).words
    rows = words[words.index("Kinds of defect") :]
    assert rows.index("dent 5 4 1") < rows.index("scratch 10 10 0")


@pytest.mark.parametrize(("basis", "is_shown"), [("real", False), ("simulated", True)])
def test_simulated_defects_are_announced(basis: str, is_shown: bool) -> None:
    """The banner is there if and only if the threshold rests on simulated defects."""
    page = Page(render_calibration_report(report(basis=basis)))
    assert ("simulated" in page.ids) is is_shown
    assert ("This threshold rests on simulated defects" in page.words) is is_shown


def test_a_record_that_contradicts_its_scores_is_announced() -> None:
    """A threshold recorded with other counts than its scores give is not to be trusted."""
    wrong = replace(report(), threshold=replace(threshold(scores()), escapes=0))
    assert "contradiction" in Page(render_calibration_report(wrong)).ids
    assert "contradiction" not in Page(render_calibration_report(report())).ids


def test_names_cannot_break_the_page() -> None:
    """File names, kinds and facts come from outside and are escaped, in the plots too."""
    plain = report()
    evil = replace(
        plain,
        product=EVIL,
        labels=tuple(EVIL if label == "dent" else label for label in LABELS),
        names=(EVIL,) * 35,
        policy=PolicyPart(name=EVIL, promise=EVIL, limits={EVIL: 1.0}),
        remarks=("Warning: " + EVIL,),
        facts={EVIL: EVIL},
        score_kind="$" + EVIL,
    )
    html = render_calibration_report(evil)
    assert "<script" not in html
    assert "script" not in Page(html).elements
    assert EVIL in Page(html).words


def test_each_case_has_three_pictures() -> None:
    """As seen, under its heat, with outlines; the legend has one more."""
    shown = report()
    images = [link for link in Page(render_calibration_report(shown)).links if "jpeg" in link]
    assert len(images) == 3 * len(shown.gallery.pictures) + 1


def test_a_page_without_pixel_threshold_or_cases_still_renders() -> None:
    """What couldn't be found is said so."""
    bare = replace(report(), gallery=EMPTY, threshold=replace(threshold(scores()), pixel=None))
    assert "could not be found" in Page(render_calibration_report(bare)).words


def test_equal_scores_still_make_a_plot() -> None:
    """A scorer that says the same of every part gets its bad report, not a traceback."""
    page = Page(render_calibration_report(report(np.full(35, 0.5))))
    assert "none of 15 defective parts would pass" in page.words.lower()


def test_good_parts_alone_have_a_report() -> None:
    """Without defects nothing is claimed of escapes, F1 or AUROC."""
    record = replace(threshold(scores()), escapes=0, overkill=14, n_good=35, n_defect=0)
    alone = replace(report(), labels=("good",) * 35, gallery=EMPTY, threshold=record)
    page = Page(render_calibration_report(alone))
    assert "14 of 35 good parts would fail. No defective part was in the hold-out" in page.words
    assert "AUROC" not in page.words
    assert "0 escapes" not in page.words
    assert not {"kinds", "curves", "contradiction"} & set(page.ids)


def test_defects_alone_have_no_report() -> None:
    """Without good parts there is nothing to report on."""
    with pytest.raises(DatasetError):
        render_calibration_report(replace(report(), labels=("dent",) * 35, gallery=EMPTY))


def test_the_policy_its_limits_and_warnings_are_shown() -> None:
    """What was asked for, what that promises, and each warning on its own."""
    limits = {"max_escape_rate": 0.05, "max_overkill_rate": 0.1}
    policy = PolicyPart(name="max-escapes", limits=limits, promise="At most 5 % pass.")
    shown = replace(report(), policy=policy, remarks=("Fine.", "Warning: too few."))
    html = render_calibration_report(shown)
    words = " ".join(Page(html).words.split())
    assert "Policy max-escapes At most 5 % pass. max escape rate 0.05" in words
    assert words.count("Warning: too few.") == 2
    assert words.count("Fine.") == 1
    assert "max overkill rate" in html


def test_a_review_band_is_shown() -> None:
    """Both limits are given, and the band is in the plots."""
    record = replace(threshold(scores()), review_below=0.65, review_good=0, review_defect=2)
    words = Page(render_calibration_report(replace(report(), threshold=record))).words
    assert "passes if its score is below 0.5000 and fails from 0.6500 on" in words
    assert "0 good and 2 defective hold-out parts" in words
    assert "in it a person decides" in words
    assert "none of 20 good parts would not pass." in words
    assert "review, then fails" in words


def test_a_new_threshold_names_the_model_it_is_for() -> None:
    """A revision that only changed the threshold says whose model it has."""
    html = render_calibration_report(replace(report(), parent="r0001-0123abcd"))
    assert "r0001-0123abcd with another threshold" in Page(html).words


def test_parts_without_a_kept_picture_are_said_to_be_missing() -> None:
    """With another threshold a part may be wrong whose picture was never drawn."""
    page = Page(render_calibration_report(replace(report(), gallery=EMPTY)))
    assert "0 of 1 shown" in page.words
    assert "Of the others no picture was kept." in page.words


def test_the_columns_must_match() -> None:
    """A label too few is noticed at once."""
    with pytest.raises(ValueError, match="for each score"):
        replace(report(), labels=LABELS[1:])


def test_what_went_wrong_is_chosen_worst_first() -> None:
    """Escapes by rising, overkill by falling score."""
    labels = ("dent", "dent", "dent", "good", "good", "good")
    chosen = choose_cases(np.array([0.3, 0.1, 0.8, 0.6, 0.9, 0.2]), labels, 0.5, 5)
    assert chosen["escapes"] == [1, 0]
    assert chosen["overkill"] == [4, 3]


def test_no_part_is_chosen_twice() -> None:
    """The groups share nothing and each keeps to the limit."""
    for limit in range(5):
        groups = choose_cases(scores(), LABELS, 0.5, limit)
        chosen = [index for some in groups.values() for index in some]
        assert len(chosen) == len(set(chosen))
        assert all(len(some) <= limit for some in groups.values())


def test_the_groups_come_in_the_order_of_the_page() -> None:
    """What is wrong stands in front of what is right."""
    assert list(choose_cases(scores(), LABELS, 0.5, 1)) == [
        "escapes",
        "overkill",
        "nearest",
        "clearest",
        "typical",
    ]


def test_nearest_shows_both_sides_of_the_threshold() -> None:
    """Half defects, half good parts, the least margin in front."""
    labels = ("good",) * 3 + ("dent",) * 3
    chosen = choose_cases(np.array([0.1, 0.2, 0.45, 0.52, 0.6, 0.9]), labels, 0.5, 2)
    assert chosen["nearest"] == [3, 2]


def test_clearest_shows_every_kind_before_a_second_of_any() -> None:
    """Two dents with the highest scores don't hide the one scratch."""
    labels = ("good", "dent", "dent", "scratch", "dent", "scratch")
    chosen = choose_cases(np.array([0.1, 0.9, 0.8, 0.7, 0.51, 0.6]), labels, 0.5, 2)
    assert chosen["clearest"] == [1, 3]


def test_typical_is_about_the_median() -> None:
    """Of five good parts the middle one is the most typical."""
    labels = ("good",) * 5 + ("dent",)
    chosen = choose_cases(np.array([0.1, 0.2, 0.3, 0.35, 0.4, 0.9]), labels, 0.5, 2)
    assert chosen["typical"] == [2, 3]


def test_a_choice_needs_neither_class() -> None:
    """All good or all defective: the other groups are empty."""
    assert choose_cases(np.array([0.6, 0.7]), ("dent", "dent"), 0.5, 3)["typical"] == []
    assert choose_cases(np.array([0.1, 0.2]), ("good", "good"), 0.5, 3)["clearest"] == []
