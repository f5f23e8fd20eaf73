"""Runs that play in this process and are steered: over a broker or through a server."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
from playback_clock import START, ticks

from syndarix_rt.broker import MemoryBroker, Publisher
from syndarix_rt.broker.protocol import Batch, control_channel, follow, project_channel
from syndarix_rt.client import HttpLine, HttpPublisher
from syndarix_rt.delivery.steering import REQUEST, RunState
from syndarix_rt.errors import RpcError
from syndarix_rt.events import Event, EventId
from syndarix_rt.playback import BrokerLine, Control, Player, claim
from syndarix_rt.simulation import Scenario, Simulation

DEADLINE_S = 60


class Asker:
    """Steers a run over its control channel, as a server does."""

    def __init__(self, broker, run, project="apollo"):
        self._broker, self._run, self._project = broker, run, project
        self._numbers = itertools.count(1)
        self._answers = {}
        self.notices = []
        self._news = asyncio.Condition()

    @asynccontextmanager
    async def listening(self):
        epoch = (await self._broker.position(control_channel(self._run))).epoch
        task = asyncio.create_task(self._listen(EventId(epoch, 0)))
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _listen(self, cursor):
        async for update in follow(self._broker, control_channel(self._run), cursor):
            assert isinstance(update, Batch)
            async with self._news:
                for entry in update.entries:
                    event = Event.decode(entry)
                    assert event.source == "/syndarix-rt/control"
                    if event.type == "control_answer":
                        self._answers[event.data["id"]] = event.data
                    elif event.type == "control_notice":
                        state = msgspec.convert(event.data["params"], RunState)
                        self.notices.append((event.data["method"], state))
                self._news.notify_all()

    async def send(self, method, params=None, **more):
        """Ask, and do not wait; the request's id."""
        call_id = f"q-{next(self._numbers)}"
        message = {"jsonrpc": "2.0", "id": call_id, "method": method, "params": {} if params is None else params}
        event = Event.new(
            REQUEST, message | more, project=self._project, id=call_id, time=START, source="/syndarix-rt/control"
        )
        await self._broker.publish(control_channel(self._run), [event.encode()])
        return call_id

    async def answer(self, call_id):
        """The result; raises what the run refused."""
        async with asyncio.timeout(DEADLINE_S), self._news:
            await self._news.wait_for(lambda: call_id in self._answers)
        answer = self._answers[call_id]
        if error := answer.get("error"):
            raise RpcError(error["code"], error["message"], error.get("data"))
        return answer["result"]

    async def ask(self, method, params=None):
        result = await self.answer(await self.send(method, params))
        return msgspec.convert(result, RunState) if isinstance(result, dict) and "run" in result else result

    async def told(self, condition):
        """Wait for a notice ``(method, state)``; it."""
        async with asyncio.timeout(DEADLINE_S), self._news:
            await self._news.wait_for(lambda: any(condition(*notice) for notice in self.notices))
        return next(notice for notice in self.notices if condition(*notice))


@asynccontextmanager
async def steered(
    source=None, *, broker=None, run="run-1", projects=("apollo",), speed=1.0, clock=None, url=None, **options
):
    """A run that plays: its player, its simulation or None, and who steers it; paused at its first event.

    With a ``url`` it publishes over HTTP, to a server over that broker.
    """
    own = broker is None
    broker = broker or MemoryBroker()
    simulation = source if isinstance(source, Simulation) else None
    publishers = {project: HttpPublisher(url, project) if url else Publisher(broker, project) for project in projects}

    async def publish(events):
        (project,) = {event.project for event in events}
        return await publishers[project].publish(events)

    times = {} if clock is None else {"monotonic": clock.monotonic, "sleep": clock.sleep}
    player = Player(source or ticks(100_000), publish, speed=speed, **times)
    player.pause()
    asker = Asker(broker, run)
    async with AsyncExitStack() as stack:
        for publisher in publishers.values() if url else ():
            await stack.enter_async_context(publisher)
        await stack.enter_async_context(asker.listening())
        await stack.enter_async_context(claim(publishers[projects[0]], run, on_lost=player.stop, append=True))
        lines = []
        for project in projects:
            if url:
                lines.append(await stack.enter_async_context(HttpLine(url, project, run)))
            else:
                lines.append(await BrokerLine.open(broker, project, run))
        control = await stack.enter_async_context(Control(run, player, simulation=simulation, **times, **options))
        for line in lines:
            await control.join(line)
        task = asyncio.create_task(player.run())
        try:
            yield Steered(broker, player, asker, control, simulation, task)
        finally:
            player.stop()
            await asyncio.wait({task})
    if own:
        await broker.aclose()


class Steered:
    def __init__(self, broker, player, asker, control, simulation, task):
        self.broker, self.player, self.asker, self.control = broker, player, asker, control
        self.simulation, self.task = simulation, task
        self.ask, self.told = asker.ask, asker.told

    async def log(self, project="apollo"):
        """All events of the project."""
        events = []
        channel = project_channel(project)
        while (page := await self.broker.read(channel, len(events), 1000)).entries:
            events += [Event.decode(entry) for entry in page.entries]
        return events


def demo(seed=7, **changes):
    scenario = Scenario.preset("demo_small").for_project("apollo")
    return Simulation(scenario.replace(changes) if changes else scenario, seed)


def undisturbed(count, seed=7):
    """What the simulation says by itself, without what publishing adds."""
    return list(itertools.islice(demo(seed), count))


def plain(events):
    return [msgspec.structs.replace(event, recordedtime=None).encode() for event in events]
