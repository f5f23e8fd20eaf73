"""Publishing, history, positions and access over a real Hypercorn."""

import json

import pytest
from serving import event, running
from yarl import URL

EVENTS = "/projects/apollo/events"


def as_json(*events):
    return b"[" + b",".join(each.encode() for each in events) + b"]"


async def stored(server):
    status, _, page = await server.get(EVENTS, headers={"accept": "application/json"}, params={"limit": "1000"})
    assert status == 200
    return page["events"]


@pytest.mark.parametrize(
    ("body", "content_type", "count"),
    [
        (event(1).encode(), "application/json", 1),
        (event(1).encode(), "application/cloudevents+json; charset=utf-8", 1),
        (as_json(event(1), event(2)), "application/json", 2),
        (as_json(event(1), event(2)), "application/cloudevents-batch+json", 2),
        (event(1).encode() + b"\n" + event(2).encode() + b"\n\n" + event(3).encode(), "application/x-ndjson", 3),
    ],
)
async def test_one_event_an_array_and_ndjson_are_taken(body, content_type, count):
    async with running() as server:
        status, _, reply = await server.post(EVENTS, body, content_type)
        assert status == 202
        assert (reply["first"], reply["last"], reply["duplicates"]) == (1, count, 0)
        found = await stored(server)
    assert [entry["position"] for entry in found] == [f"{reply['epoch']}.{n}" for n in range(1, count + 1)]
    for number, entry in enumerate(found, 1):
        document = entry["event"]
        assert document.pop("recordedtime").endswith("Z")
        assert document == event(number).to_dict()


async def test_a_given_recordedtime_and_unknown_attributes_stay():
    odd = event(1, extensions={"comexampleother": 7, "flag": True}, recordedtime=event(5).time)
    async with running() as server:
        await server.post(EVENTS, odd.encode())
        assert (await stored(server))[0]["event"] == odd.to_dict()


def broken(**changes):
    document = event(2).to_dict() | changes
    return json.dumps(
        [event(1).to_dict(), {k: v for k, v in document.items() if v is not ...}, event(3).to_dict()]
    ).encode()


BAD = {
    "not JSON": (b"{", "$", None),
    "no object": (b"[1]", "$[0]", None),
    "wrong project": (broken(project="zeus"), "$[1].project", None),
    "bad project name": (broken(project="a b"), "$[1].project", None),
    "no id": (broken(id=...), "$[1]", None),
    "bad id": (broken(id="a:b"), "$[1].id", None),
    "bad type": (broken(type="Nope"), "$[1].type", None),
    "wrong payload": (
        broken(type="agent_started", data={"run_id": 7, "agent_id": "a", "role": "x"}),
        "$[1].data.run_id",
        None,
    ),
    "payload without a key": (broken(type="pr_created", data={}), "$[1].data", None),
    "payload no object": (broken(data=[]), "$[1].data", None),
    "no time zone": (broken(time="2026-01-01T00:00:00"), "$[1].time", None),
    "binary": (broken(data_base64="AAAA"), "$[1].data_base64", None),
    "65 KiB": (broken(data={"pad": "x" * 65 * 1024}), "$[1]", None),
    "bad attribute": (broken(Nope="x"), "$[1].Nope", None),
    "ndjson": (event(1).encode() + b"\n{]\n", "$[1]", "application/x-ndjson"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_element_is_named_and_nothing_of_the_batch_is_stored(name):
    body, path, content_type = BAD[name]
    async with running() as server:
        status, headers, problem = await server.post(EVENTS, body, content_type or "application/json")
        assert status == 400
        assert headers["content-type"] == "application/problem+json"
        assert problem["path"] == path
        assert path in problem["detail"]
        assert await stored(server) == []


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"[]", "application/json", 400),
        (b"", "application/x-ndjson", 400),
        (as_json(*[event(1)] * 1001), "application/json", 413),
        (b" " * 5_000_000, "application/json", 413),
        (event(1).encode(), "text/plain", 415),
        (event(1).encode(), "application/x-www-form-urlencoded", 415),
        (
            event(1, type="approval_resolved", data={"approval_id": "a", "decision": "approved"}).encode(),
            "application/json",
            403,
        ),
        (b'[{"type": "my_custom"}, {"type": "approval_resolved"}]', "application/json", 403),
    ],
)
async def test_what_is_no_batch_is_refused(body, content_type, status):
    async with running() as server:
        got, _, problem = await server.post(EVENTS, body, content_type)
        assert got == problem["status"] == status
        assert await stored(server) == []


async def test_an_idempotency_key_makes_a_batch_once():
    async with running() as server:
        first = await server.post(EVENTS, as_json(event(1), event(2)), headers={"idempotency-key": "k"})
        again = await server.post(EVENTS, as_json(event(1), event(2)), headers={"idempotency-key": "k"})
        other = await server.post(EVENTS, as_json(event(3)), headers={"idempotency-key": "k"})
        elsewhere = await server.post(
            "/projects/zeus/events", as_json(event(1, "zeus")), headers={"idempotency-key": "k"}
        )
        too_long = await server.post(EVENTS, as_json(event(3)), headers={"idempotency-key": "k" * 129})
        assert len(await stored(server)) == 2
    assert first[2]["duplicates"] == 0
    assert again[2] == first[2] | {"duplicates": 2}
    assert (other[0], elsewhere[0], too_long[0]) == (409, 202, 400)


async def test_history_is_paged_filtered_and_continues_into_the_stream():
    async with running() as server:
        await server.publish(1, 5)
        done = await server.publish(6, 5, type="other_event")
        accept = {"accept": "application/json"}
        _, _, page = await server.get(EVENTS, headers=accept, params={"limit": "3"})
        assert (page["epoch"], page["first"], page["last"]) == (done.epoch, 1, 10)
        assert [entry["position"] for entry in page["events"]] == [f"{done.epoch}.{n}" for n in (1, 2, 3)]
        assert page["next"] == f"{done.epoch}.3"
        _, _, page = await server.get(EVENTS, headers=accept, params={"after": page["next"], "types": "other_*"})
        assert [entry["position"] for entry in page["events"]] == [f"{done.epoch}.{n}" for n in range(6, 11)]
        assert page["next"] == f"{done.epoch}.10"
        _, headers, text = await server.get(
            EVENTS, headers={"accept": "application/x-ndjson"}, params={"limit": "2", "types": "other_*"}
        )
        lines = [json.loads(line) for line in text.splitlines()]
        assert [line["position"] for line in lines] == [f"{done.epoch}.6", f"{done.epoch}.7"]
        assert headers["link"] == f'<?after={done.epoch}.7&limit=2&types=other_*>; rel="next"'
        async with server.stream(last_event_id=page["next"]) as subscriber:
            await server.publish(11)
            assert [frame.id for frame in await subscriber.events(1)] == [f"{done.epoch}.11"]


async def test_history_that_is_gone_is_410_with_the_gap():
    async with running() as server:
        await server.publish(1, 3)
        status, _, problem = await server.get(
            EVENTS, headers={"accept": "application/json"}, params={"after": "epoch-other.2"}
        )
        assert status == 410
        assert (problem["reason"], problem["requested"], problem["first"], problem["last"], problem["missed"]) == (
            "epoch", "epoch-other.2", 1, 3, None,
        )  # fmt: skip
        for params in ({"after": "x"}, {"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"limit": "001000000"}):
            assert (await server.get(EVENTS, headers={"accept": "application/json"}, params=params))[0] == 400


async def test_positions_and_projects():
    async with running() as server:
        done = await server.publish(1, 3)
        await server.publish(1, 1, project="zeus")
        _, _, position = await server.get("/projects/apollo/position")
        assert position == {"epoch": done.epoch, "first": 1, "last": 3}
        async with server.stream() as subscriber:
            await subscriber.opened()
            _, _, listed = await server.get("/projects")
    assert [(line["project"], line["last"], line["subscribers"]) for line in listed["projects"]] == [
        ("apollo", 3, 1),
        ("zeus", 1, 0),
    ]


async def test_a_claim_keeps_other_runs_out():
    async with running() as server:
        url = f"{server.url}/projects/apollo/claim"
        async with server.http.put(url, json={"holder": "run-a", "ttl_s": 30}) as response:
            assert response.status == 200
        async with server.http.put(url, json={"holder": "run-b"}) as response:
            assert response.status == 409
            assert (await response.json(content_type=None))["holder"] == "run-a"
        async with server.http.delete(url + "/run-a") as response:
            assert response.status == 204
        async with server.http.put(url, json={"holder": "run-b"}) as response:
            assert response.status == 200
        for bad in (b"{}", b'{"holder":"x","ttl_s":1e9}', b"nope"):
            async with server.http.put(url, data=bad, headers={"content-type": "application/json"}) as response:
                assert response.status == 400


async def test_a_run_may_have_any_name():
    async with running() as server:
        url = f"{server.url}/projects/apollo"
        async with server.http.put(f"{url}/claim", json={"holder": "team/a b-7"}) as response:
            assert response.status == 200
        status, _, reply = await server.post("/projects/apollo/runs/team%2Fa%20b-7/events", event(1).encode())
        assert (status, reply["last"]) == (202, 1)
        async with server.http.delete(f"{url}/claim/team%2Fa%20b-7") as response:
            assert response.status == 204
        async with server.http.put(f"{url}/claim", json={"holder": "other"}) as response:
            assert response.status == 200


async def test_a_reset_starts_a_new_epoch():
    async with running() as server:
        done = await server.publish(1, 3)
        async with server.http.delete(server.url + EVENTS) as response:
            fresh = await response.json()
        assert fresh["epoch"] != done.epoch
        assert (fresh["first"], fresh["last"]) == (1, 0)
        assert await stored(server) == []


# ---- access ---------------------------------------------------------------------------------------------------------


async def test_without_the_key_nothing_is_told_but_the_probes():
    async with running(token="s3cret") as server:
        for path in ("/projects", "/projects/apollo/events", "/projects/apollo/position", "/", "/p/apollo"):
            status, headers, problem = await server.get(path)
            assert status == 401
            assert headers["www-authenticate"].startswith("Bearer")
            assert "key" in problem["detail"]
        assert (await server.post(EVENTS, event(1).encode()))[0] == 401
        assert (await server.get("/projects", params={"key": "wrong"}))[0] == 401
        assert (await server.get("/projects", headers={"authorization": "Bearer wrong"}))[0] == 401
        assert (await server.get("/healthz"))[0] == (await server.get("/readyz"))[0] == 200


async def test_the_key_opens_as_bearer_as_query_and_traded_for_a_cookie():
    async with running(token="s3cret") as server:
        assert (await server.get("/projects", headers={"authorization": "Bearer s3cret"}))[0] == 200
        assert (await server.get("/projects", params={"key": "s3cret"}))[0] == 200
        status, headers, _ = await server.get("/p/apollo", params={"key": "s3cret", "theme": "dark"})
        assert (status, headers["location"]) == (303, "/p/apollo?theme=dark")
        for query in ("key", "k%65y=s3cret", "a=1&key=s3cret&key=again&b=%26key"):  # it must not lead to itself
            url = URL(f"{server.url}/?{query}", encoded=True)
            bearer = {"authorization": "Bearer s3cret"}
            async with server.http.get(url, headers=bearer, allow_redirects=False) as answer:
                assert answer.headers["location"] == ("/?a=1&b=%26key" if "a=1" in query else "/")
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert "s3cret" not in cookie
        jar = {"cookie": cookie.partition(";")[0]}
        assert (await server.get("/projects", headers=jar))[0] == 200
        # A cookie rides along with other sites' requests: it writes only with our own Origin.
        assert (await server.post(EVENTS, event(1).encode(), headers=jar))[0] == 403
        assert (await server.post(EVENTS, event(1).encode(), headers=jar | {"origin": "http://evil.example"}))[0] == 403
        assert (await server.post(EVENTS, event(1).encode(), headers=jar | {"origin": server.url}))[0] == 202


async def test_only_our_own_host_names_are_answered():
    async with running(hosts=("demo.example",)) as server:
        port = server.url.rpartition(":")[2]
        for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "demo.example"):
            assert (await server.get("/healthz", headers={"host": host}))[0] == 200
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "10.0.0.1"):
            assert (await server.get("/projects", headers={"host": host}))[0] == 403


async def test_an_open_server_takes_writes_from_programs_and_listed_pages_only():
    async with running(cors_origins=("https://lab.example",)) as server:
        for origin in ("http://evil.example", "http://[", "null", ""):
            assert (await server.post(EVENTS, event(1).encode(), headers={"origin": origin}))[0] == 403
        assert (await server.post(EVENTS, event(1).encode()))[0] == 202
        status, headers, _ = await server.post(EVENTS, event(1).encode(), headers={"origin": "https://lab.example"})
        assert status == 202
        assert headers["access-control-allow-origin"] == "https://lab.example"
        assert headers["access-control-allow-credentials"] == "true"
        assert headers["access-control-expose-headers"] == "link, retry-after"
        assert (
            "access-control-allow-origin"
            not in (await server.get("/projects", headers={"origin": "https://x.example"}))[1]
        )


async def test_only_a_page_of_a_listed_origin_is_told_before_it_asks_what_it_may():
    async with running(cors_origins=("https://lab.example",)) as server:
        for origin, allowed in (("https://lab.example", "GET, POST, PUT, DELETE"), ("https://x.example", None)):
            headers = {"origin": origin, "access-control-request-method": "POST"}
            async with server.http.options(server.url + EVENTS, headers=headers) as answer:
                assert answer.status == 204
                assert answer.headers.get("access-control-allow-methods") == allowed
                assert answer.headers.get("access-control-allow-origin") == (allowed and origin)


async def test_what_the_events_cannot_be_had_as_is_406():
    async with running() as server:
        status, _, problem = await server.get(EVENTS, headers={"accept": "text/html"})
        assert (status, problem["type"]) == (406, "urn:syndarix-rt:problem:not-acceptable")


async def test_unknown_paths_and_methods_are_problems_too():
    async with running() as server:
        for path in ("/nope", "/static/nope.js", "/static/..%2Fapp.py", "/static/.hidden"):
            status, headers, _ = await server.get(path)
            assert (status, headers["content-type"]) == (404, "application/problem+json")
        status, headers, _ = await server.post("/projects", b"{}")
        assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")
