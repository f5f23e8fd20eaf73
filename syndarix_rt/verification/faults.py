"""`Breaker`: does to the stack what the plan says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import msgspec

from syndarix_rt.broker.protocol import Broker, project_channel
from syndarix_rt.errors import BrokerUnavailable
from syndarix_rt.verification.cluster import Cluster
from syndarix_rt.verification.history import History
from syndarix_rt.verification.link import Link
from syndarix_rt.verification.plan import OF_LINKS, Fault
from syndarix_rt.verification.stack import Stack, Worker
from syndarix_rt.verification.workload import LOG_KEY, PROJECT, Workload

__all__ = ["Breaker", "Done"]

VICTIMS_SHARE = 0.3
"""Of the subscribers, when a fault of links strikes: most of the others see at the same time that all is well."""

ANSWER_S = 30.0
"""For Redis to tell what it holds after a fault."""


class Done(msgspec.Struct, frozen=True):
    """A fault that was done."""

    kind: str
    began_s: float
    ended_s: float
    target: str
    """Whom it struck, for a person."""


class Breaker:
    """Knows all that can be broken.

    Args:
        stack: processes.
        links: of the subscribers, by name.
        workload: what is published.
        history: is told what became of the log.
        broker: straight to Redis.
        now: the clock of the run.

    Attributes:
        done: the faults so far.
        hung: workers that did not end when they were asked to, or ended with an error.
    """

    def __init__(
        self,
        stack: Stack,
        links: Mapping[str, Link],
        workload: Workload,
        history: History,
        broker: Broker,
        now: Callable[[], float],
    ) -> None:
        self.done: list[Done] = []
        self.hung: list[str] = []
        self._stack = stack
        self._links = links
        self._workload = workload
        self._history = history
        self._broker = broker
        self._now = now
        self._process_turn = asyncio.Lock()

    async def do(self, fault: Fault) -> None:
        """Do one, and mend it."""
        did: Callable[[Fault], Awaitable[str]] = getattr(self, f"_{fault.kind}")
        if fault.kind in OF_LINKS:
            await self._timed(fault, did)
        else:
            async with self._process_turn:
                await self._timed(fault, did)

    async def _timed(self, fault: Fault, did: Callable[[Fault], Awaitable[str]]) -> None:
        began_s = self._now()
        target = await did(fault)
        self.done.append(Done(fault.kind, round(began_s, 3), round(self._now(), 3), target))

    # ---- links ------------------------------------------------------------------------------------------------------

    async def _cut(self, fault: Fault) -> str:
        names = self._victims(fault)
        for name in names:
            self._links[name].cut()
        return ", ".join(names)

    async def _half_open(self, fault: Fault) -> str:
        names = self._victims(fault)
        for name in names:
            self._links[name].half_open()
        return ", ".join(names)

    async def _stall(self, fault: Fault) -> str:
        names = self._victims(fault)
        for name in names:
            self._links[name].stall()
        return await self._heal(names, 2 * fault.for_s)

    async def _delay(self, fault: Fault) -> str:
        names = self._victims(fault)
        for name in names:
            self._links[name].delay_s = 0.2 * fault.draw
        return await self._heal(names, fault.for_s)

    async def _split(self, fault: Fault) -> str:
        names = self._victims(fault)
        for name in names:
            self._links[name].piece_bytes = 1 + int(16 * fault.draw)
        return await self._heal(names, fault.for_s)

    def _victims(self, fault: Fault) -> list[str]:
        names = sorted(self._links)
        count = max(1, round(VICTIMS_SHARE * len(names)))
        return sorted(random.Random(fault.draw).sample(names, count))  # noqa: S311 - repeatable

    async def _heal(self, names: list[str], after_s: float) -> str:
        await asyncio.sleep(after_s)
        for name in names:
            self._links[name].heal()
        return ", ".join(names)

    async def _clock_jump(self, fault: Fault) -> str:
        self._workload.clock_error = timedelta(hours=4 * fault.draw - 2)
        return f"publisher, {self._workload.clock_error.total_seconds():+,.0f} s"

    # ---- workers ----------------------------------------------------------------------------------------------------

    def _worker(self, fault: Fault) -> Worker:
        return self._stack.workers[int(fault.draw * len(self._stack.workers))]

    async def _kill_worker(self, fault: Fault) -> str:
        worker = self._worker(fault)
        await worker.kill()
        await asyncio.sleep(fault.for_s)
        await worker.start()
        return worker.what

    async def _pause_worker(self, fault: Fault) -> str:
        worker = self._worker(fault)
        worker.pause()
        await asyncio.sleep(2 * fault.for_s)
        worker.resume()
        return worker.what

    async def _restart_worker(self, fault: Fault) -> str:
        worker = self._worker(fault)
        code = await worker.stop()
        if code != 0:
            self.hung.append(f"{worker.what} ended with {code}" if code is not None else f"{worker.what} did not end")
        await worker.start()
        return worker.what

    async def _cut_broker(self, fault: Fault) -> str:
        worker = self._worker(fault)
        assert worker.to_redis
        worker.to_redis.cut()
        return worker.what

    async def _half_open_broker(self, fault: Fault) -> str:
        worker = self._worker(fault)
        assert worker.to_redis
        worker.to_redis.half_open()
        return worker.what

    # ---- Redis ------------------------------------------------------------------------------------------------------

    async def _drop_pubsub(self, _: Fault) -> str:
        redis = await self._stack.redis.owner()
        return f"{(await redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub'))[1:]} connections"

    async def _kill_redis(self, fault: Fault) -> str:
        redis = await self._stack.redis.owner()
        with self._history.changing():
            await redis.kill()
            await asyncio.sleep(fault.for_s)
            await redis.start()
            return await self._look()

    async def _restart_redis(self, _: Fault) -> str:
        redis = await self._stack.redis.owner()
        with self._history.changing():
            await redis.stop()
            await redis.start()
            return await self._look()

    async def _pause_redis(self, fault: Fault) -> str:
        redis = await self._stack.redis.owner()
        redis.pause()
        await asyncio.sleep(fault.for_s)
        redis.resume()
        return ""

    async def _lose_writes(self, fault: Fault) -> str:
        redis = await self._stack.redis.owner()
        async with self._workload.silence():
            await asyncio.to_thread(redis.save_data)
            before = self._history.acknowledged
        await asyncio.sleep(fault.for_s)
        with self._history.changing():
            async with self._workload.silence():
                lost = self._history.acknowledged - before
                await redis.lose_data()
                await self._look(losing=True)
        return f"{lost} events"

    async def _flush_redis(self, _: Fault) -> str:
        redis = await self._stack.redis.owner()
        with self._history.changing():
            async with self._workload.silence():
                await redis.command("FLUSHALL")
                return await self._look(losing=True)

    async def _trim(self, fault: Fault) -> str:
        redis = await self._stack.redis.owner()
        kept = 10 + int(300 * fault.draw)
        with self._history.changing():
            await redis.command("XTRIM", LOG_KEY, "MAXLEN", "=", str(kept))
            return await self._look()

    async def _fail_over(self, _: Fault) -> str:
        assert isinstance(self._stack.redis, Cluster)
        with self._history.changing():
            await self._stack.redis.fail_over()
            # What the replica did not have yet is lost: Redis copies after it has acknowledged.
            return await self._look(losing=True)

    async def _look(self, *, losing: bool = False) -> str:
        """Tell the history where the log stands."""
        async with asyncio.timeout(ANSWER_S):
            while True:
                try:
                    position = await self._broker.position(project_channel(PROJECT))
                except BrokerUnavailable:
                    await asyncio.sleep(0.05)
                    continue
                self._history.stands(position, losing=losing)
                return f"the log now has {position.first} to {position.last}"
