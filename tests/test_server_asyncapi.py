"""The AsyncAPI document: valid, complete, and true of the frames that are really sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import aiohttp
import jsonschema
import msgspec
import pytest
from serving import TIMEOUT_S, event, running
from steering import steered, undisturbed
from system_tools import require_asyncapi_schema

from syndarix_rt.delivery import chat as frames
from syndarix_rt.events import CATALOGUE
from syndarix_rt.server import debug
from syndarix_rt.server.asyncapi import describe


@pytest.fixture(scope="module")
def document():
    return json.loads(json.dumps(describe()))


def resolved(document, ref):
    found = document
    for step in ref.removeprefix("#/").split("/"):
        found = found[step]
    return found


def refs(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            yield from refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from refs(value)


def check(document, message, frame):
    """Whether a frame is as its message says."""
    schema = {**document["components"]["messages"][message]["payload"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(frame)


def test_it_is_valid_by_the_official_schema(document):
    official = jsonschema.Draft7Validator(json.loads(require_asyncapi_schema().read_text("utf-8")))
    official.validate(document)
    for change in ({"asyncapi": "2.6.0"}, {"info": {"title": "x"}}, {"channels": 7}, {"operations": {"x": {}}}):
        assert not official.is_valid(document | change)


def test_every_reference_leads_somewhere(document):
    for ref in refs(document):
        assert isinstance(resolved(document, ref), dict), ref
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for channel in document["channels"].values():
        assert set(channel["parameters"]) == {"project"}
        assert "{project}" in channel["address"]
    for operation in document["operations"].values():
        home = operation["channel"]["$ref"]
        assert all(ref["$ref"].startswith(f"{home}/messages/") for ref in operation["messages"])


def test_every_type_frame_and_method_is_in_it(document):
    events = document["channels"]["events"]["messages"]
    assert set(events) == {*CATALOGUE, "stream-open", "gap", "server-draining", "auth-expiring", "custom"}
    chat = set(document["channels"]["chat"]["messages"])
    clients = {f"chat.client.{kind.__struct_config__.tag}" for kind in frames.ClientFrame.__args__}
    servers = {f"chat.server.{kind.__struct_config__.tag}" for kind in frames.ServerFrame.__args__}
    assert chat == clients | servers
    for method in ("run.list", *debug.METHODS):
        assert f"`{method}`" in document["channels"]["debug"]["description"]


def test_simulated_events_are_as_their_messages_say_and_wrong_ones_are_not(document):
    types = set()
    for told in undisturbed(2_000):
        if told.type not in types:
            types.add(told.type)
            check(document, told.type, json.loads(told.encode()))
    assert len(types) >= 17
    wrong = json.loads(next(told for told in undisturbed(10) if told.type == "agent_started").encode())
    for change in ({"type": "agent_error"}, {"data": {}}, {"time": 7}, {"specversion": "0.3"}):
        with pytest.raises(jsonschema.ValidationError):
            check(document, "agent_started", wrong | change)


def test_chat_frames_are_as_their_messages_say(document):
    now = datetime.now(UTC)
    for side, frame in (
        ("client", frames.Say(id="1", text="hi", to="planner-1")),
        ("client", frames.Stream(id="1", at=0, text="h")),
        ("client", frames.Finish(id="1", text="hi", error="x")),
        ("server", frames.Said(id="1", speaker="Ana", to="all", text="hi", time=now, position="abcdefgh.1")),
        ("server", frames.Done(id="1", speaker="a", to="Ana", text="", time=now, reply_to="1")),
        ("server", frames.Presence(joined=[frames.Member("Ana")], left=[], typing=["Ana"], count=1)),
        ("server", frames.Refused(code="conflict", detail="x", path="$.id")),
        ("server", frames.Pong()),
    ):
        sent = json.loads(frames.encode(frame))
        check(document, f"chat.{side}.{sent['type']}", sent)
        with pytest.raises(jsonschema.ValidationError):
            check(document, f"chat.{side}.{sent['type']}", sent | {"type": "other"})


async def test_it_is_served_and_true_of_what_the_server_sends(document):
    async with running() as server, steered(broker=server.broker):
        status, headers, served = await server.get("/asyncapi.json")
        assert (status, headers["content-type"], served) == (200, "application/json", document)
        await server.publish(1, 2)
        async with server.stream(replay=2) as stream:
            for frame in [*await stream.opened(), *await stream.events(2)]:
                check(document, "custom" if "_" in frame.event else frame.event, json.loads(frame.data))
        async with server.stream(headers={"last-event-id": "otherepoch.3"}) as stream:
            opening = await stream.opened()
            assert [frame.event for frame in opening] == ["stream-open", "gap"]
            check(document, "gap", json.loads(opening[1].data))
        url = f"{server.url}/projects/apollo"
        async with server.http.ws_connect(f"{url}/debug", protocols=(debug.PROTOCOL,)) as ws:
            for call in ("run.attach", "run.fly", "run.resume"):
                request = {"jsonrpc": "2.0", "method": call, "id": call}
                check(document, "debug.client.call", request)
                await ws.send_json(request)
            seen = set()
            while len(seen) < 3:
                told = msgspec.json.decode((await ws.receive(TIMEOUT_S)).data)
                kind = "notice" if "method" in told else "result" if "result" in told else "failure"
                check(document, f"debug.server.{kind}", told)
                seen.add(kind)
        async with server.http.ws_connect(f"{url}/chat?name=Ana", protocols=(frames.PROTOCOL,)) as ws:
            await ws.send_json({"type": "say", "id": "1", "text": "hi"})
            await ws.send_str("no JSON")
            seen = set()
            while not {"ready", "said", "error"} <= seen:
                message = await ws.receive(TIMEOUT_S)
                assert message.type is aiohttp.WSMsgType.TEXT
                told = json.loads(message.data)
                check(document, f"chat.server.{told['type']}", told)
                seen.add(told["type"])
        check(document, "custom", json.loads(event(1).encode()))
