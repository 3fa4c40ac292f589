"""Features are written in order and read back; what a camera keeps otherwise is an error."""

from __future__ import annotations

from typing import Any

import pytest

from inspectd.acquisition.device import Device
from inspectd.acquisition.features import (
    FeatureMismatchError,
    apply_feature,
    apply_features,
    describe,
    find,
    read,
)
from inspectd.core.errors import CameraError
from inspectd.simcam.rig import Rig


def test_features_are_written_in_order(nodes: Any) -> None:
    """Whole numbers serve where the camera wants a float, and the other way round."""
    apply_features(
        nodes,
        [("Width", 32.0), ("OffsetX", 32), ("ExposureTime", 250), ("PixelFormat", "RGB8")],
    )
    assert (read(nodes, "Width"), read(nodes, "OffsetX")) == (32, 32)
    assert (read(nodes, "ExposureTime"), read(nodes, "PixelFormat")) == (250.0, "RGB8")


def test_a_selector_is_set_first(nodes: Any) -> None:
    """`Feature[Selector=Value]` reaches each of several."""
    apply_features(
        nodes,
        [
            ("ChunkModeActive", True),
            ("ChunkEnable[ChunkSelector=Timestamp]", True),
            ("ChunkEnable[ChunkSelector=ExposureTime]", False),
        ],
    )
    for name, wanted in (("Timestamp", True), ("ExposureTime", False)):
        apply_feature(nodes, "ChunkSelector", name)
        assert read(nodes, "ChunkEnable") is wanted


def test_a_command_is_executed(nodes: Any) -> None:
    """With the word for it, and no other."""
    apply_feature(nodes, "ExposureTime", 300.0)
    apply_features(nodes, [("UserSetSelector", "Default"), ("UserSetLoad", "execute")])
    assert read(nodes, "ExposureTime") == 1000.0
    with pytest.raises(CameraError, match='write UserSetLoad = "execute"'):
        apply_feature(nodes, "UserSetLoad", "Default")


@pytest.mark.parametrize(
    ("name", "wanted", "got", "why"),
    [
        ("ExposureTime", 5e9, 1000.0, "must be smaller"),
        ("Width", 63, 64, "dividable"),
        ("Width", 31.5, 64, "a whole number"),
        ("PixelFormat", "Mono99", "Mono8", "cannot convert value 'Mono99'"),
        ("PixelFormat", 8, "Mono8", "a word in quotes"),
        ("ChunkModeActive", "on", False, "true or false"),
        ("ExposureTime", True, 1000.0, "a number"),
        ("DeviceSerialNumber", "B2", "A1", "not writable"),
        ("DeviceUserID", 7, "left", "a text in quotes"),
    ],
)
def test_what_can_not_be_set_is_named(
    nodes: Any, name: str, wanted: Any, got: Any, why: str
) -> None:
    """Feature, wanted, got and why, in the text and as attributes."""
    with pytest.raises(FeatureMismatchError) as caught:
        apply_features(nodes, [(name, wanted)])
    error = caught.value
    assert (error.feature, error.wanted, error.got) == (name, wanted, got)
    assert f"feature {name}: wanted {wanted!r}, got {got!r}" in str(error)
    assert why in str(error)
    assert "thrown in node" not in str(error)
    assert "camera show" in str(error)


class Stubborn:
    """A camera that rounds to what its sensor can do."""

    def __init__(self, nodes: Any, name: str, kept: Any) -> None:
        self._nodes, self._name, self._kept = nodes, name, kept

    def has_node(self, name: str) -> bool:
        return bool(self._nodes.has_node(name))

    def get_node(self, name: str) -> Any:
        node = self._nodes.get_node(name)
        return Rounded(node, self._kept) if name == self._name else node


class Rounded:
    """Takes any value and keeps its own."""

    def __init__(self, node: Any, kept: Any) -> None:
        self._node = node
        self._kept = kept

    def get_access_mode(self) -> Any:
        return self._node.get_access_mode()

    @property
    def value(self) -> Any:
        return self._kept

    @value.setter
    def value(self, _: Any) -> None:
        return


@pytest.mark.parametrize(("kept", "fits"), [(1000.9, True), (990.1, True), (985.0, False)])
def test_a_rounded_float_fits_and_a_clamped_one_does_not(
    nodes: Any, kept: float, fits: bool
) -> None:
    """A hundredth is the sensor's grain; more is another setting."""
    stubborn = Stubborn(nodes, "ExposureTime", kept)
    if fits:
        apply_feature(stubborn, "ExposureTime", 1000.0)
        return
    with pytest.raises(FeatureMismatchError, match=r"wanted 1000\.0, got 985\.0"):
        apply_feature(stubborn, "ExposureTime", 1000.0)


def test_a_feature_that_is_not_there(nodes: Any) -> None:
    """Is told by its name when written, and is None when read."""
    with pytest.raises(CameraError, match="no feature ExposureTimeAbs; SFNC's spelling"):
        apply_features(nodes, [("ExposureTimeAbs", 1.0)])
    assert find(nodes, "ExposureTimeAbs") is None
    assert read(nodes, "ExposureTimeAbs") is None


def test_a_camera_that_went_is_no_mismatch(nodes: Any, rig: Rig) -> None:
    """It may be back in a moment: nobody is to change the configuration for it."""
    rig.command("A1", "unplug")
    for attempt in (lambda: apply_feature(nodes, "ExposureTime", 9.0), lambda: read(nodes, "Gain")):
        with pytest.raises(Exception, match="doesn't answer") as caught:
            attempt()
        assert not isinstance(caught.value, CameraError)


def test_a_camera_describes_itself(nodes: Any) -> None:
    """Name, kind, access, value, range and choices, in name order."""
    found = {feature.name: feature for feature in describe(nodes)}
    assert list(found) == sorted(found)
    exposure, form = found["ExposureTime"], found["PixelFormat"]
    assert (exposure.kind, exposure.access, exposure.value) == ("float", "rw", 1000.0)
    assert (exposure.unit, exposure.most) == ("us", 1_000_000.0)
    assert "BayerRG8" in form.choices
    assert found["DeviceSerialNumber"].access == "ro"
    assert found["TriggerSoftware"].kind == "command"
    assert found["Width"].as_dict()["most"] == 64


def test_chunks_that_are_there_are_enabled(device: Device) -> None:
    """And a counter that has none is told."""
    device.enable_chunks("Counter0")
    assert read(device.nodes, "ChunkModeActive") is True
    for name in ("FrameID", "CounterValue"):
        apply_feature(device.nodes, "ChunkSelector", name)
        assert read(device.nodes, "ChunkEnable") is True
