"""What is done to the stack and when: the same level and seed give the same plan."""

from __future__ import annotations

import random

import msgspec

__all__ = ["FAULTS", "LEVELS", "OF_CLUSTER", "Fault", "Level", "plan"]


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """How much is verified."""

    name: str
    duration_s: float
    """How long events are published."""
    events_per_s: float
    subscribers: int
    faults: int
    """Or as many as there are kinds."""
    catch_up_s: float = 30.0
    """How long subscribers may take for the rest, once all is well again: as long as the longest delay of a client."""


LEVELS = {
    # Each kind of fault once, in the time that somebody waits for a commit's checks.
    "quick": Level(name="quick", duration_s=18, events_per_s=120, subscribers=21, faults=20),
    # A million deliveries: 60 x 130/s x 240 s are 1.8 million, less what is lost on purpose.
    "standard": Level(name="standard", duration_s=240, events_per_s=130, subscribers=60, faults=120),
    # An hour; slow leaks show.
    "soak": Level(name="soak", duration_s=3_600, events_per_s=130, subscribers=60, faults=1_200),
}

FAULTS = {
    "cut": "connections of some subscribers are reset",
    "half_open": "connections of some subscribers fall silent without an end",
    "stall": "some subscribers' connections take nothing for a while",
    "delay": "every piece is held back on the way to some subscribers",
    "split": "some subscribers get their bytes in tiny pieces",
    "clock_jump": "the publisher's clock jumps",
    "kill_worker": "a server process is killed, and started again",
    "pause_worker": "a server process stands still",
    "restart_worker": "a server process is asked to end, and started again",
    "worker_clock": "a server's clock jumps by hours, and back",
    "full_disk": "somebody records, and the disk is full",
    "cut_broker": "a server's connections to Redis, or all to a node of a cluster, are reset",
    "half_open_broker": "the same fall silent without an end",
    "drop_pubsub": "Redis drops its Pub/Sub connections, and with them messages",
    "kill_redis": "Redis is killed, and started again on its data",
    "pause_redis": "Redis stands still",
    "restart_redis": "Redis is asked to end, and started again",
    "lose_writes": "Redis comes back without the last acknowledged writes",
    "flush_redis": "all data in Redis are deleted",
    "trim": "the oldest part of the log is deleted",
    "fail_over": "the log's master is killed, and its replica takes over",
}
"""The kinds of faults."""

OF_CLUSTER = ("fail_over",)
"""Need a cluster."""

OF_LINKS = ("cut", "half_open", "stall", "delay", "split", "clock_jump")
"""May overlap with anything, since each has victims of its own."""

_QUIET_S = 1.0
"""At the beginning: everybody is there."""


class Fault(msgspec.Struct, frozen=True):
    """One fault of a plan."""

    at_s: float
    """When it begins at the earliest, since the first event; those of processes wait for one another."""
    kind: str
    for_s: float
    """How long it lasts, where that can be chosen."""
    draw: float
    """From 0 to 1: decides about victims and amounts."""


def plan(level: Level, seed: int, *, cluster: bool = False) -> list[Fault]:
    """The faults of a run, by time."""
    possible = [kind for kind in FAULTS if cluster or kind not in OF_CLUSTER]
    rng = random.Random(f"{level.name} {seed}")  # noqa: S311 - repeatable
    kinds: list[str] = []
    while len(kinds) < level.faults:
        deck = list(possible)
        rng.shuffle(deck)
        kinds += deck
    kinds = kinds[: max(level.faults, len(possible))]
    # No fault in the last tenth: what is published after the last one shows that all goes on.
    span_s = 0.9 * level.duration_s - _QUIET_S
    faults = []
    for group in (OF_LINKS, tuple(kind for kind in possible if kind not in OF_LINKS)):
        mine = [kind for kind in kinds if kind in group]
        for number, kind in enumerate(mine):
            at_s = _QUIET_S + span_s * (number + rng.uniform(0, 0.5)) / len(mine)
            faults.append(Fault(round(at_s, 3), kind, round(rng.uniform(0.3, 1.5), 3), round(rng.random(), 6)))
    return sorted(faults, key=lambda fault: fault.at_s)
