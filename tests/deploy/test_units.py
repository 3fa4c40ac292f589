"""The unit, the target, the user and the directories, as systemd's own tools read them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from inspectd.core.config import CREDENTIALS
from inspectd.publishers.mqtt import LEAVE_S

Program = Callable[[str], str]
MAX_EXPOSURE = 2.0
DRAIN_S = 10.0
"""The configuration's default."""


@pytest.fixture
def staged(tree: Path, tmp_path: Path) -> Path:
    """A root with the units in it and something in the daemon's place."""
    units = tmp_path / "usr" / "lib" / "systemd" / "system"
    units.mkdir(parents=True)
    for name in ("inspectd@.service", "inspectd.target"):
        (units / name).write_text((tree / "systemd" / name).read_text())
    for target in ("sysinit", "basic", "shutdown", "multi-user"):
        (units / f"{target}.target").write_text("[Unit]\nDescription=stub\n")
    daemon = tmp_path / "opt" / "inspectd" / "current" / "bin" / "inspectd"
    kill = tmp_path / "bin" / "kill"
    for file in (daemon, kill):
        file.parent.mkdir(parents=True)
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    return tmp_path


def unit(tree: Path) -> dict[str, list[str]]:
    """Settings of the service with all their values."""
    found: dict[str, list[str]] = {}
    for line in (tree / "systemd" / "inspectd@.service").read_text().splitlines():
        if (match := re.match(r"(\w+)=(.*)", line)) is not None:
            found.setdefault(match[1], []).append(match[2])
    return found


@pytest.mark.parametrize("drop_in", [None, "realtime", "gpu", "drain", "network"])
def test_systemd_understands_it(
    staged: Path, tree: Path, program: Program, drop_in: str | None
) -> None:
    """`systemd-analyze verify` has nothing to say, with each of the drop-ins too."""
    if drop_in is not None:
        folder = staged / "etc" / "systemd" / "system" / "inspectd@.service.d"
        folder.mkdir(parents=True)
        text = (tree / "systemd" / "drop-ins" / f"{drop_in}.conf").read_text()
        (folder / f"{drop_in}.conf").write_text(text)
    result = subprocess.run(
        [
            *(program("systemd-analyze"), "verify", f"--root={staged}", "--man=no"),
            *("inspectd@press4.service", "inspectd.target"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_it_is_shut_in(tree: Path, program: Program) -> None:
    """What a broken producer could reach is little: `systemd-analyze security`."""
    result = subprocess.run(
        [
            *(program("systemd-analyze"), "security", "--offline=yes", "--no-pager"),
            tree / "systemd" / "inspectd@.service",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    match = re.search(r"Overall exposure level.*: ([\d.]+)", result.stdout)
    assert match is not None, result.stderr
    assert float(match[1]) <= MAX_EXPOSURE


def test_a_stop_is_given_its_time(tree: Path) -> None:
    """Parts, then messages, each for `drain_s`, then the goodbye; the drop-in keeps the rule."""
    (allowed,) = unit(tree)["TimeoutStopSec"]
    assert float(allowed) >= 2 * DRAIN_S + LEAVE_S + 5
    text = (tree / "systemd" / "drop-ins" / "drain.conf").read_text()
    match = re.search(r"This is for (\d+) s.*TimeoutStopSec=(\d+)", text, re.DOTALL)
    assert match is not None
    assert float(match[2]) >= 2 * float(match[1]) + LEAVE_S + 5


def test_every_credential_is_offered(tree: Path) -> None:
    """Each that the configuration knows, by name: a path that is absent stops the start."""
    offered = dict(value.split(":", 1) for value in unit(tree)["LoadCredential"])
    assert offered == {name: f"inspectd.%i.{name}" for name in CREDENTIALS}


def test_what_cuda_and_cameras_need_is_left(tree: Path) -> None:
    """Settings that would shut out a GPU, a just-in-time compiler or a camera aren't there."""
    settings = unit(tree)
    for name in ("PrivateDevices", "MemoryDenyWriteExecute", "ProcSubset", "PrivateNetwork"):
        assert name not in settings
    assert {"char-nvidia* rw", "char-usb_device rw"} == set(settings["DeviceAllow"])
    assert "AF_NETLINK" in settings["RestrictAddressFamilies"][0]


def test_a_wrong_configuration_is_not_tried_again(tree: Path) -> None:
    """Exit status 2; other failures are, within limits."""
    settings = unit(tree)
    assert settings["RestartPreventExitStatus"] == ["2"]
    assert settings["Restart"] == ["on-failure"]
    assert {"StartLimitIntervalSec", "StartLimitBurst", "WatchdogSec"} <= set(settings)
    assert settings["Type"] == ["notify"]


def test_the_user_can_be_made(tree: Path, tmp_path: Path, program: Program) -> None:
    """sysusers reads it; the daemon's home is the state directory."""
    (tmp_path / "etc").mkdir()
    result = subprocess.run(
        [
            *(program("systemd-sysusers"), "--dry-run", f"--root={tmp_path}"),
            tree / "systemd" / "inspectd.sysusers",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "inspectd" in result.stdout + result.stderr


def test_the_directories_can_be_made(tree: Path, tmp_path: Path, program: Program) -> None:
    """tmpfiles makes them with their rights, and nothing else."""
    users = "root:x:0:0::/root:/bin/sh\ninspectd:x:{uid}:{gid}::/:/bin/sh\n"
    groups = "root:x:0:\ninspectd:x:{gid}:\n"
    (tmp_path / "etc").mkdir()
    ours = {"uid": tmp_path.stat().st_uid or 4242, "gid": tmp_path.stat().st_gid or 4242}
    (tmp_path / "etc" / "passwd").write_text(users.format(**ours))
    (tmp_path / "etc" / "group").write_text(groups.format(**ours))
    if tmp_path.stat().st_uid != 0:
        pytest.skip("needs root: directories belong to root and to the daemon")
    result = subprocess.run(
        [
            *(program("systemd-tmpfiles"), "--create", f"--root={tmp_path}"),
            tree / "systemd" / "inspectd.tmpfiles",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    made = {
        str(path.relative_to(tmp_path)): (f"{path.stat().st_mode & 0o777:o}", path.stat().st_uid)
        for path in tmp_path.rglob("*")
        if path.is_dir() and ("inspectd" in str(path.relative_to(tmp_path)) or "cred" in path.name)
    }
    assert made == {
        "etc/inspectd": ("750", 0),
        "etc/inspectd/products.d": ("750", 0),
        "etc/credstore": ("700", 0),
        "var/lib/inspectd": ("750", 4242),
        "var/cache/inspectd": ("750", 4242),
    }
