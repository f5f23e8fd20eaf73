"""``serve --workers``: one port, several processes; a worker that is killed takes only its own streams along."""

import asyncio
import os
import re
import signal
from contextlib import AsyncExitStack, contextmanager
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest
from command_line import TIMEOUT_S, Command, children, run, wait_until
from embedded_users import is_running
from prometheus_client.parser import text_string_to_metric_families
from redis_server import RedisServer
from serving import Subscriber, event, is_data, offsets

from syndarix_rt.broker import RedisBroker, Retention
from syndarix_rt.cli import workers as workers_module
from syndarix_rt.cli.workers import Workers
from syndarix_rt.errors import SyndarixError
from syndarix_rt.server import Settings, bind
from syndarix_rt.server.tokens import issue

STREAMS = 24
CHANNEL = "project:{apollo}"


@pytest.fixture
def own_redis(tmp_path):
    with RedisServer(tmp_path) as server:
        yield server


def workers(command):
    return children("cli.workers", command.pid)


def connections(process, port):
    """Clients' connections; those to Redis come from other ports."""
    found = process.net_connections("tcp")
    return sum(each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port for each in found)


async def test_a_killed_worker_is_replaced_alone_and_all_is_delivered_exactly(own_redis):
    broker = RedisBroker(own_redis.url)
    options = ("--workers", "2", "--port", "0", "--token", "", "--redis-url", own_redis.url)
    with Command("serve", *options) as command:
        base = (await asyncio.to_thread(command.url)).rstrip("/")
        path = f"{base}/projects/apollo/events"
        both = workers(command)
        assert len(both) == 2
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_read=TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:

            async def subscribe(**params):
                subscriber = Subscriber(await http.get(path, params=params))
                await subscriber.opened()
                return subscriber

            async def subscribe_again(**params):
                """As every client does: a dying worker's socket may still refuse some."""
                async with asyncio.timeout(TIMEOUT_S):
                    while True:
                        try:
                            return await subscribe(**params)
                        except aiohttp.ClientConnectionError:
                            await asyncio.sleep(0.05)

            async def publish(first, count):
                return await broker.publish(CHANNEL, [event(n).encode() for n in range(first, first + count)])

            async def read(subscriber):
                """What comes after the first three, over a cut."""
                try:
                    return offsets(await subscriber.events(6)), subscriber
                except (aiohttp.ClientError, EOFError):
                    had = [frame for frame in subscriber._frames if is_data(frame)]
                    again = await subscribe_again(last_event_id=subscriber.decoder.last_event_id)
                    return offsets(had + await again.events(6 - len(had))), again

            first = [await subscribe() for _ in range(STREAMS)]
            await publish(1, 3)
            assert all([offsets(await each.events(3)) == [1, 2, 3] for each in first])
            spread = [connections(process, urlsplit(base).port) for process in both]
            assert min(spread) >= 1, "the kernel gave all streams to one worker"
            reading = [asyncio.create_task(read(each)) for each in first]
            both[0].kill()
            await publish(4, 3)
            await asyncio.to_thread(
                wait_until, lambda: len(workers(command)) == 2 and both[0] not in workers(command), ""
            )
            await publish(7, 3)
            results = await asyncio.gather(*reading)
            assert [seen for seen, _ in results if seen != [4, 5, 6, 7, 8, 9]] == []
            assert len({each for _, each in results} - {*first}) == spread[0]
            assert both[1] in workers(command), "the other worker ran on"

            running = workers(command)
            ends = [asyncio.create_task(each.end()) for _, each in results]
            os.kill(command.pid, signal.SIGTERM)
            assert {frames[-1].event for frames in await asyncio.gather(*ends)} == {"server-draining"}
        assert await asyncio.to_thread(command.process.wait, TIMEOUT_S) == 0
        assert [process for process in running if is_running(process.pid)] == []
        assert "Worker 0 ended with exit code -9; starting it again." in command.err.rest()
    await broker.aclose()


async def test_any_worker_tells_the_figures_of_all_and_none_falls_when_one_dies(own_redis):
    broker = RedisBroker(own_redis.url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(broker.aclose)
        options = ("--workers", "2", "--port", "0", "--token", "", "--redis-url", own_redis.url, "--fast-path", "off")
        command = stack.enter_context(Command("serve", *options))
        base = (await asyncio.to_thread(command.url)).rstrip("/")
        both = workers(command)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        streams = [Subscriber(await http.get(f"{base}/projects/apollo/events")) for _ in range(STREAMS)]
        for stream in streams:
            await stream.opened()
        await broker.publish(CHANNEL, [event(n).encode() for n in range(1, 6)])
        for stream in streams:
            await stream.events(5)

        async def asked():
            """By connections of their own, so now one worker answers, now the other."""
            async with aiohttp.ClientSession() as once, once.get(f"{base}/metrics") as answer:
                samples = [
                    each for family in text_string_to_metric_families(await answer.text()) for each in family.samples
                ]
            async with aiohttp.ClientSession() as once, once.get(f"{base}/projects") as answer:
                subscribers = [line["subscribers"] for line in (await answer.json())["projects"]]
            found = {(each.name, *each.labels.values()): each.value for each in samples}
            names = (
                ("streams_opened_total", "live"),
                ("events_sent_total",),
                ("stream_paths", "direct", ""),
                ("streams", "apollo"),
            )
            return [*(found[f"syndarix_rt_{name}", *labels] for name, *labels in names), *subscribers]

        async def agreed(expected):
            """So often that both have answered: all the same."""
            async with asyncio.timeout(TIMEOUT_S):
                times = 0
                while times < 12:
                    times = times + 1 if await asked() == expected else 0

        await agreed([STREAMS, 5 * STREAMS, 0, STREAMS, STREAMS])
        port = urlsplit(base).port
        await asyncio.to_thread(
            wait_until, lambda: sum(connections(each, port) for each in both) == STREAMS, "only streams left"
        )
        share = connections(both[0], port)
        assert 0 < share < STREAMS, "either has some"
        both[0].kill()
        await asyncio.to_thread(wait_until, lambda: len(workers(command)) == 2 and both[0] not in workers(command), "")
        await agreed([STREAMS, 5 * STREAMS, 0, STREAMS - share, STREAMS - share])
        for stream in streams:
            stream.response.close()
        lines = command.err
        assert command.interrupt(signal.SIGTERM) == 0
        assert len(re.findall(r"stream opened +channel=project:\{apollo\} client=", lines.rest())) == STREAMS


async def test_workers_end_when_their_parent_is_killed(own_redis):
    with Command("serve", "--workers", "2", "--port", "0", "--token", "", "--redis-url", own_redis.url) as command:
        await asyncio.to_thread(command.url)
        both = workers(command)
        command.process.kill()
        await asyncio.to_thread(
            wait_until, lambda: not any(is_running(process.pid) for process in both), "the workers' end"
        )


def test_several_workers_need_a_redis():
    done = run("serve", "--workers", "2", "--port", "0", "--redis-url", "memory://")
    assert done.code == 1
    assert "several workers need a Redis that all of them reach" in done.err


async def test_a_token_that_is_revoked_on_the_command_line_ends_at_every_worker(own_redis):
    key = "k" * 48
    options = ("--workers", "2", "--port", "0", "--token", key, "--redis-url", own_redis.url)
    with Command("serve", *options) as command:
        url = await asyncio.to_thread(command.url)
        path = url.partition("/?key=")[0] + "/projects/apollo/events"
        secret = issue(key, ["subscribe:*"], name="Ada", life_s=600)
        headers = {"authorization": f"Bearer {secret}"}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
            streams = [Subscriber(await http.get(path, headers=headers)) for _ in range(STREAMS)]
            for stream in streams:
                await stream.opened()
            port = urlsplit(url).port
            assert all(connections(worker, port) for worker in workers(command))
            done = await asyncio.to_thread(run, "token", "--revoke", secret, "--url", url)
            assert (done.code, done.out) == (0, "")
            assert "revoked a token of Ada" in done.err
            ends = await asyncio.gather(*(stream.end() for stream in streams))
            assert {frames[-1].event for frames in ends} == {"auth-expiring"}
            for _ in range(4):
                async with http.get(path, headers=headers) as response:
                    assert response.status == 401
            again = await asyncio.to_thread(run, "token", "--revoke", "x.y.z", "--url", url)
            assert again.code == 1
            assert "Not a token" in again.err


# ---- workers in this process's hands --------------------------------------------------------------------------------


@contextmanager
def group_of(redis_url, count=1):
    """Workers that are not started yet, on a port that is held for them."""
    with bind("127.0.0.1", 0, shared=True, listen=False) as held:
        yield Workers(
            *(count, held.getsockname()[1], Settings(drain_s=0.0)),
            redis_url=redis_url, namespace="", retention=Retention(),
        )  # fmt: skip


async def test_a_worker_that_cannot_start_ends_all_with_its_reason(capfd):
    with group_of("http://nowhere", count=2) as group:
        with pytest.raises(SyndarixError, match=r"worker [01] did not start \(exit code 1\); see above"):
            await group.serve(lambda: None)
    assert "Error: 'http://nowhere' is not the URL of a broker" in capfd.readouterr().err


async def test_a_worker_that_hangs_is_killed_at_the_end_also_while_it_starts(redis_url, monkeypatch, capfd):
    monkeypatch.setattr(workers_module, "STABLE_S", 0.0)  # so it is started again at once
    monkeypatch.setattr(workers_module, "END_S", 0.5)
    with group_of(redis_url, count=2) as group:
        ready = asyncio.Event()
        serving = asyncio.create_task(group.serve(ready.set))
        await asyncio.wait_for(ready.wait(), TIMEOUT_S)
        first, other = group._processes.values()
        first.kill()
        async with asyncio.timeout(TIMEOUT_S):
            while group._processes[0] is first:
                await asyncio.sleep(0)  # no longer: the next one must not have begun
            for process in (group._processes[0], other):
                process.send_signal(signal.SIGSTOP)
                while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
                    await asyncio.sleep(0.01)
        group._end()
        await asyncio.wait_for(serving, TIMEOUT_S)
        assert [process.returncode for process in group._processes.values()] == [-signal.SIGKILL] * 2
    assert "Worker 0 ended with exit code -9; starting it again." in capfd.readouterr().err


async def test_workers_that_are_ended_while_they_start_do_not_serve(redis_url):
    with group_of(redis_url) as group:
        served = []
        serving = asyncio.create_task(group.serve(lambda: served.append(1)))
        async with asyncio.timeout(TIMEOUT_S):
            while not group._processes:
                await asyncio.sleep(0)
        group._end()
        await asyncio.wait_for(serving, TIMEOUT_S)
        assert served == []
        assert group._processes[0].returncode is not None
