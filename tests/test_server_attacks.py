"""What somebody tries who means harm, over raw connections where clients would not do it."""

import asyncio
import json

import pytest
from serving import TIMEOUT_S, event, running

EVENTS = "/projects/apollo/events"


async def raw(server, *pieces):
    """Send bytes as they are; all that comes back until the server closes."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), TIMEOUT_S)
    finally:
        writer.close()


def head(server, line, **headers):
    lines = [line, f"host: {server.url.removeprefix('http://')}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n"


@pytest.mark.parametrize("path", ["type", "id", "project", "source", "subject"])
@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\0"])
async def test_a_line_end_in_an_attribute_forges_no_frame(path, end):
    async with running() as server:
        forged = json.loads(event(1).encode()) | {path: f"a{end}{end}event: gap{end}data: 1"}
        status, _, _ = await server.post(EVENTS, json.dumps(forged).encode())
        if status == 202:  # an attribute of free text: it travels inside the JSON, escaped
            assert path in ("source", "subject")
            async with server.stream(replay="all") as stream:
                (frame,) = await stream.events(1)
                assert json.loads(frame.data)[path] == forged[path]
                assert stream.raw.count(b"event: gap") == 1  # inside the data line
                assert b"\nevent: gap" not in stream.raw
        else:
            assert status == 400


async def test_a_line_end_in_an_address_forges_no_header():
    async with running() as server:
        for path in ("/p/a%0d%0aset-cookie:x=1", "/projects/a%0d%0ax/position", EVENTS + "?last_event_id=a%0d%0ax: 1"):
            request = head(server, f"GET {path} HTTP/1.1", connection="close") + b"\r\n"
            answer = (await raw(server, request)).partition(b"\r\n\r\n")[0].lower()
            assert answer.startswith(b"http/1.1 400")
            assert b"set-cookie" not in answer
            assert b"\r\nx" not in answer.replace(b"\r\nx-", b"")


async def test_no_path_leads_out_of_the_static_files():
    async with running() as server:
        for path in (
            "../server/app.py",
            "..%2fserver%2fapp.py",
            "%2e%2e/%2e%2e/pyproject.toml",
            "..%5cx",
            "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        ):
            request = head(server, f"GET /static/{path} HTTP/1.1", connection="close") + b"\r\n"
            assert (await raw(server, request)).startswith(b"HTTP/1.1 404")


async def test_a_body_that_is_too_large_or_never_comes_is_given_up():
    async with running() as server:
        server.app.config["BODY_TIMEOUT"] = 0.2  # a minute otherwise
        kind = {"content_type": "application/json"}
        for length, status in ((1 << 40, b"413"), (100, b"408")):
            request = head(server, f"POST {EVENTS} HTTP/1.1", content_length=length, **kind, connection="close")
            assert (await raw(server, request + b"\r\n{")).startswith(b"HTTP/1.1 " + status)
        assert (await server.get("/projects"))[2] == {"projects": []}


async def test_a_head_that_never_ends_or_is_too_long_is_given_up():
    async with running() as server:
        start = head(server, "GET /projects HTTP/1.1")
        answers = await asyncio.gather(raw(server, start), raw(server, start + b"x: " + b"y" * 70_000), raw(server))
        assert not any(answer.startswith(b"HTTP/1.1 2") for answer in answers)
        assert (await server.get("/healthz"))[0] == 200
