"""Where state and caches lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from inspectd.core.paths import cache_dir, state_dir

Place = Callable[[Mapping[str, str]], Path]
PLACES = [(state_dir, "STATE", ".local/state"), (cache_dir, "CACHE", ".cache")]


@pytest.mark.parametrize(("place", "kind", "below_home"), PLACES)
def test_the_first_that_is_set_wins(place: Place, kind: str, below_home: str) -> None:
    """The program's own variable comes before systemd's, that before XDG's, that before home."""
    variables = {
        f"INSPECTD_{kind}_DIR": "/own",
        f"{kind}_DIRECTORY": "/service",
        f"XDG_{kind}_HOME": "/xdg",
    }
    expected = ["/own", "/service", "/xdg/inspectd", str(Path.home() / below_home / "inspectd")]
    for path in expected:
        assert place(variables) == Path(path)
        if variables:
            del variables[next(iter(variables))]


@pytest.mark.parametrize(("place", "kind", "below_home"), PLACES)
def test_an_empty_variable_is_not_set(place: Place, kind: str, below_home: str) -> None:
    """An empty value never means the current folder."""
    variables = {f"INSPECTD_{kind}_DIR": "", f"{kind}_DIRECTORY": "", f"XDG_{kind}_HOME": ""}
    assert place(variables) == Path.home() / below_home / "inspectd"


@pytest.mark.parametrize(("place", "kind"), [(place, kind) for place, kind, _ in PLACES])
def test_the_first_of_systemds_directories_counts(place: Place, kind: str) -> None:
    """systemd separates several directories of a unit by colons."""
    assert place({f"{kind}_DIRECTORY": "/var/one:/var/two"}) == Path("/var/one")


@pytest.mark.parametrize(("place", "kind"), [(place, kind) for place, kind, _ in PLACES])
def test_the_environment_is_read_at_each_call(
    place: Callable[[], Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that is set after the import counts."""
    monkeypatch.setenv(f"INSPECTD_{kind}_DIR", "/later")
    assert place() == Path("/later")
