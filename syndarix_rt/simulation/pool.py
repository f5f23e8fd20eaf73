"""A pool: members that take turns, given to whoever asks, the urgent first."""

from __future__ import annotations

from collections import OrderedDict, deque

import simpy

__all__ = ["Pool"]


class Pool:
    """Members named ``developer-1``, ``developer-2`` and so on, each given to one asker at a time.

    A lower priority number goes first, and within one whoever asked first. The member that has been idle longest is
    given first. Every operation but :meth:`resize` takes the same time, however many members are there or askers wait.

    Args:
        env: simulated time.
        name: what a member's name begins with.
        size: how many members there are.
    """

    def __init__(self, env: simpy.Environment, name: str, size: int) -> None:
        self._env = env
        self._name = name
        self._size = 0
        self._numbers: dict[str, int] = {}
        """Of all members that there ever were."""
        self._idle: deque[str] = deque()
        self._busy: dict[str, simpy.Event] = {}
        """Members and the request that each was given to."""
        self._queues: dict[int, OrderedDict[simpy.Event, None]] = {}
        """Requests that wait, by priority; no queue is empty."""
        self._downs = 0
        self.resize(size)

    @property
    def size(self) -> int:
        """How many members there are, without those that leave when they are released."""
        return self._size

    @property
    def busy(self) -> int:
        """How many members are given to somebody, with those that leave when they are released."""
        return len(self._busy)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._queues.values()))

    def request(self, priority: int = 0) -> simpy.Event:
        """Ask for a member; the event comes with its name.

        Whoever does not wait for the event any more must :meth:`cancel` it.
        """
        event = simpy.Event(self._env)
        if self._can_give():
            self._give(event)
        else:
            self._queues.setdefault(priority, OrderedDict())[event] = None
        return event

    def release(self, member: str) -> None:
        """Give a member back; it is idle now, or leaves.

        Raises:
            ValueError: if nobody has this member.
        """
        if self._busy.pop(member, None) is None:
            raise ValueError(f"nobody has {member!r} of the pool of {self._name!r} to release it")
        if self._numbers[member] <= self._size:
            self._idle.append(member)
        self._serve()

    def cancel(self, event: simpy.Event) -> None:
        """Take a request back; a member that was given to it already is released. Without effect after that."""
        for priority, queue in self._queues.items():
            if event in queue:
                del queue[event]
                if not queue:
                    del self._queues[priority]
                return
        member: str | None = event.value if event.triggered else None
        if member is not None and self._busy.get(member) is event:
            self.release(member)

    def resize(self, size: int) -> None:
        """Change how many members there are.

        New ones are idle at once. Those with the highest numbers leave: idle ones at once, busy ones when they are
        released. Until then they count, so nobody is given as long as ``size`` members or more are busy.
        """
        before, self._size = self._size, size
        if size < before:
            self._idle = deque(member for member in self._idle if self._numbers[member] <= size)
        for number in range(before + 1, size + 1):
            member = f"{self._name}-{number}"
            self._numbers[member] = number
            if member not in self._busy:  # else it was to leave, and stays
                self._idle.append(member)
        self._serve()

    def down(self) -> None:
        """From now on nobody is given, until :meth:`up` was called as often; busy members stay busy."""
        self._downs += 1

    def up(self) -> None:
        """End of what :meth:`down` began.

        Raises:
            ValueError: if the pool is not down.
        """
        if not self._downs:
            raise ValueError(f"the pool of {self._name!r} is not down, so it cannot come up")
        self._downs -= 1
        self._serve()

    def _can_give(self) -> bool:
        # Fewer busy than size means that one of the members up to that number is idle.
        return len(self._busy) < self._size and not self._downs

    def _give(self, event: simpy.Event) -> None:
        member = self._idle.popleft()
        self._busy[member] = event
        event.succeed(member)

    def _serve(self) -> None:
        while self._queues and self._can_give():
            priority = min(self._queues)
            queue = self._queues[priority]
            event, _ = queue.popitem(last=False)
            if not queue:
                del self._queues[priority]
            self._give(event)
