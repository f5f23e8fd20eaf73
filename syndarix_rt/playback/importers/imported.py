"""What an importer gives back: the events, and an account of every row."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec

from syndarix_rt.events import Event

__all__ = ["FileRows", "Imported"]


class FileRows(msgspec.Struct):
    """What became of the rows of one file; counts up while they are read."""

    name: str
    rows: int = 0
    mapped: int = 0
    """Rows that an event comes from."""
    ignored: Counter[str] = msgspec.field(default_factory=Counter)
    """The other rows, by reason."""

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.rows:,} rows = {self.mapped:,} mapped + {self.ignored.total():,} ignored"]
        lines += [f"  {count:,} ignored: {reason}" for reason, count in self.ignored.most_common()]
        return "\n".join(lines)


class Imported(NamedTuple):
    """The result of an import."""

    events: list[Event]
    """Ordered by time; a cause stands before its effect."""
    files: tuple[FileRows, ...]
    notes: Counter[str]
    """What else one should know before trusting figures made from the events, with counts."""

    def summary(self) -> str:
        """For a person: each file's account, the events, the notes."""
        lines = [str(file) for file in self.files]
        lines.append(f"{len(self.events):,} events")
        if self.events:
            lines[-1] += f" from {self.events[0].time:%Y-%m-%d %H:%M} to {self.events[-1].time:%Y-%m-%d %H:%M} UTC"
        lines += [f"  {note}: {count:,}" for note, count in self.notes.most_common()]
        return "\n".join(lines)
