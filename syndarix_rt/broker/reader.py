"""How a tail stays exact: a sans-IO core that repairs from the log whatever Pub/Sub loses, doubles or reorders.

Announcements are the fast path, the log is the truth. A `Reader` knows which offset comes next: an announcement that
begins there is applied, an older one dropped, anything else makes it *behind*, and then pages of the log are read until
it is level again. What it gives out is contiguous by construction; where it cannot be (another epoch, or retention was
faster), it gives out the `Position` at which it goes on.
"""

from __future__ import annotations

from typing import NamedTuple

from syndarix_rt.broker.protocol import Batch, Page
from syndarix_rt.delivery.resume import Position

__all__ = ["Announcement", "Reader", "Top", "parse"]


class Announcement(NamedTuple):
    """One Pub/Sub message: a batch, or only where it stands when it is too large to be carried."""

    epoch: str
    first: int
    size: int
    entries: list[bytes] | None

    @property
    def last(self) -> int:
        """Offset of the batch's last entry."""
        return self.first + self.size - 1


class Top(NamedTuple):
    """Where a log ended when it was last compared; an epoch of ``""`` says that there is no log."""

    epoch: str
    last: int


def parse(message: bytes) -> Announcement | None:
    """Read a Pub/Sub message (CONTRACT §2); None if it is none of ours."""
    head, _, body = message.partition(b"\n")
    try:
        version, epoch, first, count = head.decode("ascii").split(" ")
        announcement = Announcement(epoch, int(first), int(count), body.split(b"\n") if body else None)
    except ValueError:
        return None
    complete = announcement.entries is None or len(announcement.entries) == announcement.size
    return announcement if version == "1" and complete else None


class Reader:
    """Where a tail stands.

    Attributes:
        epoch: the epoch it follows.
        last: the last offset it has given out, or that its position stood for.
        behind: whether the log must be read before anything else is of use.
        lag: how many entries the log was last seen to have beyond ``last``.
    """

    __slots__ = ("behind", "epoch", "lag", "last")

    def __init__(self, position: Position) -> None:
        self.epoch = position.epoch
        self.last = position.last
        self.behind = False
        self.lag = 0

    def follow(self, message: Announcement) -> Batch | None:
        """Take an announcement that carries exactly what comes next, if nothing must be read before.

        None: it does not, and nothing has changed. What it gives is what `announced` would, in fewer steps: every
        subscriber waits for it.
        """
        entries = message.entries
        if entries is None or message.first != self.last + 1 or message.epoch != self.epoch or self.behind:
            return None
        self.last += message.size
        self.lag = 0
        return Batch(self.epoch, message.first, entries)

    def announced(self, message: Announcement) -> Batch | None:
        """Take an announcement; what is new of it, if it follows on."""
        if message.epoch != self.epoch or message.first > self.last + 1:
            self.behind = True
            self._see(message.epoch, message.last)
            return None
        if message.last <= self.last:
            return None
        if message.entries is None:
            self.behind = True
            self._see(message.epoch, message.last)
            return None
        batch = Batch(self.epoch, self.last + 1, message.entries[self.last + 1 - message.first :])
        self.last = message.last
        self._see(message.epoch, message.last)
        return batch

    def compared(self, top: Top) -> None:
        """Take a comparison with the log's top. An older one than what has been heard since says nothing."""
        if top.epoch != self.epoch or top.last > self.last:
            self.behind = True
        self._see(top.epoch, top.last)

    def page(self, page: Page) -> Batch | Position | None:
        """Take a page that was read after :attr:`last`; what to give out. Stays behind while there is more to read."""
        position = page.position
        level = position.epoch == self.epoch and position.last == self.last
        follows = position.epoch == self.epoch and page.first == self.last + 1 and page.entries
        if follows:
            batch = Batch(self.epoch, page.first, page.entries)
            self.last = batch.last
            self.behind = self.last < position.last
            self._see(position.epoch, position.last)
            return batch
        self.behind = False
        self.lag = 0
        if level:
            return None
        self.epoch, self.last = position.epoch, position.last
        return position

    def _see(self, epoch: str, last: int) -> None:
        """The log was seen to end there; of another epoch nobody can say yet what is missing."""
        self.lag = max(0, last - self.last) if epoch == self.epoch else 0
