"""Where the shipped files lie, and a way to say that something isn't there to test with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tree() -> Path:
    """The project's root."""
    return TREE


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """The path of a program; a test that needs it is skipped where it is absent."""

    def found(name: str) -> str:
        path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if path is None:
            pytest.skip(f"{name} isn't installed")
        return path

    return found
