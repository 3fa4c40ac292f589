"""What a capture shows of itself while it runs: how far it is, light and focus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table

from inspectd.cli.output import LINE_EVERY_S, err, note, stages

if TYPE_CHECKING:
    from inspectd.cli.stills import Exposure, PictureFolder
    from inspectd.core.records import ImageArray

DRAW_EVERY_S = 0.1


@dataclass(slots=True)
class Tally:
    """What came so far."""

    wanted: int
    folder: PictureFolder
    seen: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    """By reason."""
    warned: Counter[str] = field(default_factory=Counter)
    """Kept pictures by what is wrong with them."""
    exposure: Exposure | None = None
    """Of the picture that was measured last."""
    sharpest: float = 0.0
    remarks: dict[str, str] = field(default_factory=dict)
    """On the picture that was measured last."""
    ended: str = "complete"

    @property
    def saved(self) -> int:
        """Pictures kept."""
        return len(self.folder.names)

    def look(self, image: ImageArray) -> None:
        """Measures a picture."""
        from inspectd.cli.stills import measure, remarks

        self.exposure = measure(image)
        self.sharpest = max(self.sharpest, self.exposure.sharpness)
        self.remarks = remarks(self.exposure, self.sharpest)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = self.folder.names
        return {
            "folder": str(self.folder.path),
            "ended": self.ended,
            "wanted": self.wanted,
            "saved": self.saved,
            "first": names[0] if names else None,
            "last": names[-1] if names else None,
            "seen": self.seen,
            "lost": dict(self.lost),
            "warnings": dict(self.warned),
            "last_exposure": None if self.exposure is None else asdict(self.exposure),
        }


@contextmanager
def preview(tally: Tally) -> Iterator[Callable[[], None]]:
    """A live table on a terminal, else a line now and then; yields what brings it up to date."""
    if not err.is_terminal:
        with stages() as report:
            warnings = _Warnings()

            def tell() -> None:
                report("capturing", tally.saved, tally.wanted)
                warnings.tell(tally.remarks)

            yield tell
        return
    with Live(console=err, auto_refresh=False, transient=True) as live:
        drawn = [0.0]

        def draw() -> None:
            if monotonic() - drawn[0] >= DRAW_EVERY_S:
                drawn[0] = monotonic()
                live.update(preview_table(tally), refresh=True)

        yield draw


class _Warnings:
    """Tells what is wrong with the pictures when it begins to be, and not too often."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def tell(self, remarks: dict[str, str]) -> None:
        now = monotonic()
        for word, remark in remarks.items():
            if now - self._told.get(word, -LINE_EVERY_S) >= LINE_EVERY_S:
                note(remark, "yellow")
            self._told[word] = now


def preview_table(tally: Tally) -> Table:
    """How far it is, and light and focus of the newest picture."""
    table = Table(title=f"{tally.saved} of {tally.wanted} saved", show_header=False)
    table.title_justify = "left"
    table.add_column(style="bold")
    table.add_column()
    table.add_row("pictures", f"{tally.seen} came, {tally.lost.total()} lost")
    exposure = tally.exposure
    if exposure is None:
        table.add_row("camera", "waiting for the first picture")
        return table
    focus = exposure.sharpness / tally.sharpest if tally.sharpest else 0.0
    table.add_row(
        "exposure",
        f"mean {exposure.mean:.0f}, 1 % up to {exposure.low}, 99 % up to {exposure.high} of 255",
    )
    table.add_row("saturation", f"{exposure.bright:.1%} at 255, {exposure.dark:.1%} at 0")
    table.add_row("focus", f"{focus:.0%} of the best seen")
    for remark in tally.remarks.values():
        table.add_row("", remark, style="yellow")
    return table
