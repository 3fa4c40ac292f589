"""Messages between the daemon and a camera's process: what goes in comes out."""

from __future__ import annotations

import pytest

from inspectd.acquisition.messages import (
    KINDS,
    MAX_BYTES,
    Alive,
    Bad,
    Count,
    Gone,
    Message,
    Picture,
    Ready,
    Refused,
    pack,
    unpack,
)
from inspectd.core.records import Reason

MESSAGES: list[Message] = [
    Alive("waiting", "A1 isn't there; visible: Grüße"),
    Ready("maker model 1", slots=16, slot_bytes=4096, rate=99.5, count=None),
    Picture(3, (48, 64), 7, 123_456_789_012_345_678, 2**63, 9, -5, 499.25, 3, 12),
    Picture(0, (48, 64, 3), 0, 1),
    Bad(Reason.OVERRUN, "16 pictures wait"),
    Bad("incomplete_frame", "half", 1, 2, 3, 4),
    Count(2**40),
    Gone("IoException: gone"),
    Refused("feature ExposureTime: wanted 1, got 2"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    """Numbers of any size, shapes as tuples, text in any language."""
    packet = pack(message)
    assert unpack(packet) == message
    assert len(packet) < MAX_BYTES


def test_every_kind_is_tried() -> None:
    """A new kind needs an example above."""
    assert {type(message).__name__ for message in MESSAGES} == set(KINDS)
