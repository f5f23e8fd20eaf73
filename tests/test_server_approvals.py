"""Deciding over HTTP: the routes, and servers and people at the same moment."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime

import msgspec
import pytest
from broker_contract import CHANNEL, asked, at, events_of, happened, resolved
from serving import is_data, offsets, running

from syndarix_rt.broker import RedisBroker
from syndarix_rt.client import Api
from syndarix_rt.errors import BrokerUnavailable, StreamError
from syndarix_rt.events import Event

APPROVALS = "/projects/apollo/approvals"


def choice(decision="approved", **more):
    return msgspec.json.encode({"decision": decision, **more})


@pytest.fixture
async def server():
    async with running() as server:
        await server.broker.publish(CHANNEL, [asked(60, title="Merge it", pr_id="pr-1"), happened(90)])
        yield server


async def test_a_decision_is_answered_with_where_its_event_stands(server):
    async with server.stream() as subscriber:
        await subscriber.opened()
        status, headers, reply = await server.post(f"{APPROVALS}/a-1", choice(by="Ana", comment="fine"))
        (frame,) = await subscriber.events(1)
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "application/json", "no-store")
    epoch = (await server.broker.position(CHANNEL)).epoch
    assert reply == {
        "approval_id": "a-1",
        "decision": "approved",
        "by": "Ana",
        "comment": "fine",
        "time": "2026-01-05T09:01:30Z",
        "epoch": epoch,
        "offset": 3,
    }
    assert (frame.event, frame.id) == ("approval_resolved", f"{epoch}.3")
    event = Event.decode(frame.data.encode())
    assert event.data["by"] == "Ana"
    assert event.recordedtime is not None


async def test_the_same_decision_again_is_the_same_200_and_another_a_409_that_says_who(server):
    _, _, first = await server.post(f"{APPROVALS}/a-1", choice("rejected", by="Ana"))
    status, _, again = await server.post(f"{APPROVALS}/a-1", choice("rejected", by="Ben", comment="me, too"))
    assert (status, again) == (200, first)
    status, headers, problem = await server.post(f"{APPROVALS}/a-1", choice("approved", by="Ben"))
    assert (status, headers["content-type"]) == (409, "application/problem+json")
    assert problem["type"] == "urn:syndarix-rt:problem:already-decided"
    assert problem["detail"].startswith("Ana has rejected it at 2026-01-05T09:01:30+00:00")
    assert {name: problem[name] for name in first} == first
    assert (await server.broker.position(CHANNEL)).last == 3


async def test_a_decision_without_a_name_is_taken(server):
    status, _, reply = await server.post(f"{APPROVALS}/a-1", choice(by=None))
    assert (status, reply["decision"]) == (200, "approved")
    assert "by" not in (await events_of(server.broker, 2))[0].data
    status, _, problem = await server.post(f"{APPROVALS}/a-1", choice("rejected"))
    assert (status, problem["detail"].partition(" ")[0]) == (409, "Somebody")


@pytest.mark.parametrize("unknown", ["a-2", "%00", "caf%C3%A9", "x" * 1000, "a%2F1", "-"])
async def test_an_unknown_approval_is_a_404(server, unknown):
    status, headers, _ = await server.post(f"{APPROVALS}/{unknown}", choice())
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert (await server.post("/projects/zeus/approvals/a-1", choice()))[0] == 404


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b"nope", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{}", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"decision":"approved","x":' + b"[" * 100_000, "application/json", 400),
        (b'{"decision":"approved","by":"\xff"}', "application/json", 400),
        (choice("maybe"), "application/json", 400),
        (choice(by=""), "application/json", 400),
        (choice(by="x" * 4097), "application/json", 400),
        (choice(by=7), "application/json", 400),
        (choice(comment="x" * 4097), "application/json", 400),
        (choice(), "text/plain", 415),
        (choice(), "application/x-www-form-urlencoded", 415),
    ],
)
async def test_what_is_no_decision_is_refused_and_decides_nothing(server, body, content_type, status):
    got, headers, problem = await server.post(f"{APPROVALS}/a-1", body, content_type)
    assert (got, headers["content-type"]) == (status, "application/problem+json")
    assert problem["detail"]
    assert (await server.broker.position(CHANNEL)).last == 2
    assert (await server.get(f"{APPROVALS}"))[2]["approvals"]


async def test_bad_names_and_methods_are_problems(server):
    assert (await server.post("/projects/a.b/approvals/a-1", choice()))[0] == 400
    assert (await server.get("/projects/a.b/approvals"))[0] == 400
    status, headers, _ = await server.get(f"{APPROVALS}/a-1")
    assert (status, headers["allow"]) == (405, "OPTIONS, POST")


async def test_only_who_may_write_decides():
    async with running(token="s3cret") as server:
        await server.broker.publish(CHANNEL, [asked(60)])
        path, key = f"{APPROVALS}/a-1", {"authorization": "Bearer s3cret"}
        assert (await server.post(path, choice()))[0] == (await server.get(APPROVALS))[0] == 401
        _, headers, _ = await server.get("/p/apollo", params={"key": "s3cret"})
        jar = {"cookie": headers["set-cookie"].partition(";")[0]}
        for origin in ({}, {"origin": "http://evil.example"}):
            assert (await server.post(path, choice(), headers=jar | origin))[0] == 403
        assert (await server.post(path, choice(), headers={"host": "evil.example"} | key))[0] == 403
        assert (await server.broker.position(CHANNEL)).last == 1
        assert (await server.post(path, choice(), headers=jar | {"origin": server.url}))[0] == 200
        assert (await server.get(APPROVALS, headers=key))[0] == 200


async def test_an_inbox_that_is_opened_late_gets_what_waits(server):
    await server.broker.publish(CHANNEL, [asked(100, "a-2", kind="tool", simulation=None), asked(101, "a-3")])
    await server.broker.publish(CHANNEL, [resolved(102, "a-3")])
    epoch = (await server.broker.position(CHANNEL)).epoch
    status, headers, listed = await server.get(APPROVALS)
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert listed == {
        "approvals": [
            {
                "approval_id": "a-1",
                "since": "2026-01-05T09:01:00Z",
                "epoch": epoch,
                "offset": 1,
                "event": "approval_required-60",
                "title": "Merge it",
                "pr_id": "pr-1",
                "simulation": "sim-1",
            },
            {
                "approval_id": "a-2",
                "since": "2026-01-05T09:01:40Z",
                "epoch": epoch,
                "offset": 3,
                "event": "approval_required-100",
                "kind": "tool",
            },
        ]
    }
    assert (await server.get("/projects/nothing-yet/approvals"))[2] == {"approvals": []}


async def test_what_is_published_over_http_can_be_decided_and_a_runs_batch_that_is_late_is_refused_whole(server):
    asks, decides = asked(100, "a-2"), resolved(101, "a-2", "rejected")
    assert (await server.post("/projects/apollo/events", asks))[0] == 202
    assert (await server.post("/projects/apollo/events", decides))[0] == 403
    assert (await server.post(f"{APPROVALS}/a-2", choice()))[0] == 200
    batch = b"\n".join([happened(102), decides])
    status, _, problem = await server.post("/projects/apollo/runs/r/events", batch, "application/x-ndjson")
    assert (status, problem["type"]) == (409, "urn:syndarix-rt:problem:approval-decided")
    assert problem["late"] == [1]
    assert (await server.broker.position(CHANNEL)).last == 4
    status, _, reply = await server.post("/projects/apollo/runs/r/events", resolved(103, "a-1"))
    assert (status, reply["last"]) == (202, 5)
    assert (await server.post(f"{APPROVALS}/a-1", choice("rejected")))[2]["by"] == "human-1"


# ---- a client, several servers --------------------------------------------------------------------------------------


async def test_a_client_decides_and_is_told_what_stands(server):
    async with Api(server.url) as api:
        (waits,) = await api.approvals("apollo")
        assert (waits.approval_id, waits.title, waits.since) == ("a-1", "Merge it", at(60))
        stands = await api.decide("apollo", "a-1", "rejected", by="Ana", comment="later")
        assert (stands.decision, stands.by, stands.comment, stands.offset) == ("rejected", "Ana", "later", 3)
        assert isinstance(stands.time, datetime)
        assert await api.decide("apollo", "a-1", "rejected") == stands
        with pytest.raises(StreamError, match=r"409 .*Ana has rejected it") as other:
            await api.decide("apollo", "a-1", "approved")
        with pytest.raises(StreamError, match=r"404 .*'a-2'") as unknown:
            await api.decide("apollo", "a-2", "approved")
        assert (other.value.status, unknown.value.status) == (409, 404)
        assert await api.approvals("apollo") == []


async def test_servers_that_are_asked_at_once_give_one_decision(redis_url):
    async with AsyncExitStack() as stack:
        servers = []
        for _ in range(2):
            broker = RedisBroker(redis_url)
            stack.push_async_callback(broker.aclose)
            servers.append(await stack.enter_async_context(running(broker)))
        await servers[0].broker.publish(CHANNEL, [asked(60, f"a-{n}") for n in range(30)])

        async def click(server, decision, name):
            return [(decision, await server.post(f"{APPROVALS}/a-{n}", choice(decision, by=name))) for n in range(30)]

        async with servers[1].stream(replay="all") as subscriber:
            answers = await asyncio.gather(
                click(servers[0], "approved", "Ana"),
                click(servers[1], "rejected", "Ben"),
                click(servers[1], "approved", "Cleo"),
            )
            frames = [frame for frame in await subscriber.events(60) if is_data(frame)]
        told = [Event.decode(frame.data.encode()).data for frame in frames[30:]]
        assert offsets(frames) == list(range(1, 61))
        assert (await servers[0].broker.position(CHANNEL)).last == 60
        stands = {data["approval_id"]: (data["decision"], data["by"]) for data in told}
        assert len(stands) == 30
        for n in range(30):
            decision, by = stands[f"a-{n}"]
            for asked_for, (status, _, body) in (person[n] for person in answers):
                assert status == (200 if asked_for == decision else 409)
                assert (body["decision"], body["by"]) == (decision, by)


async def test_a_decision_while_the_broker_is_away_is_a_503_that_a_client_may_repeat(redis_url, monkeypatch):
    broker = RedisBroker(redis_url)
    try:
        async with running(broker) as server, Api(server.url) as api:
            await broker.publish(CHANNEL, [asked(60)])
            run = broker._endpoint.run

            async def run_and_lose_the_reply(*what):
                reply = await run(*what)
                if reply and reply.startswith(b"decided"):
                    raise BrokerUnavailable("the reply was lost")
                return reply

            with monkeypatch.context() as patch:
                patch.setattr(broker._endpoint, "run", run_and_lose_the_reply)
                with pytest.raises(BrokerUnavailable, match="503"):
                    await api.decide("apollo", "a-1", "approved", by="Ana")
            assert (await api.decide("apollo", "a-1", "approved", by="Ana")).offset == 2
            assert (await broker.position(CHANNEL)).last == 2
    finally:
        await broker.aclose()
