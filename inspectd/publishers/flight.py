"""What is between us and the broker: letters handed over, messages not acknowledged. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from inspectd.ledger import Letter


@dataclass(slots=True)
class Sent:
    """A letter that is being handed to the broker."""

    letter: Letter
    missing: int
    """Messages that are not acknowledged, those that are still to be sent included."""
    verdict: int | None = None
    """Message id of the verdict, which goes first."""
    is_refused: bool = False
    """The broker didn't take the verdict."""


class Flight:
    """Letters that were begun, and messages that the broker didn't acknowledge yet."""

    def __init__(self) -> None:
        self._letters: dict[str, Sent] = {}
        self._open: dict[int, Sent | None] = {}

    def __len__(self) -> int:
        """Messages that are not acknowledged."""
        return len(self._open)

    @property
    def letters(self) -> list[Letter]:
        """In the order in which they were begun."""
        return [sent.letter for sent in self._letters.values()]

    def begin(self, letter: Letter, messages: int) -> None:
        """From here on a letter with so many messages is on its way."""
        self._letters[letter.result_id] = Sent(letter, messages)

    def add(self, mid: int, result_id: str | None) -> None:
        """A message went out, of a letter or for its own sake."""
        sent = self._letters.get(result_id) if result_id else None
        if sent is not None and sent.verdict is None:
            sent.verdict = mid
        self._open[mid] = sent

    def acknowledge(self, mid: int, problem: str | None) -> Sent | None:
        """The letter that this acknowledgement completes, if it does."""
        sent = self._open.pop(mid, None)
        if sent is None:
            return None
        sent.missing -= 1
        sent.is_refused |= problem is not None and mid == sent.verdict
        if sent.missing:
            return None
        self._letters.pop(sent.letter.result_id, None)
        return sent
