"""`Census`: how many are in each state, when only changes are told."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["Census"]

MAX_FINAL = 20_000
"""So many who have reached their end are remembered, should they move again; a long run has more, and needs no more."""

MAX_OPEN = 100_000
"""So many others. Who lets more begin than end is not told from one who never ends anything."""


class Census:
    """Counts individuals by state.

    After a gap nobody knows where those are who had not reached their end; they count as doubtful until they are seen
    again.

    Args:
        states: how many states there are.
        final: those that hardly anybody leaves.
        doubtful: the state of those of whom a gap has hidden what they did.

    Attributes:
        counts: individuals in each state.
    """

    def __init__(self, states: int, *, final: Collection[int] = (), doubtful: int) -> None:
        self.counts = [0.0] * states
        self._final = frozenset(final)
        self._doubtful = doubtful
        self._open: dict[str, int] = {}
        self._ended: dict[str, int] = {}

    def state(self, who: str) -> int | None:
        """Where somebody is; None if nobody knows of them."""
        state = self._open.get(who)
        return self._ended.get(who) if state is None else state

    def move(self, who: str, state: int | None) -> None:
        """Somebody, new or known, is in this state now; with None, nowhere any more."""
        old = self._open.pop(who, None)
        if old is None:
            old = self._ended.pop(who, None)
        if old is not None:
            self.counts[old] -= 1
        if state is None:
            return
        self.counts[state] += 1
        if state in self._final:
            self._ended[who] = state
            if len(self._ended) > MAX_FINAL:
                del self._ended[next(iter(self._ended))]  # still counted
        else:
            self._open[who] = state
            if len(self._open) > MAX_OPEN:
                del self._open[next(iter(self._open))]

    def doubt(self) -> None:
        """A gap: whoever has not reached their end may have done so, and more may have come."""
        for who, state in self._open.items():
            self.counts[state] -= 1
            self.counts[self._doubtful] += 1
            self._open[who] = self._doubtful

    def forget_doubtful(self) -> None:
        """Count those no more who were not seen again."""
        self.counts[self._doubtful] = 0.0
        self._open = {who: state for who, state in self._open.items() if state != self._doubtful}

    def clear(self) -> None:
        """Nobody is left."""
        self.counts = [0.0] * len(self.counts)
        self._open.clear()
        self._ended.clear()
