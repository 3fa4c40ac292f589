"""Obeys the commands that come over MQTT, and answers each.

A command is heard in the publisher's thread and obeyed in the main thread, one after the other and
few at a time. Its reply says what happened, when it has happened.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import BoundedSemaphore
from typing import Any

import structlog

from inspectd.core.errors import CommandError, InspectdError
from inspectd.daemon import commands
from inspectd.daemon.answers import Setup
from inspectd.daemon.changeover import Choice
from inspectd.daemon.commands import Command, Sender
from inspectd.daemon.lane import PAUSED, SIMULATED, Lane, Prepared
from inspectd.publishers.connection import Message, Received

log = structlog.get_logger()

MAX_WAITING = 32
"""Commands that may wait; more are answered with an error."""


class Operator:
    """The commands of one lane."""

    def __init__(self, lane: Lane, post: Callable[[Callable[[], None]], None]) -> None:
        """`post` has something called in the main thread."""
        self._lane = lane
        self._post = post
        self._room = BoundedSemaphore(MAX_WAITING)

    def hear(self, event: Received) -> None:
        """A message on ``cmd/<verb>``; never blocks."""
        if event.retained:
            log.warning("command_ignored", topic=event.topic, reason="it is retained")
            return
        if not self._room.acquire(blocking=False):
            self._reply(self._sender(event), ok=False, text=f"{MAX_WAITING} commands are waiting")
            return
        self._post(lambda: self._obey(event))

    def _obey(self, event: Received) -> None:
        self._room.release()
        sender = self._sender(event)
        try:
            commands.reply_topic(event.response_topic, self._lane.root, self._lane.topics.base)
            command = commands.parse(sender.verb, event.payload)
            asked = command.model_dump(exclude_none=True)
            log.info("command_received", verb=sender.verb, **asked)
            self._do(command, sender)
        except InspectdError as error:
            self._refuse(sender, error)

    def _do(self, command: Command, sender: Sender) -> None:
        lane = self._lane
        match command:
            case commands.PrepareProduct(product=product, revision=revision):
                choice = lane.choice(product, revision)
                lane.changeover.begin(choice, lambda found: self._keep(choice, found, sender))
            case commands.Activate():
                self._activate(command, sender)
            case commands.Start() | commands.Stop():
                lane.line.is_paused = isinstance(command, commands.Stop)
                lane.remember(PAUSED, "by command" if lane.line.is_paused else None)
                lane.announce()
                self._reply(sender, text="stopped" if lane.line.is_paused else "started")
            case commands.ConfirmAlarm(alarm_id=alarm_id):
                count = lane.alarms.confirm(alarm_id)
                if alarm_id is not None and not count:
                    raise CommandError(f"no unconfirmed alarm {alarm_id}")
                lane.announce()
                self._reply(sender, text=f"{count} confirmed", confirmed=count)
            case commands.SetSimulation(on=False) if lane.is_fixed_simulated:
                raise CommandError("the configuration says simulation = true; change it there")
            case commands.SetSimulation(on=on):
                lane.line.is_simulated = on
                lane.remember(SIMULATED, "by command" if on else None)
                lane.announce()
                self._reply(sender, text=f"simulation {'on' if on else 'off'}")

    def _activate(self, command: commands.Activate, sender: Sender) -> None:
        """What is prepared, or what is named, which is prepared first."""
        lane, prepared = self._lane, self._lane.prepared
        if command.product is not None:
            choice = lane.choice(command.product, command.revision)
        elif command.revision is not None:
            raise CommandError("revision: name the product too")
        elif prepared is None:
            raise CommandError("nothing is prepared; name a product, or prepare_product first")
        else:
            choice = lane.choice(prepared.choice.product, prepared.choice.revision)
        if prepared is not None and prepared.choice == choice:
            lane.prepared = None
            self._switch(prepared.setup, sender)
            return
        lane.changeover.begin(choice, lambda found: self._switch(found, sender))

    def _switch(self, found: Setup | InspectdError, sender: Sender) -> None:
        before = self._lane.line.setup
        try:
            self._lane.adopt(found)
        except InspectdError as error:
            self._refuse(sender, error)
            return
        setup = self._lane.line.setup
        self._lane.remember_choice(setup)
        text = f"{setup.product} {setup.revision} is active, after {before.product}"
        self._reply(sender, text=text, **_facts(setup))

    def _keep(self, choice: Choice, found: Setup | InspectdError, sender: Sender) -> None:
        if isinstance(found, InspectdError):
            self._refuse(sender, found)
            return
        replaced, self._lane.prepared = self._lane.prepared, Prepared(choice, found)
        if replaced is not None:
            replaced.setup.lifetime.close()
        self._lane.announce()
        text = f"{found.product} {found.revision} is prepared; activate it"
        self._reply(sender, text=text, **_facts(found))

    def _refuse(self, sender: Sender, error: InspectdError) -> None:
        log.warning("command_refused", verb=sender.verb[:64], reason=str(error))
        active = self._lane.line.setup
        self._reply(
            sender, ok=False, text=str(error), active=active.product, revision=active.revision
        )

    def _sender(self, event: Received) -> Sender:
        own = f"{self._lane.topics.base}/reply"
        try:
            topic = commands.reply_topic(
                event.response_topic, self._lane.root, self._lane.topics.base
            )
        except CommandError:
            topic = own
        correlation = event.correlation
        if correlation is not None and len(correlation) > commands.MAX_CORRELATION_BYTES:
            correlation = None
        verb = event.topic.rsplit("/", 1)[-1]
        return Sender(verb, topic, correlation, commands.id_of(event.payload))

    def _reply(self, sender: Sender, *, text: str, ok: bool = True, **facts: Any) -> None:
        payload = commands.reply(sender, ok=ok, text=text, **facts)
        self._lane.publisher.send(
            Message(sender.topic, payload, correlation=sender.correlation, expiry_s=60)
        )


def _facts(setup: Setup) -> dict[str, Any]:
    return {
        "product_id": setup.product,
        "revision": setup.revision,
        "threshold": setup.inspector.bundle.threshold.image,
        "deadline_ms": setup.deadline_ms,
        "runtime": setup.inspector.runtime.name,
    }
