"""The ring: bounded, never overwritten under anybody's hands, nothing left behind."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspectd.acquisition.ring import PAGE, RingReader, RingWriter, ring_bytes

SHAPE = (4, 8)


def pair(slots: int = 2) -> tuple[RingWriter, RingReader]:
    """Both ends in one process."""
    writer = RingWriter(slots, 64)
    reader = RingReader(os.dup(writer.handle), slots, 64)
    os.close(writer.handle)
    return writer, reader


def write(writer: RingWriter, shade: int) -> int:
    """A picture of one shade; its slot."""
    slot = writer.claim()
    assert slot is not None
    writer.picture(slot, SHAPE)[:] = shade
    return slot


def test_a_picture_comes_through_uncopied_and_read_only() -> None:
    """What the child writes is what the daemon sees."""
    writer, reader = pair()
    slot = write(writer, 7)
    image = reader.picture(slot, SHAPE)
    assert (image == 7).all()
    writer.picture(slot, SHAPE)[0, 0] = 9
    assert image[0, 0] == 9
    assert not image.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0] = 1


def test_a_full_ring_gives_no_slot() -> None:
    """Until a picture is let go."""
    writer, reader = pair()
    images = [reader.picture(write(writer, shade), SHAPE) for shade in (1, 2)]
    assert writer.claim() is None
    del images[0]
    assert writer.claim() == 0
    assert writer.claim() is None
    assert (images[0] == 2).all()


@pytest.mark.parametrize(
    "view",
    [
        lambda image: image[1:, ::2],
        lambda image: image[1:][:, 2:].T,
        lambda image: image.reshape(-1)[3:],
        memoryview,
        lambda image: np.asarray(image).view("<u2"),
        lambda image: np.frombuffer(image, np.uint8)[5:],
        lambda image: np.lib.stride_tricks.sliding_window_view(image, (2, 2)),
    ],
)
def test_the_last_view_frees_the_slot(view: Callable[[Any], Any]) -> None:
    """Not the picture's own end: whoever holds a part of it holds its slot."""
    writer, reader = pair(slots=1)
    image = reader.picture(write(writer, 5), SHAPE)
    part = view(image)
    del image
    gc.collect()
    assert writer.claim() is None
    del part
    assert writer.claim() == 0


def test_a_claimed_slot_can_be_given_up() -> None:
    """Its frame couldn't be decoded."""
    writer, _ = pair(slots=1)
    slot = writer.claim()
    assert slot is not None
    writer.release(slot)
    assert writer.claim() == slot


def test_slots_are_used_in_turn() -> None:
    """So that a picture which was just let go isn't overwritten next."""
    writer, reader = pair(slots=3)
    found = []
    for shade in range(6):
        slot = write(writer, shade)
        found.append(slot)
        reader.picture(slot, SHAPE)  # let go at once
    assert found == [0, 1, 2, 0, 1, 2]


def test_slots_do_not_overlap() -> None:
    """A slot is as large as asked, and colour fits."""
    writer, reader = pair(slots=3)
    slots = [writer.claim() or 0 for _ in range(3)]
    for slot in slots:
        writer.picture(slot, (4, 5, 3))[:] = slot + 1
    images = [reader.picture(slot, (4, 5, 3)) for slot in slots]
    assert [int(image.min()) for image in images] == [1, 2, 3]
    assert [int(image.max()) for image in images] == [1, 2, 3]


def test_a_picture_outlives_the_ring() -> None:
    """The child died, the reader was replaced: what the inspector holds stays as it is."""
    writer, reader = pair()
    image = reader.picture(write(writer, 3), SHAPE)
    del writer, reader
    gc.collect()
    assert (image == 3).all()


def test_nothing_is_left_behind() -> None:
    """No open file, no mapping, no name in /dev/shm."""
    names = set(Path("/dev/shm").iterdir())  # noqa: S108 - it is looked at only
    gc.collect()
    files = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        writer, reader = pair()
        image = reader.picture(write(writer, 1), SHAPE)
        del writer, reader, image
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    assert "inspectd-ring" not in Path("/proc/self/maps").read_text()
    assert set(Path("/dev/shm").iterdir()) <= names  # noqa: S108


def test_a_ring_has_a_bound() -> None:
    """A page of flags, one for each slot."""
    assert ring_bytes(2, 64) == PAGE + 128
    with pytest.raises(ValueError, match="at most"):
        ring_bytes(PAGE + 1, 64)
