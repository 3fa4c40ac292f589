"""A short line with faults through the real daemon, broker and camera."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inspectd.demo.parts import simulated_camera_problem
from inspectd.simulate.stage import PRODUCTS

pytestmark = pytest.mark.skipif(
    simulated_camera_problem() is not None, reason=str(simulated_camera_problem())
)

Ended = tuple[Path, "subprocess.CompletedProcess[str]"]

SCENARIO = """
title = "a short one"
parts = 240
rate = 20.0
pictures = 12
deadline_ms = 1000
network = "relay"
patience_s = 20.0

[[fault]]
kind = "broker-kill"
at_part = 20
for_s = 0.5

[[fault]]
kind = "inference-fail"
at_part = 60
count = 3

[[fault]]
kind = "changeover"
at_part = 70
how = "sighup"

[[fault]]
kind = "network-cut"
at_part = 90
for_s = 0.5

[[fault]]
kind = "daemon-kill"
at_part = 130

[expect]
unanswered = 0
"""


QUIET = """
title = "one to interrupt"
parts = 2000
rate = 20.0
pictures = 12
"""


@pytest.fixture(scope="module")
def ended(
    tmp_path_factory: pytest.TempPathFactory,
) -> Ended:
    """The command's end, in its own folder."""
    folder = tmp_path_factory.mktemp("simulate")
    (folder / "short.toml").write_text(SCENARIO)
    command = ("-m", "inspectd", "simulate", "--scenario", "short.toml", "--json", "account.json")
    process = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return folder, process


def test_it_adds_up(ended: Ended) -> None:
    """Each part is in the account; no fault let one through, and none was answered twice."""
    folder, process = ended
    assert process.returncode == 0, process.stderr
    content = json.loads((folder / "account.json").read_text())
    account = content["account"]
    assert account["triggers"] == 240
    assert account["answered"] + account["unanswered"] == 240
    assert account["answered"] - account["lost_in_broker"] == sum(
        account[name] for name in ("passed", "failed", "undecided")
    )
    assert account["duplicates"] == account["escapes_by_faults"] == 0
    assert account["overkill_by_faults"] == account["out_of_order"] == 0
    assert account["let_through"] > 0
    assert account["undecided_by_reason"]["inference_failed"] == 3
    assert set(account["products"]) == set(PRODUCTS)
    assert account["daemon_starts"] == 2
    assert account["daemon_deaths"] == 0


def test_it_tells_what_happened(ended: Ended) -> None:
    """Faults as they come, a table on stdout, account, course and plot in the folder."""
    folder, process = ended
    for kind in ("broker-kill", "network-cut", "daemon-kill"):
        assert f": {kind}\n" in process.stderr
    assert "the line's account" in process.stdout
    out = folder / "simulate-out"
    assert (out / "course.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "account.json").read_text() == (folder / "account.json").read_text()
    course = json.loads((out / "run" / "course.json").read_text())
    assert sorted(fault["kind"] for fault in course["faults"]) == [
        "broker-kill",
        "changeover",
        "daemon-kill",
        "inference-fail",
        "network-cut",
    ]


def test_ctrl_c_ends_it_in_order(ended: Ended) -> None:
    """With the account of the parts that had passed, and no process left behind."""
    folder, _ = ended
    (folder / "long.toml").write_text(QUIET)
    command = ("-m", "inspectd", "simulate", "-s", "long.toml", "--json", "long.json", "--no-plot")
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        while " passed, " not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "interrupted: the account is of the parts that had passed" in said
    content = json.loads((folder / "long.json").read_text())
    assert content["was_interrupted"] is True
    account = content["account"]
    assert 0 < account["triggers"] < 2000
    assert account["answered"] == account["triggers"]


def test_a_short_soak(ended: Ended) -> None:
    """The shipped soak, cut to its first faults, keeps every expectation of the long one."""
    folder, _ = ended
    command = ("-m", "inspectd", "simulate", "-s", "soak", "--parts", "2100", "--rate", "60")
    process = subprocess.run(
        [sys.executable, *command, "--json", "soak.json", "--no-plot"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    account = json.loads((folder / "soak.json").read_text())["account"]
    assert account["triggers"] >= 2100
    assert account["unanswered"] == account["duplicates"] == account["out_of_order"] == 0
    assert account["escapes_by_faults"] == account["let_through_late"] == 0
    assert len(account["faults"]) == 4
