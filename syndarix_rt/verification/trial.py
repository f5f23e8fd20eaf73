"""`verify`: one verification from the start of the processes to the verdict."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path

from syndarix_rt.broker import RedisBroker, Retention
from syndarix_rt.broker.protocol import Broker, project_channel
from syndarix_rt.verification.cluster import Cluster
from syndarix_rt.verification.faults import Breaker
from syndarix_rt.verification.history import History, fingerprint
from syndarix_rt.verification.link import Link
from syndarix_rt.verification.oracle import Violation
from syndarix_rt.verification.plan import Fault, Level, plan
from syndarix_rt.verification.planted import Planted
from syndarix_rt.verification.stack import Redis, Stack, open_stack
from syndarix_rt.verification.subscribers import (
    SLOW_BYTES_PER_S,
    BrowserSubscriber,
    ClientSubscriber,
    Subscriber,
)
from syndarix_rt.verification.verdict import Served, Verdict
from syndarix_rt.verification.workload import END_TYPE, LOG_KEY, PROJECT, Workload

__all__ = ["verify"]

KEEPALIVE_S = 1.0
"""Short, so that a dead connection is noticed within 3 s, and many faults fit into a run."""

SETTLE_S = 0.5
"""How often what was received is judged, so that memory does not grow with the run."""

GRACE_S = 0.5
"""After the last event: a duplicate of it would come at once."""

LEAVE_S = 10.0
"""For a server to notice that all are gone; what it holds then it holds for good."""

SCENARIO = "steady_sprint"
"""All kinds of events, in realistic proportions and sizes."""

FILTERS = (f"agent_*,{END_TYPE}", f"git,pipeline,{END_TYPE}", f"workflow,project,{END_TYPE}")
"""Nearly all events, a tenth, and few: the last makes checkpoints matter."""

_KINDS = ("client", "browser", "filtered", "wanderer", "slow", "late", "live")


async def verify(
    level: Level,
    seed: int,
    *,
    workers: int = 2,
    cluster: bool = False,
    planted: Sequence[str] = (),
    faults: Sequence[Fault] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Start a stack, publish, break what the plan says, and judge what every subscriber received.

    Args:
        level: how much.
        seed: of events, faults and subscribers.
        workers: server processes.
        cluster: on a Redis Cluster of three masters with a replica each, instead of one Redis.
        planted: faults in delivery (see `PLANTED`) to make on purpose, each for one subscriber.
        faults: what to break instead of what the level and the seed give.
        say: is told how it goes.

    Raises:
        SyndarixError: a process did not start.
        EmbeddedServerError: there is no Redis for this machine.
    """
    rng = random.Random(seed)  # noqa: S311 - repeatable
    say(f"starting {'a cluster' if cluster else 'Redis'} and {workers} {'worker' if workers == 1 else 'workers'}")
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syndarix-rt-")))
        redis = Cluster(directory / "redis", LOG_KEY) if cluster else Redis(directory / "redis")
        parts = await stack.enter_async_context(open_stack(redis, directory, workers, KEEPALIVE_S, rng))
        # Nothing is trimmed but by the plan, so that what the log holds is known.
        broker = RedisBroker(redis.url, retention=Retention(entries=100_000_000, bytes=1 << 40))
        await stack.enter_async_context(aclosing(broker))
        breaks = plan(level, seed, cluster=cluster) if faults is None else faults
        return await _run(stack, parts, broker, level, seed, rng, breaks, list(planted), say)


async def _run(
    stack: AsyncExitStack,
    parts: Stack,
    broker: Broker,
    level: Level,
    seed: int,
    rng: random.Random,
    faults: Sequence[Fault],
    planted: list[str],
    say: Callable[[str], None],
) -> Verdict:
    began_s = time.monotonic()

    def now() -> float:
        return time.monotonic() - began_s

    history = History()
    history.stands(await broker.position(project_channel(PROJECT)))
    subscribers = _subscribers(level, history, now, rng)
    plants = _assign(planted, subscribers)
    links: dict[str, Link] = {}
    for subscriber in subscribers:
        plant = plants.get(subscriber.name)
        link = Link(parts.ports, random.Random(rng.random()), plant.connection if plant else None)  # noqa: S311 - repeatable
        links[subscriber.name] = await stack.enter_async_context(link)
    workload = Workload(broker, history, SCENARIO, seed, events_per_s=level.events_per_s, now=now)
    breaker = Breaker(parts, links, workload, history, broker, now)
    say(f"{level.duration_s:g} s of events to {len(subscribers)} subscribers, {len(faults)} faults")

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.run(links[each.name].port)) for each in subscribers]
        settling = group.create_task(_settle(subscribers))
        try:
            publishing = asyncio.create_task(workload.run(level.duration_s))
            try:
                for fault in faults:
                    await asyncio.sleep(max(0.0, fault.at_s - now()))
                    tasks.append(group.create_task(breaker.do(fault)))
                await publishing
            finally:
                publishing.cancel()
            await asyncio.gather(*tasks[len(subscribers) :])
            say("all is published and mended; waiting for the last events")
            for link in links.values():
                link.heal()
            for subscriber in subscribers:
                if isinstance(subscriber, BrowserSubscriber):
                    subscriber.hurry()
            with suppress(TimeoutError):  # the oracle tells who lacks what
                async with asyncio.timeout(level.catch_up_s):
                    await asyncio.gather(*(subscriber.done.wait() for subscriber in subscribers))
            await asyncio.sleep(GRACE_S)
        finally:
            for task in [*tasks, settling]:
                task.cancel()

    say("judging, and looking for what the servers still hold")
    violations = await _judge(subscribers, history, broker, now)
    for link in links.values():
        link.cut()  # what is half open, too
    violations += [Violation("", round(now(), 3), "leak", text) for text in await _leaks(parts)]
    for worker in parts.workers:
        await breaker.end(worker)
    violations += [Violation("", round(now(), 3), "process", text) for text in breaker.failed]
    return Verdict(
        level=level.name,
        seed=seed,
        workers=len(parts.workers),
        cluster=isinstance(parts.redis, Cluster),
        victims={plant.kind: name for name, plant in plants.items()},
        duration_s=round(now(), 1),
        published=history.acknowledged,
        deliveries=sum(each.oracle.ledger.events for each in subscribers),
        left_out=dict(breaker.left_out),
        faults=sorted(breaker.done, key=lambda done: done.began_s),
        subscribers=[_served(each) for each in subscribers],
        violations=sorted(violations, key=lambda found: found.at_s),
        rates=history.rates(),
    )


def _subscribers(level: Level, history: History, now: Callable[[], float], rng: random.Random) -> list[Subscriber]:
    made: list[Subscriber] = []
    for number in range(level.subscribers):
        kind, each = _KINDS[number % len(_KINDS)], number // len(_KINDS)
        name = f"{kind}-{each + 1}"
        own = random.Random(rng.random())  # noqa: S311 - repeatable
        types = FILTERS[each % len(FILTERS)] if kind == "filtered" else None
        if kind in ("client", "live") or (kind == "filtered" and each % 2):
            made.append(ClientSubscriber(name, history, now, types, live=kind == "live", keepalive_s=KEEPALIVE_S))
            continue
        made.append(
            BrowserSubscriber(
                name,
                history,
                now,
                types,
                rng=own,
                keepalive_s=KEEPALIVE_S,
                bytes_per_s=SLOW_BYTES_PER_S if kind == "slow" else 0,
                stay_s=(0.2, 3.0) if kind == "wanderer" else None,
                comes_s=own.uniform(0.2, 0.7) * level.duration_s if kind == "late" else 0.0,
            )
        )
    return made


def _assign(planted: list[str], subscribers: list[Subscriber]) -> dict[str, Planted]:
    """Give each planted fault a subscriber that can meet it."""
    chosen: dict[str, Planted] = {}
    for kind in planted:
        wanted = "filtered" if kind == "filter" else "browser" if len(chosen) % 2 else "client"
        free = [each.name for each in subscribers if each.kind == wanted and each.name not in chosen]
        free += [each.name for each in subscribers if each.name not in chosen and each.types is None]
        chosen[free[0]] = Planted(kind)
    return chosen


async def _settle(subscribers: list[Subscriber]) -> None:
    while True:
        await asyncio.sleep(SETTLE_S)
        for subscriber in subscribers:
            subscriber.settle()


async def _judge(
    subscribers: list[Subscriber], history: History, broker: Broker, now: Callable[[], float]
) -> list[Violation]:
    """Judge what is left, and the log itself."""
    found = []
    position = await broker.position(project_channel(PROJECT))
    for subscriber in subscribers:
        subscriber.settle(all_=True)
        subscriber.oracle.finish(position.top, now())
        found += subscriber.oracle.violations
    if history.lost:
        text = f"{history.lost} acknowledged events were gone after a fault that was to lose none"
        found.append(Violation("", round(now(), 3), "log", text))
    after = position.first - 1
    while after < position.last:
        page = await broker.read(project_channel(PROJECT), after, 1_000)
        for offset, raw in enumerate(page.entries, page.first):
            entry = history.at(position.epoch, offset)
            if entry is None or entry.fingerprint != fingerprint(raw):
                found.append(Violation("", round(now(), 3), "log", f"offset {offset} is not what was acknowledged"))
        if page.first != after + 1 or not page.entries:
            found.append(Violation("", round(now(), 3), "log", f"has a hole after offset {after}"))
            break
        after = page.last
    return found


async def _leaks(parts: Stack) -> list[str]:
    """What servers still hold when everybody has left for some time."""
    left: dict[str, str] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(LEAVE_S):
            while True:
                left = {worker.what: held for worker in parts.workers if (held := await worker.leftovers())}
                if not left:
                    break
                await asyncio.sleep(0.1)
    return [f"{name} still holds {held}" for name, held in left.items()]


def _served(subscriber: Subscriber) -> Served:
    ledger = subscriber.oracle.ledger
    return Served(
        name=subscriber.name,
        kind=subscriber.kind,
        types=subscriber.types,
        events=ledger.events,
        gaps=len(ledger.gaps),
        missed=sum(gap.missed or 0 for gap in ledger.gaps),
        connections=ledger.connections,
        resumed=ledger.resumed,
        p50_ms=ledger.latency_ms(0.5),
        p99_ms=ledger.latency_ms(0.99),
        connected=[[round(began_s, 2), round(ended_s, 2)] for began_s, ended_s in subscriber.connections],
        gaps_s=subscriber.oracle.gaps_s,
    )
