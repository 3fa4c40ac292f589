"""Scenarios: what they may hold, what is refused and how, and those that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from inspectd.core.errors import ConfigError
from inspectd.simulate.faults import DEEDS
from inspectd.simulate.scenario import DEFAULT_FOR_S, find_scenario, load_scenario, shipped

HEAD = 'title = "a line"\nparts = 1000\n'
SHIPPED = shipped()


def written(folder: Path, text: str) -> str:
    """A scenario's file."""
    path = folder / "own.toml"
    path.write_text(HEAD + text)
    return str(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_scenarios(name: str) -> None:
    """Each is valid, says what it is about, and ends its faults well before its last part."""
    scenario = load_scenario(name)
    assert scenario.title
    assert all(planned.at_part < scenario.parts for planned in scenario.planned())


def test_the_shipped_ones_do_all_that_can_be_done() -> None:
    """No kind of fault is left out, and each has its deed."""
    kinds = {kind for name in SHIPPED for kind in load_scenario(name).kinds}
    assert kinds == set(DEEDS)
    assert set(DEFAULT_FOR_S) <= set(DEEDS)


def test_faults_in_turn(tmp_path: Path) -> None:
    """`every_parts` comes again and again, each time the next kind; in order with the others."""
    text = """
[[fault]]
every_parts = 300
kinds = ["broker-kill", "daemon-kill"]
[[fault]]
kind = "burst"
at_part = 400
"""
    planned = load_scenario(written(tmp_path, text)).planned()
    assert [(fault.at_part, fault.kind) for fault in planned] == [
        (300, "broker-kill"),
        (400, "burst"),
        (600, "daemon-kill"),
        (900, "broker-kill"),
    ]
    assert [fault.for_s for fault in planned] == [1.0, None, None, 1.0]


def test_at_most_so_often(tmp_path: Path) -> None:
    """`times` ends it; a fault beyond the last part never comes."""
    text = """
[[fault]]
every_parts = 100
times = 2
kind = "daemon-kill"
[[fault]]
kind = "burst"
at_part = 5000
"""
    planned = load_scenario(written(tmp_path, text)).planned()
    assert [fault.at_part for fault in planned] == [100, 200]


def test_options_replace_the_file(tmp_path: Path) -> None:
    """A value that isn't given replaces nothing."""
    scenario = load_scenario(written(tmp_path, "rate = 7.0\n"), parts=12, rate=None)
    assert (scenario.parts, scenario.rate) == (12, 7.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1\n", "colour: unknown key"),
        ("rate = 0\n", "rate: Input should be greater than 0"),
        ('broker = "nowhere"\n', "not mosquitto, embedded or HOST:PORT"),
        ('broker = "plant:1883"\n[[fault]]\nkind = "broker-kill"\nat_part = 1\n', "isn't ours"),
        ('[[fault]]\nkind = "earthquake"\nat_part = 1\n', "fault.0.kind"),
        ('[[fault]]\nkind = "burst"\n', "give at_part or every_parts"),
        ("[[fault]]\nat_part = 1\n", "give kind, or kinds"),
        ('[[fault]]\nkinds = ["burst"]\nat_part = 1\n', "kinds and times are for every_parts"),
        (
            '[[fault]]\nkind = "broker-kill"\nat_part = 1\nfor_s = 1\nfor_parts = 1\n',
            "for_s or for_parts",
        ),
        ("[expect]\nwonders = 1\n", "expect.wonders: unknown key"),
        ("title = 2\n", "can't be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    """With its place, in a `ConfigError`."""
    with pytest.raises(ConfigError, match=r"own\.toml") as caught:
        load_scenario(written(tmp_path, text))
    assert said in str(caught.value)


def test_required_keys(tmp_path: Path) -> None:
    """All that is missing is listed."""
    path = tmp_path / "empty.toml"
    path.write_text("")
    with pytest.raises(ConfigError, match=r"(?s)2 problem.*title: is required.*parts: is required"):
        load_scenario(str(path))


def test_a_name_that_nobody_knows() -> None:
    """The message names those there are, or how to see them."""
    with pytest.raises(ConfigError, match=r"there are: .*broker.*soak"):
        find_scenario("earthquake")
    with pytest.raises(ConfigError, match="--list"):
        find_scenario("absent.toml")


def test_names_beside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare name is looked for below the working directory, then beside the package."""
    monkeypatch.chdir(tmp_path)
    assert find_scenario("soak").is_file()
    own = tmp_path / "deploy" / "scenarios"
    own.mkdir(parents=True)
    (own / "mine.toml").write_text(HEAD)
    assert list(shipped()) == ["mine"]
