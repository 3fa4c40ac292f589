"""Commands over a real broker: what is asked for happens between two parts, and is answered."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from inspectd.core.config import load_settings
from inspectd.core.errors import CommandError
from inspectd.remote import ask

Make = Callable[..., Any]
BASE = "inspectd/v1/site/area/line/station"


def tell(station: Any, verb: str, **content: Any) -> dict[str, Any]:
    """Sends a command as any client would and returns the reply."""
    return ask(load_settings(station.config).mqtt, BASE, verb, content, 40.0)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_product_changes_while_the_line_runs(
    broker: Any, collect: Make, make_station: Make, add_product: Make, version: str
) -> None:
    """Prepared beside the running one, activated between two parts; no part is lost."""
    collector = collect(broker)
    more = {"mqtt": {"version": version}}
    station = make_station(broker, parts=5, camera={"loop": True}, rate=20, **more)
    add_product(station.store, "other")
    station.start()
    collector.wait_verdicts(3)
    prepared = tell(station, "prepare_product", product="other")
    assert prepared["ok"]
    assert prepared["product_id"] == "other"
    assert collector.verdicts()[-1]["product_id"] == "tiny"
    assert tell(station, "activate")["product_id"] == "other"
    seen = len(collector.verdicts())
    collector.wait_verdicts(seen + 5)
    assert tell(station, "activate", product="tiny")["product_id"] == "tiny"
    seen = len(collector.verdicts())
    collector.wait_verdicts(seen + 5)
    assert station.stop() == 0
    verdicts = collector.wait_verdicts(station.rows())
    assert [v["seq"] for v in verdicts] == list(range(1, len(verdicts) + 1))
    products = [v["product_id"] for v in verdicts]
    changes = [a + ">" + b for a, b in pairwise(products) if a != b]
    assert changes == ["tiny>other", "other>tiny"]
    assert all(v["verdict"] != "undecided" for v in verdicts)


def test_what_cannot_be_activated_leaves_the_old_product_running(
    broker: Any, collect: Make, make_station: Make, add_product: Make
) -> None:
    """A damaged bundle, one that isn't there, and nonsense: each is answered with the reason."""
    collector = collect(broker)
    station = make_station(broker, parts=5, camera={"loop": True}, rate=20)
    add_product(station.store, "other")
    model = next((station.store.root / "other").glob("r*/model.onnx"))
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    station.start()
    for content, problem in (
        ({"product": "other"}, "model.onnx"),
        ({"product": "nobody"}, "has no active revision"),
        ({"product": "tiny", "revision": "r9999-00000000"}, "has no revision"),
        ({"product": "NO"}, "product: String should match"),
        ({}, "nothing is prepared"),
    ):
        answer = tell(station, "activate", **content)
        assert not answer["ok"]
        assert problem in answer["text"]
    seen = len(collector.verdicts())
    verdicts = collector.wait_verdicts(seen + 5)
    assert {v["product_id"] for v in verdicts} == {"tiny"}
    assert station.stop() == 0


def test_what_commands_set_outlives_the_daemon(
    broker: Any, collect: Make, make_station: Make, add_product: Make
) -> None:
    """A crash changes neither product nor stop; `--as-configured` and SIGHUP forget them."""
    collector = collect(broker)
    station = make_station(broker, parts=5, camera={"loop": True}, rate=20)
    add_product(station.store, "other")
    station.start()
    assert tell(station, "activate", product="other")["ok"]
    assert tell(station, "stop")["ok"]
    assert tell(station, "set_simulation", on=True)["ok"]
    station.kill()
    station.start()
    seen = len(collector.verdicts())
    verdict = collector.wait_verdicts(seen + 5)[-1]
    assert (verdict["product_id"], verdict["reason"]) == ("other", "stopped")
    assert verdict["is_simulated"]
    state = collector.records("state")[-1].json
    assert (state["state"], state["product_id"]) == ("Ready", "other")
    assert tell(station, "start")["ok"]
    station.signal(1)
    station.wait_log("product_changed", 2)
    seen = len(collector.verdicts())
    assert collector.wait_verdicts(seen + 5)[-1]["product_id"] == "tiny"
    assert station.stop() == 0


def publish(port: int, topic: str, payload: str, **more: Any) -> None:
    """As `mosquitto_pub` would."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.publish(topic, payload, qos=1, **more).wait_for_publish(20)
    client.disconnect()
    client.loop_stop()


def test_retained_commands_are_ignored(broker: Any, collect: Make, make_station: Make) -> None:
    """Whether they wait for the station or come while it runs."""
    collector = collect(broker)
    station = make_station(broker, parts=5, camera={"loop": True}, rate=20)
    publish(broker.port, f"{BASE}/cmd/stop", "{}", retain=True)
    station.start()
    collector.wait_verdicts(3)
    publish(broker.port, f"{BASE}/cmd/stop", "{}", retain=True)
    station.wait_log("command_ignored")
    assert tell(station, "confirm_alarm")["ok"]
    assert all(v["verdict"] != "undecided" for v in collector.verdicts())
    assert station.stop() == 0


def test_a_reply_is_where_it_is_wanted(broker: Any, collect: Make, make_station: Make) -> None:
    """With the correlation data; one that would pass for a verdict goes to the station's place."""
    collector = collect(broker)
    elsewhere = collect(broker, base="plc")
    station = make_station(broker, parts=5, camera={"loop": True}, rate=20)
    station.start()
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic, properties.CorrelationData = "plc/replies", b"\x00\xff7"
    publish(broker.port, f"{BASE}/cmd/start", "{}", properties=properties)
    elsewhere.wait_records("replies")
    (record,) = elsewhere.records("replies")
    assert record.properties.CorrelationData == b"\x00\xff7"
    assert record.json["ok"]
    properties.ResponseTopic = f"{BASE}/verdict"
    publish(broker.port, f"{BASE}/cmd/start", "{}", properties=properties)
    collector.wait_records("reply")
    assert "response topic" in collector.records("reply")[-1].json["text"]
    assert all(
        record.json["schema"] == "inspectd/verdict/1" for record in collector.records("verdict")
    )
    assert station.stop() == 0


def test_commands_may_be_turned_off(broker: Any, make_station: Make) -> None:
    """Then the station doesn't even listen."""
    station = make_station(broker, parts=5, camera={"loop": True}, mqtt={"commands": False})
    station.start()
    with pytest.raises(CommandError, match="no reply to stop"):
        ask(load_settings(station.config).mqtt, BASE, "stop", {}, 1.0)
    assert station.stop() == 0


def test_a_broker_that_refuses_the_commands(
    make_broker: Make, collect: Make, make_station: Make, tmp_path: Path
) -> None:
    """The ACL is the authority: who may not command is not heard, and verdicts go on."""
    acl = tmp_path / "acl"
    acl.write_text(
        f"topic readwrite {BASE}/verdict\ntopic readwrite {BASE}/availability\n"
        f"topic readwrite {BASE}/state\ntopic read {BASE}/cmd/#\ntopic readwrite {BASE}/reply/#\n"
    )
    broker = make_broker(f"acl_file {acl}").start()
    collector = collect(broker)
    station = make_station(broker, parts=5, camera={"loop": True}, rate=20)
    station.start()
    with pytest.raises(Exception, match="cmd/stop: Not authorized"):
        tell(station, "stop")
    seen = len(collector.verdicts())
    assert collector.wait_verdicts(seen + 3)[-1]["verdict"] != "undecided"
    assert station.stop() == 0


def test_the_command_line(
    broker: Any, collect: Make, make_station: Make, add_product: Make
) -> None:
    """``inspectd command`` prints what happened; a refusal is an error."""
    station = make_station(broker, parts=5, camera={"loop": True}, rate=20)
    add_product(station.store, "other")
    station.start()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "inspectd", "command", *words, "-c", str(station.config)],
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("activate", "other")
    assert done.returncode == 0, done.stderr
    assert "other" in done.stdout
    assert json.loads(run("stop", "--json").stdout)["ok"]
    refused = run("activate", "nobody")
    assert refused.returncode == 1
    assert "has no active revision" in refused.stderr
    assert station.stop() == 0
    silent = run("start", "--timeout", "0.5")
    assert silent.returncode == 1
    assert "is the station online" in " ".join(silent.stderr.split())


def test_a_listener_hears_nothing_of_others(broker: Any) -> None:
    """Of several replies on one topic (MQTT 3.1.1), each sender takes its own."""
    from inspectd.remote import _reply

    found: SimpleQueue[Any] = SimpleQueue()
    for payload in (b"no JSON", b"[]", b'{"id": "another"}', b'{"id": "mine", "ok": true}'):
        if (mine := _reply(payload, "mine")) is not None:
            found.put(mine)
    assert found.get_nowait()["ok"]
    assert found.empty()
