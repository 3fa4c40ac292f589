"""Commands from the plant: what is one is understood, and nothing else changes anything.

The fuzzing at the end obeys its inputs with a real lane (ledger, publisher, line) whose state is
compared before and after.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.core.config import load_settings
from inspectd.core.errors import CommandError
from inspectd.core.store import ProductStore
from inspectd.daemon import commands
from inspectd.daemon.commands import VERBS, Command, Sender, parse, reply, reply_topic
from inspectd.daemon.lane import PAUSED, PRODUCT, SIMULATED, Lane
from inspectd.daemon.operator import MAX_WAITING, Operator
from inspectd.daemon.sharing import Engines
from inspectd.publishers.connection import Message, Received

BASE = "inspectd/v1/site/area/line/station"
FUZZED = 100_000


@pytest.mark.parametrize(
    ("verb", "content", "expected"),
    [
        ("prepare_product", {"product": "cap"}, {"product": "cap"}),
        (
            "prepare_product",
            {"product": "cap", "revision": "r0002-0123abcd", "id": "7"},
            {"product": "cap", "revision": "r0002-0123abcd", "id": "7"},
        ),
        ("activate", {}, {}),
        ("activate", {"product": "cap"}, {"product": "cap"}),
        ("start", {}, {}),
        ("stop", {}, {}),
        ("confirm_alarm", {"alarm_id": "0123abcd-12"}, {"alarm_id": "0123abcd-12"}),
        ("set_simulation", {"on": True}, {"on": True}),
    ],
)
def test_what_is_a_command(verb: str, content: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each verb takes a JSON object with its fields."""
    found = parse(verb, json.dumps(content).encode())
    assert type(found) is VERBS[verb]
    assert found.model_dump(exclude_none=True) == expected


@pytest.mark.parametrize("payload", [b"", b"  \n"])
def test_an_empty_payload_is_an_empty_object(payload: bytes) -> None:
    """So that `mosquitto_pub -n` starts and stops."""
    assert isinstance(parse("start", payload), commands.Start)


@pytest.mark.parametrize(
    ("verb", "payload", "problem"),
    [
        ("reboot", b"{}", "no command reboot"),
        ("start", b"{", "not JSON"),
        ("start", b"\xff\xfe", "not JSON"),
        ("start", b"[" * 4000, "not JSON"),
        ("start", b"[]", "not a JSON object"),
        ("start", b"null", "not a JSON object"),
        ("start", b'{"now": true}', "now: unknown key"),
        ("start", b" " * 5000, "5000 bytes"),
        ("prepare_product", b"{}", "product: Field required"),
        ("prepare_product", b'{"product": "../../etc"}', "product: String should match"),
        ("prepare_product", b'{"product": "a", "revision": "current"}', "revision: "),
        ("prepare_product", b'{"product": 7}', "product: Input should be a valid string"),
        ("set_simulation", b'{"on": "yes"}', "on: Input should be a valid boolean"),
        ("set_simulation", b'{"on": 1}', "on: Input should be a valid boolean"),
        ("confirm_alarm", b'{"alarm_id": "x"}', "alarm_id: "),
        ("stop", b'{"id": "' + b"x" * 65 + b'"}', "id: String should have at most 64"),
    ],
)
def test_what_is_no_command(verb: str, payload: bytes, problem: str) -> None:
    """It is told what is wrong, in a short sentence."""
    with pytest.raises(CommandError) as caught:
        parse(verb, payload)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 600


def test_an_error_shows_no_control_characters() -> None:
    """What somebody sent may be read in a terminal."""
    with pytest.raises(CommandError) as caught:
        parse("\x1b[2Jboom\n", b"{}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, f"{BASE}/reply"),
        ("plc/7/replies", "plc/7/replies"),
        (f"{BASE}/reply/mes", f"{BASE}/reply/mes"),
        ("inspectd/v1x", "inspectd/v1x"),
    ],
)
def test_where_a_reply_goes(wanted: str | None, expected: str) -> None:
    """Where the sender wants it, or to the station's own place for replies."""
    assert reply_topic(wanted, "inspectd/v1", BASE) == expected


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "inspectd/v1",
        f"{BASE}/verdict",
        f"{BASE}/reply",
        "inspectd/v1/other/area/line/station/verdict",
        "plc/+",
        "plc/#",
        "$SYS/broker",
        "x" * 300,
        "a\0b",
        "\ud800",
    ],
)
def test_a_reply_cannot_pass_for_a_verdict(wanted: str) -> None:
    """Nor reach a wildcard, the broker itself, or more than a topic should have."""
    with pytest.raises(CommandError, match="response topic"):
        reply_topic(wanted, "inspectd/v1", BASE)


def test_a_reply_says_what_it_is_to() -> None:
    """With the sender's id, where there was one."""
    sender = Sender("activate", "topic", id="7")
    assert json.loads(reply(sender, ok=False, text="no", product_id="cap")) == {
        "schema": "inspectd/reply/1",
        "command": "activate",
        "ok": False,
        "text": "no",
        "id": "7",
        "product_id": "cap",
    }


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"id": "7", "nonsense": 1}', "7"),
        (b'{"id": 7}', None),
        (b'{"id": "' + b"x" * 65 + b'"}', None),
        (b"[7]", None),
        (b"7", None),
        (b"{", None),
        (b" " * 5000, None),
    ],
)
def test_the_id_of_what_is_no_command(payload: bytes, expected: str | None) -> None:
    """Who sent nonsense can still tell the reply."""
    assert commands.id_of(payload) == expected


@given(verb=st.text() | st.sampled_from(sorted(VERBS)), payload=st.binary(max_size=300))
def test_whatever_comes_is_a_command_or_an_error(verb: str, payload: bytes) -> None:
    """Nothing else is ever raised."""
    with suppress(CommandError):
        assert isinstance(parse(verb, payload), Command)


# --- a real lane -------------------------------------------------------------------------------


class Desk:
    """A lane without a broker, its operator, and the replies that would be sent."""

    def __init__(self, config: Path, stack: ExitStack) -> None:
        self.posted: SimpleQueue[Any] = SimpleQueue()
        settings = load_settings(config)
        root = settings.state_dir
        assert root is not None
        self.lane = Lane(
            config, root, settings, settings.lanes[0], self.posted.put, Engines(settings.batching)
        )
        self.operator = Operator(self.lane, self.posted.put)
        stack.enter_context(self.lane)
        stack.callback(lambda: self.lane.stop(in_order=True))
        self.lane.start()
        self.replies: list[Message] = []
        self.lane.publisher.send = self.replies.append  # type: ignore[method-assign]

    def tell(self, verb: str, payload: bytes = b"", **more: Any) -> None:
        """A message as the broker brings it, obeyed at once."""
        message = {"retained": False, "received_ns": 0, **more}
        self.operator.hear(Received(f"{BASE}/cmd/{verb}", payload, **message))
        self.work()

    def work(self, *, until_replied: bool = False) -> None:
        """What the main thread would do."""
        before = len(self.replies)
        while not self.posted.empty() or (until_replied and len(self.replies) == before):
            self.posted.get(timeout=20)()

    def answer(self) -> dict[str, Any]:
        """The newest reply."""
        return dict(json.loads(self.replies[-1].payload))

    def state(self) -> tuple[object, ...]:
        """All that a command could change."""
        lane = self.lane
        return (
            lane.line.setup,
            lane.line.is_paused,
            lane.line.is_simulated,
            lane.prepared,
            lane.changeover.running,
            lane.alarms.unconfirmed,
            *(lane.ledger.recall(name) for name in (PRODUCT, PAUSED, SIMULATED)),
            lane.trouble(),
        )


@pytest.fixture
def desk(tiny_copy: ProductStore, tiny_data: Path, tmp_path: Path) -> Iterator[Desk]:
    """Of a station that waits for its first part."""
    config = tmp_path / "inspectd.toml"
    config.write_text(
        f'product = "tiny"\nruntime = "onnxruntime"\nthreads = 1\ndrain_s = 1.0\n'
        f"state_dir = {json.dumps(str(tiny_copy.root.parent))}\n"
        f"[camera]\npath = {json.dumps(str(tiny_data / 'holdout' / 'good'))}\n"
        "start_delay_s = 3600\n[mqtt]\nport = 9\n"
    )
    with ExitStack() as stack:
        yield Desk(config, stack)


def test_stop_and_start(desk: Desk) -> None:
    """Each is answered, and outlives a restart in the ledger."""
    desk.tell("stop", correlation=b"1", response_topic="plc/replies")
    assert desk.lane.line.is_paused
    assert desk.lane.ledger.recall(PAUSED) is not None
    assert (desk.replies[0].topic, desk.replies[0].correlation) == ("plc/replies", b"1")
    desk.tell("start")
    assert not desk.lane.line.is_paused
    assert desk.lane.ledger.recall(PAUSED) is None
    assert desk.answer()["ok"]


def test_an_alarm_is_confirmed_once(desk: Desk) -> None:
    """By its id; one that isn't there is an error."""
    desk.lane.alarms("camera_lost", "gone")
    (alarm_id,) = desk.lane.alarms.unconfirmed
    desk.tell("confirm_alarm", json.dumps({"alarm_id": alarm_id}).encode())
    assert desk.answer()["confirmed"] == 1
    desk.tell("confirm_alarm", json.dumps({"alarm_id": alarm_id}).encode())
    assert not desk.answer()["ok"]


def test_a_second_preparation_is_refused_while_one_runs(desk: Desk) -> None:
    """And the first one is answered when it is done."""
    desk.tell("prepare_product", b'{"product": "tiny", "id": "first"}')
    desk.tell("prepare_product", b'{"product": "tiny", "id": "second"}')
    if not desk.answer()["ok"]:  # else the first was done already
        assert desk.answer()["id"] == "second"
        assert "is being prepared" in desk.answer()["text"]
    while desk.lane.changeover.running is not None:
        desk.work(until_replied=True)
    assert desk.lane.prepared is not None


def test_a_flood_is_refused_not_queued(desk: Desk) -> None:
    """Beyond a few that wait, a command is answered with an error at once."""
    for _ in range(MAX_WAITING + 5):
        desk.operator.hear(Received(f"{BASE}/cmd/stop", b"", False, 0))
    assert len(desk.replies) == 5
    assert "commands are waiting" in desk.answer()["text"]
    desk.work()
    assert len(desk.replies) == MAX_WAITING + 5


def test_a_retained_command_is_ignored(desk: Desk) -> None:
    """Without a reply: it was meant for another moment."""
    before = desk.state()
    desk.tell("stop", retained=True)
    assert desk.state() == before
    assert desk.replies == []


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    lambda r, p: p[: r.randrange(len(p) + 1)],
    lambda r, p: p + r.randbytes(r.randrange(20)),
    lambda r, p: bytes(b ^ (1 << r.randrange(8)) if r.random() < 0.1 else b for b in p),
    lambda r, p: p.replace(b'"', r.choice([b"'", b'""', b"", b"\\"]), r.randrange(1, 4)),
    lambda r, p: p.replace(b":", r.choice([b": null,", b":[", b"=", b":1e999"]), 1),
    lambda r, p: b'{"' + r.choice([b"product", b"on", b"id", b"__class__"]) + b'": ' + p + b"}",
    lambda r, p: b"[" * r.randrange(2000) + p,
    lambda r, p: p.replace(b"cap", r.choice([b"../x", b"/", b"CAP", b"\x00", "ä".encode(), b""])),
)
SEEDS = (
    b'{"product": "cap", "revision": "r0002-0123abcd"}',
    b'{"on": true, "id": "7"}',
    b'{"alarm_id": "0123abcd-7"}',
    b"{}",
)


def test_a_hundred_thousand_inputs_change_nothing(desk: Desk) -> None:
    """Mutated commands, random bytes, strange verbs and topics: no crash, and the same state.

    An input that is a command by chance isn't sent: there are none that could be obeyed without
    changing something.
    """
    chance = random.Random(2026)  # noqa: S311 - no secret
    before, sent, obeyed = desk.state(), 0, 0
    letters = [*string.ascii_lowercase, "_", "/", "\0", "ä", "\ud800"]
    while sent < FUZZED:
        if chance.random() < 0.9:
            verb = chance.choice(sorted(VERBS))
        else:
            verb = "".join(chance.choices(letters, k=5))
        payload = chance.choice(SEEDS)
        if chance.random() < 0.1:
            payload = chance.randbytes(chance.randrange(64))
        for _ in range(chance.randrange(1, 4)):
            payload = chance.choice(MUTATIONS)(chance, payload)
        topic = chance.choice([None, "plc/r", f"{BASE}/verdict", "a/#", "", "x" * 999, "\ud800"])
        try:
            parse(verb.rsplit("/", 1)[-1], payload)
            obeyed += 1
            continue
        except CommandError:
            sent += 1
        correlation = chance.randbytes(chance.choice([0, 8, 400]))
        desk.tell(verb, payload, response_topic=topic, correlation=correlation)
        assert not desk.answer()["ok"]
        reply_to = desk.replies.pop()
        assert reply_to.topic in (f"{BASE}/reply", "plc/r")
        if sent % 5000 == 0:
            assert desk.state() == before
    assert desk.state() == before
    assert obeyed < FUZZED
