"""`Breaker`: does to the stack what the plan says."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path

import msgspec

from syndarix_rt.broker.protocol import Broker, project_channel
from syndarix_rt.errors import BrokerUnavailable
from syndarix_rt.verification.cluster import Cluster
from syndarix_rt.verification.history import History
from syndarix_rt.verification.link import Link
from syndarix_rt.verification.plan import OF_LINKS, Fault
from syndarix_rt.verification.recorder import record_until_full
from syndarix_rt.verification.stack import Stack, Worker, find_faketime
from syndarix_rt.verification.workload import LOG_KEY, PROJECT, Workload

__all__ = ["Breaker", "Done"]

VICTIMS_SHARE = 0.3
"""Of the subscribers, when a fault of links strikes: most of the others see at the same time that all is well."""

ANSWER_S = 30.0
"""For Redis to tell what it holds after a fault, and for a server to tell the time."""

CLOCK_S = 60.0
"""A server's clock that is so near is where it was set to."""


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
        failed: what processes did otherwise than they should, such as not to end when they were asked to.
        left_out: kinds that this machine cannot do, and how often they would have come.
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
        self.failed: list[str] = []
        self.left_out: Counter[str] = Counter()
        self._stack = stack
        self._links = links
        self._workload = workload
        self._history = history
        self._broker = broker
        self._now = now
        self._process_turn = asyncio.Lock()
        self._faketime = find_faketime()

    async def end(self, worker: Worker) -> None:
        """Ask a server process to end; it has failed if it does not, or with an error."""
        code = await worker.stop()
        if code != 0:
            self.failed.append(f"{worker.what} ended with {code}" if code is not None else f"{worker.what} did not end")

    async def do(self, fault: Fault) -> None:
        """Do one, and mend it."""
        if fault.kind == "worker_clock" and self._faketime is None:
            self.left_out[fault.kind] += 1
            return
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
        await self.end(worker)
        await worker.start()
        return worker.what

    async def _worker_clock(self, fault: Fault) -> str:
        worker, hours = self._worker(fault), 48 * fault.draw - 24
        await worker.kill()
        await worker.start(self._faketime)
        for wrong in (hours, 0):
            worker.set_clock(wrong)
            try:
                async with asyncio.timeout(ANSWER_S):
                    while abs(await worker.clock_error_s() - 3_600 * wrong) > CLOCK_S:  # noqa: ASYNC110 - of a process
                        await asyncio.sleep(0.05)
            except TimeoutError:
                self.failed.append(f"{worker.what} does not tell the time that its clock was set to, {wrong:+.1f} h")
            await asyncio.sleep(fault.for_s)
        await worker.kill()
        await worker.start()
        return f"{worker.what}, {hours:+.1f} h"

    async def _cut_broker(self, fault: Fault) -> str:
        link, what = await self._to_redis(fault)
        link.cut()
        return what

    async def _half_open_broker(self, fault: Fault) -> str:
        link, what = await self._to_redis(fault)
        link.half_open()
        return what

    async def _to_redis(self, fault: Fault) -> tuple[Link, str]:
        if isinstance(self._stack.redis, Cluster):
            link = await self._stack.redis.link(fault.draw)
            return link, f"the node behind port {link.port}"
        worker = self._worker(fault)
        assert worker.to_redis
        return worker.to_redis, worker.what

    async def _full_disk(self, fault: Fault) -> str:
        worker = self._worker(fault)
        with tempfile.TemporaryDirectory(prefix="syndarix-rt-") as directory:
            recorded = await record_until_full(worker.port, Path(directory))
        if recorded.code is None and self._workload.over:
            return "nothing more came to record"
        count = len(recorded.fingerprints)
        if recorded.code != 1 or "cannot write" not in recorded.said:
            self.failed.append(
                f"a recorder whose disk was full ended with {recorded.code}: {recorded.said or 'silent'}"
            )
        async with self._workload.silence():
            if not self._history.has_run(recorded.fingerprints):
                self.failed.append(f"the {count} events that a recorder wrote are not some that follow one another")
        return f"recorder at {worker.what}, {count} events"

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
