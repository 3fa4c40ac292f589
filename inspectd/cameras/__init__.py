"""Cameras by type: one file each behind `inspectd.core.contracts.Camera`."""

from __future__ import annotations

from inspectd.core.config import CameraSection
from inspectd.core.contracts import Camera


def open_camera(section: CameraSection) -> Camera:
    """The camera that the configuration asks for, not yet entered."""
    from inspectd.cameras.folder import FolderCamera

    return FolderCamera(section)
