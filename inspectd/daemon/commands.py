"""Commands from the plant: what may be asked for over MQTT. Pure: bytes in, a command out.

A command is a JSON object on ``<station>/cmd/<verb>``. Who may publish there is the broker's to
say. A retained one is ignored, for it was meant for another moment; whatever else is not a command
is answered with what is wrong, and changes nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspectd.core.config import ProductId
from inspectd.core.errors import CommandError

SCHEMA = "inspectd/reply/1"
MAX_PAYLOAD_BYTES = 4096
MAX_TOPIC_BYTES = 256
MAX_CORRELATION_BYTES = 256
MAX_ID = 64
MAX_SHOWN = 200
"""Characters of what somebody sent that an error repeats."""

Revision = Annotated[str, Field(pattern=r"^r\d{4,9}-[0-9a-f]{8}$")]
AlarmId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}-\d{1,12}$")]


class Command(BaseModel):
    """One of those below; unknown keys are refused, and no value is bent into another kind."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    id: Annotated[str, Field(max_length=MAX_ID)] | None = None
    """Repeated in the reply, for those who have no correlation data (MQTT 3.1.1)."""


class PrepareProduct(Command):
    """Loads and warms a product up beside the running one."""

    product: ProductId
    revision: Revision | None = None
    """By default the one that is active in the store."""


class Activate(Command):
    """Inspects with another product from the next trigger on."""

    product: ProductId | None = None
    """Prepared first if it isn't yet; by default what is prepared."""
    revision: Revision | None = None


class Start(Command):
    """Takes up inspection after `Stop`."""


class Stop(Command):
    """Stops to inspect: parts are answered `undecided` until `Start`."""


class ConfirmAlarm(Command):
    """Takes note of an alarm."""

    alarm_id: AlarmId | None = None
    """By default all."""


class SetSimulation(Command):
    """Marks the verdicts from the next trigger on as simulated, or no longer."""

    on: bool


VERBS: dict[str, type[Command]] = {
    "prepare_product": PrepareProduct,
    "activate": Activate,
    "start": Start,
    "stop": Stop,
    "confirm_alarm": ConfirmAlarm,
    "set_simulation": SetSimulation,
}


@dataclass(frozen=True, slots=True)
class Sender:
    """Where the reply goes."""

    verb: str
    topic: str
    correlation: bytes | None = None
    id: str | None = None


def parse(verb: str, payload: bytes) -> Command:
    """The command that a message holds; an empty payload is an empty object.

    Raises:
        CommandError: it is none; the message says what is wrong with it.
    """
    kind = VERBS.get(verb)
    if kind is None:
        raise CommandError(f"no command {_shown(verb)}; known: {', '.join(VERBS)}")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise CommandError(
            f"the payload has {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} are taken"
        )
    try:
        content = json.loads(payload) if payload.strip() else {}
    except (ValueError, RecursionError):
        raise CommandError("the payload is not JSON") from None
    if not isinstance(content, dict):
        raise CommandError("the payload is not a JSON object")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise CommandError(_explained(error)) from None


def id_of(payload: bytes) -> str | None:
    """The sender's id in what may be no command at all: its reply carries it all the same."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        return None
    try:
        found = json.loads(payload)["id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) and len(found) <= MAX_ID else None


def reply_topic(wanted: str | None, root: str, base: str) -> str:
    """Where the reply goes: the response topic, or ``<base>/reply`` where none is given.

    A reply must not pass for a verdict, of this station or another: a response topic lies outside
    of `root`, below which all stations publish, or below ``<base>/reply``.

    Raises:
        CommandError: the response topic can't be used; the reply then goes to ``<base>/reply``.
    """
    own = f"{base}/reply"
    if wanted is None:
        return own
    try:
        size = len(wanted.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= MAX_TOPIC_BYTES:
        raise CommandError(f"the response topic has to have 1 to {MAX_TOPIC_BYTES} bytes of UTF-8")
    if any(sign in wanted for sign in "+#") or wanted[0] == "$" or not wanted.isprintable():
        raise CommandError("the response topic holds a wildcard or a control character, or is $...")
    if f"{wanted}/".startswith(f"{root}/") and not wanted.startswith(f"{own}/"):
        raise CommandError(f"the response topic lies below {root}; only below {own}/ it may")
    return wanted


def reply(sender: Sender, *, ok: bool, text: str, **facts: Any) -> str:
    """What the sender gets to read: JSON."""
    content = {"schema": SCHEMA, "command": sender.verb[:64], "ok": ok, "text": text}
    if sender.id is not None:
        content["id"] = sender.id
    return json.dumps({**content, **facts}, default=str)


def _explained(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(str(part) for part in problem["loc"]) or "the payload"
        unknown = problem["type"] == "extra_forbidden"
        problems.append(f"{_shown(where)}: {'unknown key' if unknown else problem['msg']}")
    return "; ".join(problems[:5])


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_SHOWN])
