"""What is below the sockets: Hypercorn's stream is reached, broken frames are named, nothing piles up after a close."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from quart import Quart, websocket
from serving import TIMEOUT_S, running

from syndarix_rt.server import socket
from syndarix_rt.server.below import WRITE_BYTES
from syndarix_rt.server.tokens import issue
from syndarix_rt.server.wire import Wire, accept

CHAT, DEBUG = ("chat", "syndarix.chat.v1"), ("debug", "syndarix.debug.v1")
MASK = b"\x01\x02\x03\x04"


def client_frame(head, payload=b"", mask=MASK):
    """A frame as a client sends it: first byte, then length, mask and masked payload."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes([head]) + length + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


class RawSocket:
    """A WebSocket of which the test writes every byte."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def frame(self):
        """First byte and payload of the next frame; None at the end of the connection."""
        async with asyncio.timeout(TIMEOUT_S):
            try:
                head, size = await self.reader.readexactly(2)
                if size >= 126:
                    size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8))
                return head, await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return None

    async def closed(self):
        """The code and reason of the close frame, after whatever else comes."""
        while frame := await self.frame():
            if frame[0] == 0x88:
                return int.from_bytes(frame[1][:2]), frame[1][2:].decode()
        return None


@asynccontextmanager
async def raw(server, path="/wire", protocol="wire"):
    at = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {at.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: {protocol}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n".encode()
    )
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT_S)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    assert b"sec-websocket-extensions" not in answer.lower(), "compression is declined"
    try:
        yield RawSocket(reader, writer)
    finally:
        writer.transport.abort()


def echoing(app):
    """A route that sends back each text, and the wires of those who came."""
    wires = []

    async def echo():
        await accept("wire")
        wire = Wire(lambda: None)
        wires.append(wire)
        while True:
            text = await websocket.receive()
            if text == "ping":
                await wire.ping()
            elif text == "large":
                await wire.send(["x" * 0x10000])
            else:
                await wire.send([text, text])

    app.add_websocket("/wire", "wire", echo)
    return wires


@pytest.fixture
async def server():
    async with running() as server:
        server.wires = echoing(server.app)
        yield server


async def until(condition):
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_texts_of_every_size_arrive_as_they_are_and_several_in_one_write(server):
    async with server.http.ws_connect(f"{server.url}/wire", protocols=("wire",), compress=15, max_msg_size=0) as ws:
        assert not ws.compress
        for size in (0, 1, 125, 126, 0xFFFF, 0x10000, WRITE_BYTES):
            text = ("aé…" * size)[:size]
            while len(text.encode()) > 64 * 1024:
                text = text[: len(text) // 2]
            await ws.send_str(text)
            assert [await ws.receive_str(timeout=TIMEOUT_S) for _ in range(2)] == [text, text]
        await ws.send_str("large")
        assert await ws.receive_str(timeout=TIMEOUT_S) == "x" * 0x10000
    (wire,) = server.wires
    assert wire._stream, "Hypercorn has another shape: see syndarix_rt/server/wire.py"


async def test_two_texts_are_one_write_and_a_ping_is_one_of_the_protocol(server):
    async with raw(server) as client:
        client.writer.write(client_frame(0x81, b"hi"))
        assert await client.reader.readexactly(8) == b"\x81\x02hi" * 2
        heard_s = server.wires[0].heard_s
        client.writer.write(client_frame(0x81, b"ping"))
        assert await client.frame() == (0x89, b"")
        asked_s = server.wires[0].heard_s
        client.writer.write(client_frame(0x8A))
        await until(lambda: server.wires[0].heard_s > asked_s > heard_s)
        assert not server.wires[0].left


async def test_who_says_that_it_leaves_has_left_and_who_breaks_the_protocol_has_not(server):
    async with raw(server) as leaving, raw(server) as broken:
        leaving.writer.write(client_frame(0x88, (1000).to_bytes(2) + b"bye"))
        assert await leaving.closed() == (1000, "bye")
        broken.writer.write(client_frame(0x83))
        assert (await broken.closed())[0] == 1002
        assert await broken.frame() is None
        assert [wire.left for wire in server.wires] == [True, False]


BROKEN = {
    "a text that is no UTF-8": (1007, client_frame(0x81, b"\xff\xfe")),
    "a surrogate": (1007, client_frame(0x81, b"\xed\xa0\x80")),
    "a character that its message does not end": (1007, client_frame(0x81, b"\xc3")),
    "no UTF-8 in the second fragment": (1007, client_frame(0x01, b"ok") + client_frame(0x80, b"\xff")),
    "a reason that is no UTF-8": (1007, client_frame(0x88, (1000).to_bytes(2) + b"\xff")),
    "a reserved bit": (1002, client_frame(0xA1, b"hi")),
    "the bit of an extension that was declined": (1002, client_frame(0xC1, b"hi")),
    "a reserved opcode": (1002, client_frame(0x83)),
    "a reserved control opcode": (1002, client_frame(0x8B)),
    "no mask": (1002, b"\x81\x02hi"),
    "a continuation of nothing": (1002, client_frame(0x80, b"hi")),
    "a message within a message": (1002, client_frame(0x01, b"hi") + client_frame(0x81, b"hi")),
    "a ping in fragments": (1002, client_frame(0x09)),
    "a ping of 126 bytes": (1002, client_frame(0x89, b"x" * 126)),
    "a length in more bytes than it needs": (1002, b"\x81\xfe\x00\x02" + MASK + b"hi"),
    "a length with its highest bit": (1002, b"\x81\xff" + b"\xff" * 8 + MASK),
    "half a close code": (1002, client_frame(0x88, b"\x03")),
    "a close code that nobody may send": (1002, client_frame(0x88, (1006).to_bytes(2))),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_broken_frames_end_that_connection_with_their_code_and_no_other(server, what):
    code, data = BROKEN[what]
    for place, protocol in (CHAT, DEBUG):
        path = f"/projects/apollo/{place}"
        async with raw(server, path, protocol) as calm, raw(server, path, protocol) as client:
            client.writer.write(data)
            assert (await client.closed())[0] == code
            assert await client.frame() is None
            calm.writer.write(client_frame(0x89, b"still there?"))
            while (frame := await calm.frame()) != (0x8A, b"still there?"):
                assert frame[0] == 0x81
    await until(lambda: not server.hub._sockets)


@pytest.mark.parametrize("way", ["one frame", "many fragments"])
async def test_of_a_message_that_is_too_large_nothing_is_kept_and_it_ends(server, monkeypatch, way):
    monkeypatch.setattr(socket, "CLOSE_S", 0.3)
    part = os.urandom(8).hex().encode() * 512
    for place, protocol in (CHAT, DEBUG):
        async with raw(server, f"/projects/apollo/{place}", protocol) as client:
            await until(lambda: server.hub._sockets)
            (sock,) = server.hub._sockets
            buffer = sock._wire._stream.buffer
            if way == "one frame":
                client.writer.write(b"\x81\xff" + (1 << 40).to_bytes(8) + b"\0\0\0\0")
            else:
                client.writer.write(client_frame(0x01, part))

            async def pour(client=client):
                while True:  # never reads, never closes: a client that obeys no close frame
                    client.writer.write(part if way == "one frame" else client_frame(0x00, part))
                    await client.writer.drain()

            pouring = asyncio.create_task(pour())
            assert (await client.closed())[0] == 1009
            kept = buffer.length
            assert await client.frame() is None, "it is cut in the end"
            assert buffer.length == kept <= 2 * socket.MAX_MESSAGE_BYTES
            pouring.cancel()
            await asyncio.gather(pouring, return_exceptions=True)
        await until(lambda: not server.hub._sockets)


@pytest.mark.parametrize("what", ["no key", "another right", "no project"])
async def test_who_is_turned_away_reads_why_although_it_has_begun_to_speak(what):
    key = "k" * 48
    rights = ["subscribe:*"] if what == "another right" else ["chat:*", "debug:*"]
    secret = "wrong" if what == "no key" else issue(key, rights, name="ana", life_s=60)
    headers = {"authorization": f"Bearer {secret}"}
    project = "no.name" if what == "no project" else "apollo"
    code = {"no key": 4401, "another right": 4403, "no project": 4404}[what]
    async with running(token=key) as server:
        for place, protocol in (CHAT, DEBUG):
            url = f"{server.url}/projects/{project}/{place}"
            async with server.http.ws_connect(url, protocols=(protocol,), headers=headers) as ws:
                for _ in range(5):
                    await ws.send_str("x" * 1_000)
                    await asyncio.sleep(0)
                await ws.receive(TIMEOUT_S)
                assert ws.close_code == code


async def test_under_another_server_what_asgi_has_is_used():
    app = Quart(__name__)
    wires = echoing(app)
    async with app.test_client().websocket("/wire", subprotocols=["wire"]) as ws:
        await ws.send("hi")
        assert [await ws.receive(), await ws.receive()] == ["hi", "hi"]
        await ws.send("ping")
        await ws.send("there")
        assert await ws.receive() == "there"
        (wire,) = wires
        assert wire._stream is None
        assert not wire.left
        await wire.ended()
