"""What has settled is out of the garbage collector's sight, until it is over."""

import asyncio
import gc
import subprocess
import sys
import weakref
from contextlib import AsyncExitStack

import pytest
from serving import TIMEOUT_S, running

from syndarix_rt.server import settling
from syndarix_rt.server.settling import Settling
from syndarix_rt.server.stream import Stream


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(settling, "SETTLED_STREAMS", 4)
    monkeypatch.setattr(settling, "ENDED_STREAMS", 3)
    yield
    gc.unfreeze()


class Knot:
    """Garbage once nobody holds it, which only the collector finds."""

    def __init__(self):
        self.me = self


def in_sight(hub):
    """Its streams that a full collection would look at; those of other tests may live on, too."""
    return [each for each in gc.get_objects() if isinstance(each, Stream) and each._hub is hub]


async def test_open_streams_are_out_of_sight_and_what_those_that_ended_have_left_is_collected(few):
    async with running() as server, AsyncExitStack() as stack:
        settled = Settling(server.hub)
        for _ in range(3):
            await (await stack.enter_async_context(server.stream())).opened()
        settled.tend()
        assert len(in_sight(server.hub)) == 3
        async with server.stream() as subscriber, server.stream() as other:
            await subscriber.opened()
            await other.opened()
            knot = Knot()
            found = weakref.ref(knot)
            settled.tend()
            assert in_sight(server.hub) == []
            del knot
            gc.collect()
            assert found() is not None
        async with asyncio.timeout(TIMEOUT_S):
            while server.hub.ended.total() < 2:
                await asyncio.sleep(0.01)
        settled.tend()
        assert found() is not None  # two that ended are few
        async with server.stream() as subscriber:
            await subscriber.opened()
        async with asyncio.timeout(TIMEOUT_S):
            while server.hub.ended.total() < 3:
                await asyncio.sleep(0.01)
        settled.tend()
        assert found() is None
        assert in_sight(server.hub) == []


PROGRAM = """
import asyncio, gc, os, signal
from syndarix_rt.broker.memory import MemoryBroker
from syndarix_rt.server import Settings, bind, serve

async def main():
    async def ready(_):
        async with asyncio.timeout(20):
            while not gc.get_freeze_count():
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
    await serve(MemoryBroker(), Settings(), bind("127.0.0.1", 0), ready=ready)
    assert gc.get_freeze_count() == 0

assert gc.get_freeze_count() == 0
asyncio.run(main())
print("ended")
"""


def test_a_server_that_owns_its_process_lets_it_settle():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "ended\n", done.stderr


async def test_a_server_in_a_process_of_somebody_else_does_not_touch_the_collector():
    before = gc.get_freeze_count()
    async with running():
        await asyncio.sleep(0)
        assert gc.get_freeze_count() == before
