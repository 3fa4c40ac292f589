"""``inspectd run`` with a real broker: every trigger is answered exactly once, come what may."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspectd.core.bundle import write_manifest
from inspectd.core.store import ProductStore

Broker = Collector = Station = Conversation = Any
"""See conftest.py."""
Make = Callable[..., Any]
BASE = "inspectd/v1/site/area/line/station"
VERDICT_KEYS = [
    "schema", "result_id", "seq", "part_id", "frame_id", "trigger_count", "encoder",
    "captured_at", "product_id", "revision", "verdict", "reason", "score", "threshold", "margin",
    "deadline_ms", "late", "is_simulated", "mask_ref",
]  # fmt: skip


def results(verdicts: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Part id to its verdict; fails where a part has verdicts of two results."""
    found: dict[str, dict[str, Any]] = {}
    for verdict in verdicts:
        first = found.setdefault(verdict["part_id"], verdict)
        assert first["result_id"] == verdict["result_id"], verdict["part_id"]
        assert {**first, "late": None} == {**verdict, "late": None}
    return found


def assert_complete(verdicts: list[dict[str, Any]], parts: int) -> None:
    """Every part from 1 to `parts` has exactly one result, and `seq` has no gap."""
    found = results(verdicts)
    assert sorted(found) == [f"part-{number:04d}" for number in range(1, parts + 1)]
    assert sorted(v["seq"] for v in found.values()) == list(range(1, parts + 1))
    assert len({v["result_id"] for v in found.values()}) == parts


def assert_in_order(verdicts: list[dict[str, Any]]) -> None:
    """Parts that weren't late came in the order of their triggers."""
    fresh = [verdict["seq"] for verdict in verdicts if not verdict["late"]]
    assert fresh == sorted(fresh)


# --- what is said ------------------------------------------------------------------------------


def test_a_run_ends_with_the_camera(conversation: Conversation) -> None:
    """Every part is answered once, in order and in time, and the end is a success."""
    verdicts = conversation.heard.verdicts()
    assert conversation.exit_status == 0
    assert_complete(verdicts, conversation.parts)
    assert len(verdicts) == conversation.parts
    assert_in_order(verdicts)
    assert {"pass", "fail"} >= {verdict["verdict"] for verdict in verdicts}


def test_a_verdict_is_small_and_never_retained(conversation: Conversation) -> None:
    """QoS 1, under 1 KiB, the agreed fields in JSON, never kept by the broker."""
    for record in conversation.heard.records("verdict"):
        assert len(record.payload) < 1024
        assert sorted(record.json) == sorted(VERDICT_KEYS)
        assert (record.qos, record.retain) == (1, False)
        captured_at = datetime.fromisoformat(record.json["captured_at"])
        assert captured_at.utcoffset() == timedelta(0)
    assert conversation.remains.records("verdict") == []


def test_a_verdict_says_what_it_rests_on(conversation: Conversation) -> None:
    """Score, threshold and margin agree with pass and fail; a fail names its mask."""
    verdicts = conversation.heard.verdicts()
    assert {verdict["verdict"] for verdict in verdicts} == {"pass", "fail"}
    for verdict in verdicts:
        assert verdict["margin"] == pytest.approx(verdict["score"] - verdict["threshold"])
        assert (verdict["verdict"] == "fail") == (verdict["margin"] >= 0)
        assert (verdict["verdict"] == "fail") == (verdict["mask_ref"] is not None)


def test_a_mask_is_a_picture_of_the_defect(conversation: Conversation) -> None:
    """Raw PNG under the result's id, as large as the camera's picture, not empty."""
    masks = {record.topic: record for record in conversation.heard.below("mask")}
    named = {v["mask_ref"] for v in conversation.heard.verdicts() if v["mask_ref"]}
    assert set(masks) == named
    for record in masks.values():
        mask = cv2.imdecode(np.frombuffer(record.payload, np.uint8), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        assert mask.shape == (96, 96)
        assert set(np.unique(mask)) == {0, 255}
        assert not record.retain


def test_a_result_is_the_full_record(conversation: Conversation) -> None:
    """One per part, with regions where it failed and the time of every stage."""
    records = [record.json for record in conversation.heard.records("result")]
    assert len(records) == conversation.parts
    for result in records:
        assert {"preprocess", "infer", "decide", "wait"} <= set(result["timings_ms"])
        assert (result["verdict"] == "fail") == bool(result["regions"])
        assert result["camera"] == "camera"


def test_the_verdict_precedes_what_is_large(conversation: Conversation) -> None:
    """Nothing of a part comes before its verdict."""
    order = [record.topic.split("/")[6] for record in conversation.heard._records]
    seen: Counter[str] = Counter()
    for level in order:
        seen[level] += 1
        assert seen["result"] <= seen["verdict"]
        assert seen["mask"] <= seen["verdict"]


def test_mqtt_5_says_what_a_payload_is(conversation: Conversation) -> None:
    """Content type, format indicator, and an expiry on the verdict; 3.1.1 has no such thing."""
    heard = conversation.heard
    if conversation.version != "5":
        assert all(record.properties is None for record in heard.records("verdict"))
        return
    for level, kind in (("verdict", "application/json"), ("result", "application/json")):
        for record in heard.records(level):
            assert record.properties.ContentType == kind
            assert record.properties.PayloadFormatIndicator == 1
    for record in heard.below("mask"):
        assert record.properties.ContentType == "image/png"
        assert record.properties.PayloadFormatIndicator == 0
    for record in heard.records("verdict"):
        assert 0 < record.properties.MessageExpiryInterval <= 60
    for record in heard.records("availability"):
        assert record.properties.ContentType == "text/plain"


def test_the_station_says_that_it_comes_and_goes(conversation: Conversation) -> None:
    """Availability and state are retained; the last word is `stopped` and `Halted`."""
    said = [record.payload for record in conversation.heard.records("availability")]
    assert said == [b"online", b"stopped"]
    states = [record.json for record in conversation.heard.records("state")]
    assert [state["state"] for state in states][-2:] == ["ContinuousExecution", "Halted"]
    remains = conversation.remains
    assert [r.payload for r in remains.records("availability")] == [b"stopped"]
    (state,) = remains.records("state")
    assert state.json["state"] == "Halted"
    assert state.json["product_id"] == "tiny"
    assert state.json["revision"].startswith("r0001-")
    assert state.retain


# --- start and end -----------------------------------------------------------------------------


def test_sigterm_drains(broker: Broker, collect: Make, make_station: Make) -> None:
    """What was triggered is answered, `stopped` is said, the status is 0, systemd is told."""
    collector = collect(broker)
    station = make_station(broker, parts=5, camera={"loop": True}, rate=20).start()
    collector.wait_verdicts(5)
    assert station.stop() == 0
    collector.wait_for("availability", b"stopped")
    assert station.rows("state < 3") == 0
    seqs = [verdict["seq"] for verdict in collector.verdicts()]
    assert seqs == list(range(1, station.rows() + 1))
    assert station.notify.heard("WATCHDOG=1")
    assert station.notify.heard("STOPPING=1")


def test_sigkill_is_noticed_and_made_good(
    broker: Broker, collect: Make, make_station: Make
) -> None:
    """The will says `offline`; the next start answers what was open and goes on counting."""
    collector = collect(broker)
    station = make_station(broker, parts=400, rate=100).start()
    collector.wait_verdicts(20)
    station.kill()
    collector.wait_for("availability", b"offline")
    with sqlite3.connect(station.ledger) as ledger:
        ledger.execute(  # as if it had died while two parts were in inspection
            "INSERT INTO part (result_id, state, camera, part_id, frame_id, captured_at,"
            " captured_ns) SELECT 'open-' || n, 0, 'camera', 'open-' || n, 1,"
            " '2026-01-01T00:00:00+00:00', 1000000000000000 + n FROM (SELECT 1 n UNION SELECT 2)"
        )
        last = ledger.execute("SELECT max(seq) FROM part").fetchone()[0]
    ledger.close()
    fill_anew(station, 3)
    assert station.start().wait() == 0
    collector.wait_verdicts(last + 3)
    by_seq: dict[int, dict[str, Any]] = {}
    for verdict in collector.verdicts():
        first = by_seq.setdefault(verdict["seq"], verdict)
        assert first["result_id"] == verdict["result_id"]
    assert sorted(by_seq) == list(range(1, last + 4))
    for verdict in by_seq.values():
        if verdict["part_id"].startswith("open-"):
            assert (verdict["verdict"], verdict["reason"]) == ("undecided", "restarted")
            assert verdict["late"]


def fill_anew(station: Station, parts: int) -> None:
    """Leaves only so many pictures in the camera's folder."""
    for picture in sorted(station.pictures.iterdir())[parts:]:
        picture.unlink()


def test_what_was_not_delivered_is_sent_after_a_restart(
    make_broker: Make, collect: Make, make_station: Make
) -> None:
    """Verdicts that a killed daemon had on their way come with the next start."""
    broker = make_broker().start()
    station = make_station(broker, parts=30, rate=100, camera={"start_delay_s": 1.0}).start()
    station.wait_log("broker_connected")
    broker.pause()
    station.wait_rows(30)
    station.kill()
    broker.kill()
    fill_anew(station, 1)
    station.sections["camera"]["start_delay_s"] = 0.0
    broker.start()
    collector = collect(broker)
    assert station.start().wait() == 0
    verdicts = collector.wait_verdicts(31)
    assert {verdict["seq"] for verdict in verdicts} == set(range(1, 32))
    assert all(verdict["late"] for verdict in verdicts if verdict["seq"] <= 30)


def test_sigterm_during_start_up(broker: Broker, make_station: Make) -> None:
    """A stop that is asked for before the line runs is a clean one."""
    station = make_station(broker, camera={"loop": True}).launch()
    station.wait_log("broker_connected")
    assert station.stop() == 0


def test_a_second_daemon_is_refused(broker: Broker, make_station: Make) -> None:
    """Two daemons would answer each other's parts: the second says so and ends."""
    station = make_station(broker, camera={"loop": True}, rate=5).start()
    second = run_once(station)
    assert second.returncode == 1
    assert "another inspectd" in second.stderr
    assert station.stop() == 0


def run_once(station: Station, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same configuration with a daemon in the foreground, until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "inspectd", "run", "--config", station.config],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def test_a_flipped_byte_is_refused(broker: Broker, make_station: Make) -> None:
    """The daemon doesn't start with a damaged bundle; it names the file and ends with 1."""
    station = make_station(broker)
    flip_byte(station.store, "model.onnx")
    station.write_config()
    refused = run_once(station)
    assert refused.returncode == 1
    assert "model.onnx" in refused.stderr
    assert not station.rows()


def flip_byte(store: ProductStore, name: str) -> None:
    """Damages a file of the current revision."""
    path = store.path("tiny", store.current("tiny")) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"surprise": 1}, "surprise: unknown key"),
        ({"product": "other"}, "other"),
        ({"camera": {"path": "nowhere"}}, "nowhere"),
    ],
)
def test_a_wrong_configuration_is_refused(
    broker: Broker, make_station: Make, change: dict[str, Any], says: str
) -> None:
    """What the user can mend ends the daemon with a sentence, without a trace."""
    station = make_station(broker)
    station.sections.update(change)
    station.write_config()
    refused = run_once(station)
    assert refused.returncode == (1 if "camera" in change else 2)
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr


# --- bad parts ---------------------------------------------------------------------------------


def test_bad_pictures_are_undecided(broker: Broker, collect: Make, make_station: Make) -> None:
    """A wrong size and damaged files get their reason; the parts around them are decided."""
    collector = collect(broker)
    station = make_station(broker, parts=9)
    files = sorted(station.pictures.iterdir())
    cv2.imwrite(str(files[2]), np.zeros((64, 80, 3), np.uint8))
    files[4].write_bytes(files[3].read_bytes()[:500])
    files[6].write_bytes(b"not a picture")
    assert station.start().wait() == 0
    verdicts = collector.wait_verdicts(9)
    assert_complete(verdicts, 9)
    assert_in_order(verdicts)
    reasons = {v["part_id"]: v["reason"] for v in verdicts if v["verdict"] == "undecided"}
    assert reasons == {
        "part-0003": "wrong_size",
        "part-0005": "unreadable_image",
        "part-0007": "unreadable_image",
    }


def test_a_burst_is_answered(broker: Broker, collect: Make, make_station: Make) -> None:
    """Parts beyond capacity are undecided (overrun), none is missing, all come in order."""
    collector = collect(broker)
    station = make_station(broker, parts=300, rate=1000, queue=1, mqtt={"send_mask": False})
    assert station.start().wait() == 0
    verdicts = collector.wait_verdicts(300)
    assert_complete(verdicts, 300)
    assert_in_order(verdicts)
    reasons = Counter(verdict["reason"] for verdict in verdicts)
    assert reasons["overrun"] > 0
    assert reasons["below_threshold"] + reasons["above_threshold"] > 0


def test_names_that_are_not_unicode(broker: Broker, collect: Make, make_station: Make) -> None:
    """A file's name may hold any bytes and any length; its part is answered like others."""
    collector = collect(broker)
    station = make_station(broker, parts=3)
    files = sorted(station.pictures.iterdir())
    files[0].rename(os.fsdecode(os.fsencode(station.pictures) + b"/part-\xff\xfe.png"))
    files[1].rename(station.pictures / ("\U0001f529" * 50 + ".png"))
    assert station.start().wait() == 0
    assert len(collector.wait_verdicts(3)) == 3
    assert all(len(record.payload) < 1024 for record in collector.records("verdict"))


# --- the broker --------------------------------------------------------------------------------


def test_a_password(password_broker: Broker, make_station: Make, collect: Make) -> None:
    """User and password from a systemd credential are taken; a wrong one is told, not shown."""
    station = make_station(
        password_broker, parts=3, mqtt={"username": "station", "password": "wrong-one"}
    )
    assert station.start().wait() == 0
    line = station.log("broker_unavailable")[0]
    assert "refused" in line["reason"]
    assert "password" in line["reason"]
    assert "wrong-one" not in station.log_text()

    credentials = station.folder / "credentials"
    credentials.mkdir()
    (credentials / "mqtt_password").write_text("pass-word-of-the-test\n")
    station.environment["CREDENTIALS_DIRECTORY"] = str(credentials)
    station.sections["camera"]["loop"] = True
    station.start()
    station.wait_log("broker_connected")
    station.wait_delivered(6)
    assert station.stop() == 0
    assert "pass-word-of-the-test" not in station.log_text()


def test_tls(make_broker: Make, certificates: Any, make_station: Make) -> None:
    """The broker's certificate is checked, and the client's is shown where it is asked for."""
    broker = make_broker(*certificates.listener(asks_client=True)).start()
    section = {
        "tls": True,
        "ca_file": str(certificates.file("ca.pem")),
        "cert_file": str(certificates.file("client.pem")),
        "key_file": str(certificates.file("client.key")),
    }
    station = make_station(broker, parts=3, mqtt=section, camera={"loop": True}).start()
    station.wait_delivered(3)
    assert station.stop() == 0


@pytest.mark.parametrize(
    ("server", "section"),
    [
        pytest.param("server", {"ca_file": "other-ca.pem"}, id="unknown authority"),
        pytest.param("elsewhere", {"ca_file": "ca.pem"}, id="wrong host name"),
        pytest.param("server", {"ca_file": "missing.pem"}, id="no such file"),
    ],
)
def test_tls_that_is_not_trusted(
    make_broker: Make,
    certificates: Any,
    make_station: Make,
    server: str,
    section: dict[str, str],
) -> None:
    """Nothing is sent to a broker that can't be trusted; the line runs on and the log says why."""
    broker = make_broker(*certificates.listener(server)).start()
    files = {key: str(certificates.file(name)) for key, name in section.items()}
    station = make_station(broker, parts=3, mqtt={"tls": True, **files})
    assert station.start().wait() == 0
    line = station.wait_log("broker_unavailable")
    assert "TLS" in line["reason"]
    assert "check" in line["reason"]
    assert not station.log("broker_connected")
    assert not station.log("thread_died")
    assert station.rows() == 3


def test_a_broker_that_comes_later(make_broker: Make, collect: Make, make_station: Make) -> None:
    """The line starts without a broker, says so, and delivers every part once it comes."""
    broker = make_broker()
    station = make_station(broker, parts=20, camera={"loop": True}, rate=20).start()
    station.wait_rows(20)
    station.wait_log("broker_unavailable", 3)  # the next attempt is 2 s away
    broker.start()
    collector = collect(broker)
    collector.wait_for("availability", b"online")
    verdicts = collector.wait_verdicts(station.rows() + 5)
    assert station.stop() == 0
    verdicts = collector.wait_verdicts(station.rows())
    assert len({v["result_id"] for v in verdicts}) == len(verdicts)
    assert sorted(v["seq"] for v in verdicts) == list(range(1, station.rows() + 1))
    assert all(v["late"] for v in verdicts if v["seq"] <= 20)
    assert not verdicts[-1]["late"]
    assert_in_order(verdicts)


def test_a_broker_that_dies(make_broker: Make, collect: Make, make_station: Make) -> None:
    """Killed and started again mid-run: one result per part, none lost, fresh ones in order."""
    broker = make_broker().start()
    collector = collect(broker)
    station = make_station(broker, parts=400, rate=50).start()
    collector.wait_verdicts(30)
    broker.kill()
    station.wait_log("broker_unavailable", 3)
    station.pause()  # a broker without persistence gives nothing to who subscribes afterwards
    broker.start()
    collector.wait_subscribed()
    station.resume()
    verdicts = collector.wait_verdicts(400)
    assert_complete(verdicts, 400)
    assert_in_order(verdicts)
    assert station.wait() == 0
    assert any(v["late"] for v in verdicts)


def test_a_broker_that_hangs(make_broker: Make, collect: Make, make_station: Make) -> None:
    """Stopped with its sockets open: noticed within seconds, and nothing is lost."""
    broker = make_broker().start()
    collector = collect(broker)
    station = make_station(broker, parts=5, rate=20, camera={"loop": True}, mqtt={"keepalive_s": 1})
    station.start()
    collector.wait_verdicts(10)
    broker.pause()
    station.wait_log("broker_unavailable")
    broker.resume()
    collector.wait_verdicts(station.rows() + 10)
    assert station.stop() == 0
    verdicts = collector.wait_verdicts(station.rows())
    assert {v["seq"] for v in verdicts} == set(range(1, station.rows() + 1))


def test_a_stop_while_the_broker_hangs(make_broker: Make, make_station: Make) -> None:
    """SIGTERM ends the daemon in bounded time, with everything kept for the next start."""
    broker = make_broker().start()
    station = make_station(broker, parts=50, rate=50, drain_s=1.0).start()
    station.wait_log("broker_connected")
    broker.pause()
    station.wait_rows(10)
    assert station.stop() == 0
    assert station.rows("state = 0") == 0


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("max_inflight_messages 1",), id="one at a time"),
        pytest.param(("max_packet_size 1500",), id="small packets"),
        pytest.param(("message_size_limit 1100",), id="large payloads refused"),
    ],
)
def test_a_broker_with_limits(
    make_broker: Make, collect: Make, make_station: Make, lines: tuple[str, ...]
) -> None:
    """What the broker can't take is left out; verdicts come once, and the connection holds."""
    broker = make_broker(*lines).start()
    collector = collect(broker)
    station = make_station(broker, parts=12, rate=100)
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    for picture in sorted(station.pictures.iterdir())[:4]:
        cv2.imwrite(str(picture), noise)  # its mask and its regions are large
    assert station.start().wait() == 0
    verdicts = collector.wait_verdicts(12)
    assert_complete(verdicts, 12)
    assert len(verdicts) == 12
    assert not station.log("broker_unavailable")
    collector.wait_for("availability", b"stopped")
    assert station.rows("state < 3") == 0


# --- changeover --------------------------------------------------------------------------------


def test_sighup_changes_the_product(broker: Broker, collect: Make, make_station: Make) -> None:
    """A new revision decides from one part to the next; a broken one leaves the old in charge."""
    collector = collect(broker)
    station = make_station(broker, parts=5, camera={"loop": True}, rate=20)
    first, second = two_revisions(station.store)
    station.start()
    collector.wait_verdicts(5)
    station.store.activate("tiny", second)
    station.signal(signal.SIGHUP)
    station.wait_log("product_changed")
    flip_byte(station.store, "model.onnx")
    station.signal(signal.SIGHUP)
    line = station.wait_log("reload_failed")
    assert "model.onnx" in line["detail"]
    seen = len(collector.verdicts())
    collector.wait_verdicts(seen + 5)
    assert station.stop() == 0
    verdicts = collector.wait_verdicts(station.rows())
    revisions = [verdict["revision"] for verdict in verdicts]
    assert revisions == sorted(revisions)
    assert set(revisions) == {first, second}
    assert [verdict["seq"] for verdict in verdicts] == list(range(1, len(verdicts) + 1))
    assert collector.records("alarm")[-1].json["kind"] == "reload_failed"
    assert collector.records("state")[-1].json["revision"] == second


def two_revisions(store: ProductStore) -> tuple[str, str]:
    """The current revision and a copy of it under another number."""
    first = store.current("tiny")
    second = f"r0002-{first.split('-')[1]}"
    source, target = store.path("tiny", first), store.root / "tiny" / second
    shutil.copytree(source, target)
    manifest = store.open("tiny").manifest
    write_manifest(target, manifest.model_copy(update={"revision": second}))
    return first, second


# --- the disk ----------------------------------------------------------------------------------


def test_a_full_disk(broker: Broker, collect: Make, make_station: Make) -> None:
    """Neither ledger nor log can be written: verdicts go out all the same, numbered on."""
    collector = collect(broker)
    station = make_station(broker, parts=40, rate=50)
    station.command = ("prlimit", f"--fsize={120 * 1024}", "--")
    station.start()
    verdicts = collector.wait_verdicts(40)
    assert_complete(verdicts, 40)
    assert_in_order(verdicts)
    assert station.wait() == 0
    alarms = [record.json["kind"] for record in collector.records("alarm")]
    assert "ledger_failed" in alarms


def test_a_log_that_cannot_be_written(broker: Broker, collect: Make, make_station: Make) -> None:
    """A log on a full disk doesn't stop the line."""
    collector = collect(broker)
    station = make_station(broker, parts=5, log_level="debug")
    station.stderr = Path("/dev/full")
    assert station.start().wait() == 0
    assert_complete(collector.wait_verdicts(5), 5)


# --- the gate ----------------------------------------------------------------------------------


def test_the_gate(broker: Broker, make_station: Make, tmp_path: Path) -> None:
    """``inspectd gate`` counts verdicts, runs the command and writes a file per reject."""
    station = make_station(broker, parts=10, rate=20, camera={"start_delay_s": 2.0})
    station.write_config()
    commands = tmp_path / "commands"
    script = tmp_path / "divert.sh"
    script.write_text(f'#!/bin/sh\necho "$INSPECTD_PART_ID $INSPECTD_VERDICT" >> {commands}\n')
    script.chmod(0o755)
    gate = subprocess.Popen(
        [
            *(sys.executable, "-m", "inspectd", "gate", "--config", station.config),
            *("--count", "10", "--json", tmp_path / "counts.json"),
            *("--on-reject", str(script), "--reject-dir", tmp_path / "rejects"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        station.start()
        output, _ = gate.communicate(timeout=40)
    finally:
        gate.kill()
        gate.wait()
    assert gate.returncode == 0
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts["pass"] + counts["fail"] + counts.get("late", 0) == 10
    assert "gap" not in counts
    assert "duplicate" not in counts
    rejected = [json.loads(file.read_text()) for file in (tmp_path / "rejects").glob("*.json")]
    failed = [entry["verdict"]["part_id"] for entry in rejected if entry["verdict"]]
    assert len(failed) == 10 - counts["pass"]
    diverted = {line.split()[0] for line in commands.read_text().splitlines() if line[0] == "p"}
    assert diverted == set(failed)
    assert all(part in output for part in failed)


def test_two_cameras_share_an_engine(broker: Broker, collect: Make, make_station: Make) -> None:
    """Both are answered as ever, each on its own topics, from one engine opened once."""
    station = make_station(broker, parts=12, batching={"max_batch": 2, "max_wait_ms": 20})
    camera = {**station.sections.pop("camera"), "start_delay_s": 1.0}
    station.sections["cameras"] = [{**camera, "name": name} for name in ("left", "right")]
    station.sections["log_level"] = "debug"
    heard = [collect(broker, base=f"{BASE}-{name}") for name in ("left", "right")]
    assert station.start().wait() == 0
    scores = []
    for collector in heard:
        verdicts = collector.wait_verdicts(12)
        assert_complete(verdicts, 12)
        assert {verdict["verdict"] for verdict in verdicts} == {"pass", "fail"}
        scores.append([v["score"] for v in sorted(verdicts, key=lambda v: v["seq"])])
        assert collector.records("state")[-1].json["largest_batch"] == 2
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert [line["lanes"] for line in station.log("engine_shared")] == [1, 2]
    assert max(line["size"] for line in station.log("batch_inferred")) == 2
