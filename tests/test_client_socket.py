"""`SocketClient`: what a refused upgrade says, and what becomes of what fails in the user's code and in ours."""

from __future__ import annotations

import asyncio
import random
from typing import ClassVar

import pytest
from playback_clock import ticks
from scripted_server import ScriptedServer, answer, scripted_socket
from serving import TIMEOUT_S, running
from steering import steered

from syndarix_rt.client import ChatClient, DebugClient
from syndarix_rt.client import socket as client_socket
from syndarix_rt.client.http import Unavailable
from syndarix_rt.client.socket import SocketClient
from syndarix_rt.errors import StreamError


async def eventually(condition):
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.01)


class Plain(SocketClient):
    """Takes any text, and answers nothing; a subclass breaks it."""

    PROTOCOL: ClassVar[str] = "syndarix.debug.v1"
    SILENCE_S: ClassVar[float] = 45.0

    def __init__(self, url, sleep=asyncio.sleep):
        super().__init__(url, "apollo", "debug", token="s3cret", rng=random.Random(1), sleep=sleep)

    async def _take(self, text):
        pass

    async def closed(self):
        async with asyncio.timeout(TIMEOUT_S), self._changed:
            await self._changed.wait_for(lambda: self.state == "closed")
        return self._failure


DETAIL = b'{"type":"about:blank","title":"No","status":400,"detail":"kind must be person."}'


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (answer("401 Unauthorized"), "401 Unauthorized: use the URL that the server printed"),
        (answer("403 Forbidden"), "403 Forbidden: this key does not reach so far"),
        (answer("404 Not Found", b"<html>", content_type="text/html"), "404 Not Found: is this the server's URL"),
        (answer("400 Bad Request", DETAIL, content_type="application/problem+json"), "400 Bad Request: kind must be"),
        (answer("200 OK", b"<html>", content_type="text/html"), "text/html, which is no WebSocket; is this"),
        (answer("101 Switching Protocols"), "does not speak HTTP"),
        (answer("302 Found", location="/again"), "redirected too often"),
    ],
)
async def test_a_refused_upgrade_says_what_a_refused_request_says(refused, told):
    async def script(exchange):
        await exchange.send(refused)

    async with ScriptedServer(script) as server, Plain(server.url) as client:
        error = await client.closed()
        assert told in str(error)
        assert str(error).startswith(f"{server.url}/projects/apollo/debug: ")
        assert not isinstance(error, Unavailable)
        assert client.reason == str(error)
        assert server.requests[0].headers["authorization"] == "Bearer s3cret"
        await server.closed()


async def test_who_is_asked_to_come_back_later_does_so_after_that_time():
    slept = []

    async def sleep(seconds):
        slept.append((seconds, client.reason))

    async def busy(exchange):
        await exchange.send(answer("503 Service Unavailable", DETAIL, content_type="application/json", retry_after=7))

    async def full(exchange):
        await exchange.send(answer("429 Too Many Requests", retry_after=9))

    async def enough(exchange):
        await exchange.send(answer("403 Forbidden"))

    async with ScriptedServer(busy, full, enough) as server, Plain(server.url, sleep) as client:
        await client.closed()
    (first_s, first), (second_s, second) = slept
    assert (7 <= first_s < 8, 9 <= second_s < 10) == (True, True)
    assert first.endswith("503 Service Unavailable: kind must be person.")
    assert second.endswith("429 Too Many Requests")


async def test_an_upgrade_without_an_answer_is_tried_again(monkeypatch):
    monkeypatch.setattr(client_socket, "CONNECT_S", 0.05)

    async def silent(exchange):
        await exchange.gone()

    async def enough(exchange):
        await exchange.send(answer("403 Forbidden"))

    async def sleep(_seconds):
        assert client.reason.endswith("it fell silent")

    async with ScriptedServer(silent, enough) as server, Plain(server.url, sleep) as client:
        assert (await client.closed()).status == 403


async def test_a_close_code_is_told_with_the_servers_words():
    async def script(ws):
        await ws.close(code=4403, message=b"no right to chat")

    async with scripted_socket(script) as url, Plain(url) as client:
        error = await client.closed()
        assert str(error) == (
            f"{url}/projects/apollo/debug: 403 Forbidden: no right to chat; this key does not reach so far"
        )
        assert error.status == 403


async def test_a_callback_that_raises_is_logged_and_the_connection_goes_on(caplog):
    def fail(*_):
        raise ZeroDivisionError("a display that fails")

    async with running() as server:
        async with ChatClient(server.url, "apollo", name="ana", on_change=fail) as ana:
            assert (await ana.say("hello")).text == "hello"
            assert (await ana.say("bye")).text == "bye"
        told = caplog.text.count("a callback has failed; the connection goes on")
        assert told >= 3
        assert caplog.text.count("ZeroDivisionError: a display that fails") == told
        caplog.clear()
        async with steered(ticks(9), broker=server.broker), DebugClient(server.url, "apollo", on_notice=fail) as debug:
            await debug.attach()
            await debug.step(events=3)
            await eventually(lambda: "a callback has failed" in caplog.text)
            assert (await debug.step(events=2)).published == 5


@pytest.mark.parametrize("where", ["_take", "_begin"])
async def test_a_failure_of_our_own_ends_the_client_and_is_told_to_everybody(where, caplog):
    async def fail(self, *_):
        raise ZeroDivisionError("a mistake")

    async def script(ws):
        await ws.send_str("{}")
        await ws.receive()

    broken = type("Broken", (Plain,), {where: fail})
    async with scripted_socket(script) as url, broken(url) as client:
        error = await client.closed()
        assert isinstance(error, StreamError)
        assert isinstance(error.__cause__, ZeroDivisionError)
        assert client.reason.endswith("the client has ended: ZeroDivisionError: a mistake")
        assert "a mistake" in caplog.text
