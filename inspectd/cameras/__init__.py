"""Cameras by type: one file each behind `inspectd.core.contracts.Camera`."""

from __future__ import annotations

from inspectd.core.config import CameraSection, GenicamSection
from inspectd.core.contracts import Camera


def open_camera(section: CameraSection) -> Camera:
    """The camera that the configuration asks for, not yet entered."""
    if isinstance(section, GenicamSection):
        from inspectd.cameras.genicam import GenicamCamera

        return GenicamCamera(section)
    from inspectd.cameras.folder import FolderCamera

    return FolderCamera(section)
