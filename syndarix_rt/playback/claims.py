"""One run a project: who plays into a project says so, and keeps saying so while it plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from syndarix_rt.errors import ProjectBusy, SyndarixError

__all__ = ["Claimable", "claim"]

TTL_S = 10.0
"""A run whose process was killed blocks its project for this long at most."""

REFRESH_S = 3.0
"""Three tries before a claim lapses: two may be lost to a broker that restarts."""

_STOPPING_S = 0.5
"""What a run that lost its project needs to end its batch in flight."""


class Claimable(Protocol):
    """What can be claimed: a project, as both kinds of publisher know it."""

    @property
    def project(self) -> str:
        """Its name."""
        ...

    async def claim(self, holder: str, ttl_s: float) -> str:
        """Say that ``holder`` plays into it for the next ``ttl_s``; who holds it then."""
        ...

    async def release(self, holder: str) -> None:
        """End a claim, also one that waits for another's to end."""
        ...

    async def reset(self) -> object:
        """Delete its log and begin a new epoch."""
        ...


@asynccontextmanager
async def claim(
    publisher: Claimable,
    run: str,
    *,
    on_lost: Callable[[ProjectBusy], None],
    replace: bool = False,
    append: bool = False,
    ttl_s: float = TTL_S,
    refresh_s: float = REFRESH_S,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncIterator[None]:
    """While inside, ``run`` is the one that plays into the publisher's project.

    ::

        player = Player(events, publisher.publish, speed=60)
        async with claim(publisher, "demo_small-7", on_lost=player.stop):
            await player.run()

    Args:
        publisher: publishes into the project.
        run: the run's id; what others are told who try meanwhile.
        on_lost: called with the error if another run took the project over, or got it while the broker was away.
        replace: take the project over from whoever plays, which takes as long as that run needs to notice, and
            begin a new epoch without its events.
        append: play beside whoever plays.
        ttl_s: how long the claim holds without a refresh.
        refresh_s: how often it is refreshed.
        sleep: waits that many seconds.

    Raises:
        ProjectBusy: if another run plays into the project and neither ``replace`` nor ``append`` is set.
        BrokerUnavailable: if the broker is away at the start.
        ValueError: if both ``replace`` and ``append`` are set.
    """
    if replace and append:
        raise ValueError("replace=True begins anew and append=True goes on: give one of them")
    project = publisher.project
    holder = await publisher.claim(run, ttl_s)
    if holder != run and replace:
        await publisher.release(holder)
        holder = await publisher.claim(run, ttl_s)
        await sleep(refresh_s + _STOPPING_S)  # else its last batches would land in the new epoch
    if holder != run and not append:
        await publisher.release(run)
        raise ProjectBusy(
            f"{holder} plays into project {project!r}; stop it, wait {ttl_s:g} s if it was killed, "
            "or play with replace=True (--replace: a new epoch) or append=True (--append: beside it)"
        )
    if replace:
        await publisher.reset()

    async def keep(*, held: bool) -> None:
        while True:
            await sleep(refresh_s)
            try:
                holder = await publisher.claim(run, ttl_s)
            except SyndarixError:  # the next refresh tells whether somebody took it meanwhile
                continue
            if holder == run:
                held = True
            elif held:
                on_lost(ProjectBusy(f"{holder} took over project {project!r} from {run}"))
                return

    keeper = asyncio.create_task(keep(held=holder == run))
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.wait({keeper})
        with suppress(SyndarixError):
            await publisher.release(run)
        if not keeper.cancelled():
            keeper.result()  # raises what on_lost raised
