"""The split of labelled pictures into a half to calibrate with and one to judge by."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from calibration.comparison.halves import Halves, is_test, link_samples, seen_before, split_halves
from calibration.dataset import Sample, find_holdout, find_labelled
from inspectd.core.errors import DatasetError

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "half_split.py"


def samples(**counts: int) -> list[Sample]:
    """So many pictures of each kind, in no order of names."""
    return [
        Sample(Path(f"/labelled/{kind}/{number:03d}.png"), kind)
        for kind, count in counts.items()
        for number in reversed(range(count))
    ]


def labelled_folder(folder: Path) -> Path:
    """test/ and ground_truth/: 5 good parts, 4 dents with masks and 1 scratch, files of text."""
    for kind, count in {"good": 5, "dent": 4, "scratch": 1}.items():
        (folder / "test" / kind).mkdir(parents=True)
        for number in range(count):
            (folder / "test" / kind / f"{number:03d}.png").write_text(f"{kind} {number}")
    (folder / "ground_truth" / "dent").mkdir(parents=True)
    for number in range(4):
        (folder / "ground_truth" / "dent" / f"{number:03d}_mask.png").write_text("mask")
    return folder


def benchmark() -> ModuleType:
    """The program that makes the README's table of accuracy."""
    spec = importlib.util.spec_from_file_location("half_split", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_picture_is_in_one_half() -> None:
    """The first half of each kind by name is held out; of an odd one, the rest has one more."""
    given = samples(good=5, dent=4, scratch=1)
    halves = split_halves(given)
    assert sorted([*halves.holdout, *halves.judged], key=str) == sorted(given, key=str)
    assert [one.name for one in halves.holdout] == [
        "dent/000.png",
        "dent/001.png",
        "good/000.png",
        "good/001.png",
    ]
    assert halves.labels == ("dent", "dent", "good", "good", "good", "scratch")
    assert halves.is_defect.tolist() == [True, True, False, False, False, True]


def test_the_order_of_the_pictures_is_of_no_matter() -> None:
    """The same pictures in another order are split alike."""
    given = samples(good=6, dent=3)
    assert split_halves(given) == split_halves(given[::-1])


def test_as_the_benchmark_splits(tmp_path: Path) -> None:
    """A comparison's figures are on the same parts as those of the half-split benchmark."""
    folder = labelled_folder(tmp_path / "product")
    halves = split_halves(find_labelled(folder))
    copied = benchmark().split(folder, tmp_path / "copied")
    for half, copy in zip((halves.holdout, halves.judged), copied, strict=True):
        names = [path.relative_to(copy).as_posix() for path in sorted(copy.rglob("*.png"))]
        pictures = [name for name in names if not name.startswith("ground_truth")]
        assert [one.name for one in half] == pictures
        assert sum(one.mask is not None for one in half) == len(names) - len(pictures)


@pytest.mark.parametrize(
    ("counts", "what"),
    [
        ({"good": 1, "dent": 4}, "2 good pictures.*1 good ones and of defects 4 dent"),
        ({"good": 4, "dent": 1, "chip": 1}, "2 pictures of some kind of defect.*1 chip, 1 dent"),
    ],
)
def test_too_few_for_two_halves(counts: dict[str, int], what: str) -> None:
    """A half without good parts or without defects is refused with what is there."""
    with pytest.raises(DatasetError, match=what):
        split_halves(samples(**counts))


def test_linked_pictures_are_a_holdout_folder(tmp_path: Path) -> None:
    """Calibration finds the half's pictures and masks, and each is the file itself."""
    halves = split_halves(find_labelled(labelled_folder(tmp_path / "product")))
    link_samples(halves.holdout, tmp_path / "half")
    found = find_holdout(tmp_path / "half")
    assert [one.name for one in found] == [one.name for one in halves.holdout]
    for one, original in zip(found, halves.holdout, strict=True):
        assert one.path.resolve() == original.path.resolve()
        assert (one.mask is None) == (original.mask is None)
        if one.mask is not None and original.mask is not None:
            assert one.mask.resolve() == original.mask.resolve()


def test_a_relative_folder_is_linked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links lead to the pictures wherever the command was typed."""
    labelled_folder(tmp_path / "product")
    monkeypatch.chdir(tmp_path)
    halves = split_halves(find_labelled(Path("product")))
    link_samples(halves.holdout, tmp_path / "half")
    assert all(path.is_file() for path in (tmp_path / "half").rglob("*.png"))


def test_the_test_set_is_known(tmp_path: Path) -> None:
    """Whether it was given as DIR or DIR/test; another folder's pictures are not test/'s."""
    folder = labelled_folder(tmp_path / "product")
    for place in (folder, folder / "test"):
        assert is_test(split_halves(find_labelled(place)))
    assert not is_test(Halves((), (Sample(tmp_path / "rejects" / "good" / "000.png", "good"),)))


def test_pictures_seen_before_are_counted(tmp_path: Path) -> None:
    """A judged picture that is also learned from or held out, under whatever name, is found."""
    folder = labelled_folder(tmp_path / "product")
    train = tmp_path / "part.png"
    train.write_text("good 4")
    halves = split_halves(find_labelled(folder))
    assert seen_before([], halves) == 0
    assert seen_before([train], halves) == 1
    (folder / "test" / "dent" / "003.png").write_text("dent 0")
    assert seen_before([train], halves) == 2
