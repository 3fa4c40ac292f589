"""Producers, cameras and their choice, without a camera."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from inspectd.acquisition.device import DeviceEntry, _pitch, chosen, harvester, producers
from inspectd.core.errors import CameraError


def entry(serial: str, user_id: str = "", producer: str = "maker.cti") -> DeviceEntry:
    """A camera that a producer shows."""
    return DeviceEntry(producer, serial, "maker", "model", serial, user_id, "GEV", "free")


FOUND = [entry("1", "left"), entry("2", "right"), entry("3", "right")]


@pytest.mark.parametrize(
    ("serial", "user_id", "index"),
    [("2", "", 1), ("", "left", 0), ("3", "right", 2), ("1", "right", None), ("4", "", None)],
)
def test_a_camera_is_chosen_by_what_is_given(serial: str, user_id: str, index: int | None) -> None:
    """Both have to fit where both are given."""
    assert chosen(FOUND, serial, user_id) == index


def test_two_that_fit_are_an_error() -> None:
    """They are named: an index would choose another one tomorrow."""
    with pytest.raises(CameraError, match=r"2 \(maker\.cti\), 3 \(maker\.cti\)"):
        chosen(FOUND, "", "right")


def test_producers_are_found_in_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several directories, in name order; those that are named come instead."""
    for name in ("b/2.cti", "b/1.cti", "a/3.cti", "a/no.so"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv("GENICAM_GENTL64_PATH", f"{tmp_path / 'b'}:{tmp_path / 'a'}:")
    assert [path.name for path in producers()] == ["1.cti", "2.cti", "3.cti"]
    assert producers([tmp_path / "b/1.cti"]) == [tmp_path / "b/1.cti"]
    with pytest.raises(CameraError, match="no such GenTL producer"):
        producers([tmp_path / "c/1.cti"])
    monkeypatch.delenv("GENICAM_GENTL64_PATH")
    with pytest.raises(CameraError, match="GENICAM_GENTL64_PATH"):
        producers()


def test_without_harvesters_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is an optional dependency."""
    monkeypatch.setitem(sys.modules, "harvesters.core", None)
    with pytest.raises(CameraError, match=r"pip install 'inspectd\[genicam\]'"), harvester([]):
        pytest.fail("it was entered")


@pytest.mark.parametrize(
    ("pixel_format", "padding", "pitch"),
    [("Mono8", 0, None), ("Mono8", 4, 14), ("Mono12p", 1, 16), ("RGB8", 2, 32), ("odd", 4, None)],
)
def test_padded_lines_have_a_pitch(pixel_format: str, padding: int, pitch: int | None) -> None:
    """Lines of 10 pixels, as the producer says that they are padded."""
    assert _pitch(10, pixel_format, padding) == pitch
