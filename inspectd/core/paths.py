"""Where state and caches lie: the service's directories, or below XDG's without root."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def state_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Products and the ledger: ``INSPECTD_STATE_DIR``, systemd's, or ``~/.local/state``."""
    names = ("INSPECTD_STATE_DIR", "STATE_DIRECTORY", "XDG_STATE_HOME")
    return _place(environment, *names, ".local/state")


def cache_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Downloads and engines: ``INSPECTD_CACHE_DIR``, systemd's, or ``~/.cache``."""
    names = ("INSPECTD_CACHE_DIR", "CACHE_DIRECTORY", "XDG_CACHE_HOME")
    return _place(environment, *names, ".cache")


def ledger_file(root: Path, line: str, station: str) -> Path:
    """A station's ledger, below its state directory."""
    return root / "ledger" / f"{line}-{station}.sqlite3"


def _place(
    environment: Mapping[str, str], own: str, systemd: str, xdg: str, below_home: str
) -> Path:
    if environment.get(own):
        return Path(environment[own])
    if environment.get(systemd):
        return Path(environment[systemd].split(":")[0])
    base = environment.get(xdg)
    return (Path(base) if base else Path.home() / below_home) / "inspectd"
