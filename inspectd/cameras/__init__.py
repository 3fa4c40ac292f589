"""Cameras by type: one file each behind `inspectd.core.contracts.Camera`."""

from __future__ import annotations

from inspectd.acquisition.counting import LastPart
from inspectd.core.config import CameraSection, GenicamSection
from inspectd.core.contracts import Camera


def open_camera(section: CameraSection, after: LastPart | None = None) -> Camera:
    """The camera that the configuration asks for, not yet entered.

    Args:
        section: its part of the configuration.
        after: the last part of an earlier run; a camera that numbers parts goes on behind it.
    """
    if isinstance(section, GenicamSection):
        from inspectd.cameras.genicam import GenicamCamera

        return GenicamCamera(section, after)
    from inspectd.cameras.folder import FolderCamera

    return FolderCamera(section)
