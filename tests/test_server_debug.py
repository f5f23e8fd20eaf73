"""The debug socket: JSON-RPC by the letter, who may come in, and how it ends."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playback_clock import ticks
from serving import TIMEOUT_S, event, running
from steering import demo, steered

from syndarix_rt.broker.protocol import control_channel, project_channel
from syndarix_rt.delivery import jsonrpc
from syndarix_rt.server import debug, socket, steering
from syndarix_rt.server.tokens import issue

PROTOCOL = "syndarix.debug.v1"


@asynccontextmanager
async def connected(server, project="apollo", **options):
    options = {"protocols": (PROTOCOL,), "max_msg_size": 0} | options
    async with server.http.ws_connect(f"{server.url}/projects/{project}/debug", **options) as ws:
        yield Debugger(ws)


class Debugger:
    def __init__(self, ws):
        self.ws = ws
        self.notices = []
        self._answers = {}

    async def send(self, document):
        await self.ws.send_str(document if isinstance(document, str) else json.dumps(document))

    async def receive(self):
        message = await self.ws.receive(TIMEOUT_S)
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.ws.close_code)
        return json.loads(message.data)

    async def exchange(self, document):
        """What answers it; notices are kept apart."""
        await self.send(document)
        while "method" in (answer := await self.receive()):
            self.notices.append(answer)
        return answer

    async def call(self, method, params=None, call_id=1):
        document = {"jsonrpc": "2.0", "method": method, "id": call_id}
        return await self.exchange(document if params is None else document | {"params": params})

    async def told(self, condition):
        while not any(condition(notice["method"], notice["params"]) for notice in self.notices):
            message = await self.receive()
            assert "method" in message
            self.notices.append(message)
        return next(n for n in self.notices if condition(n["method"], n["params"]))

    async def closed(self):
        """Read to the end; its code."""
        while (message := await self.ws.receive(TIMEOUT_S)).type is aiohttp.WSMsgType.TEXT:
            pass
        return self.ws.close_code, message.extra


@pytest.fixture
async def server():
    async with running() as server:
        yield server


# ---- JSON-RPC by the specification --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "code", "call_id"),
    [
        ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', -32700, None),
        ("", -32700, None),
        ("[", -32700, None),
        ("[" * 5_000, -32700, None),
        ("[]", -32600, None),
        ("1", -32600, None),
        ("null", -32600, None),
        ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', -32600, None),
        ('{"jsonrpc": "2.0", "method": "run.list", "params": 1, "id": 7}', -32600, 7),
        ('{"jsonrpc": "1.0", "method": "run.list", "id": "a"}', -32600, "a"),
        ('{"method": "run.list", "id": 1}', -32600, 1),
        ('{"jsonrpc": "2.0", "method": "run.list", "id": true}', -32600, None),
        ('{"jsonrpc": "2.0", "method": "run.list", "id": [1]}', -32600, None),
        ('{"jsonrpc": "2.0", "method": "run.fly", "id": null}', -32601, None),
        ('{"jsonrpc": "2.0", "method": "run.fly", "id": 1.5}', -32601, 1.5),
        ('{"jsonrpc": "2.0", "method": "run.renew", "id": 1}', -32601, 1),
        ('{"jsonrpc": "2.0", "method": "run.pause", "params": {"run": 7}, "id": 2}', -32602, 2),
        ('{"jsonrpc": "2.0", "method": "run.pause", "params": {"run": "a}b"}, "id": 2}', -32001, 2),
        ('{"jsonrpc": "2.0", "method": "run.pause", "params": {"run": "nobody"}, "id": 2}', -32001, 2),
        ('{"jsonrpc": "2.0", "method": "run.pause", "id": 2}', -32001, 2),
        (b"binary", -32700, None),
        (b"", -32700, None),
    ],
)
async def test_what_is_wrong_is_answered_with_its_code(server, sent, code, call_id):
    async with connected(server) as debugger:
        await (debugger.ws.send_bytes(sent) if isinstance(sent, bytes) else debugger.ws.send_str(sent))
        answer = await debugger.receive()
        assert answer.keys() - {"result"} == {"jsonrpc", "error", "id"}
        assert (answer["jsonrpc"], answer["id"], answer["error"]["code"]) == ("2.0", call_id, code)
        assert answer["error"]["message"]
        assert answer["error"]["data"]["path"].startswith("$")
        assert (await debugger.call("ping"))["result"] == "pong"


async def test_a_batch_is_answered_in_one_message_without_its_notifications(server):
    batch = [
        {"jsonrpc": "2.0", "method": "ping", "id": "1"},
        {"jsonrpc": "2.0", "method": "run.fly"},
        1,
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "run.list", "id": "9"},
    ]
    async with connected(server) as debugger:
        answers = await debugger.exchange(batch)
        errors = [answer.get("error", {}).get("code") for answer in answers]
        assert [answer["id"] for answer in answers] == ["1", None, None, "9"]
        assert errors == [None, -32600, -32600, None]
        assert answers[1]["error"]["data"] == {"path": "$[2]"}
        assert answers[2]["error"]["data"] == {"path": "$[3].jsonrpc"}
        assert answers[3]["result"] == []
        assert (await debugger.exchange([1]))[0]["error"]["code"] == -32600
        assert (await debugger.exchange([batch[0]] * 101))["error"]["code"] == -32600
        await debugger.send([{"jsonrpc": "2.0", "method": "run.list"}] * 2)
        await debugger.send({"jsonrpc": "2.0", "method": "run.fly", "params": {}})
        await debugger.send({"jsonrpc": "2.0", "method": "pong"})
        assert (await debugger.call("ping", call_id="next"))["id"] == "next", "notifications are not answered"


EXAMPLES = [
    # JSON-RPC 2.0, section 7, with our methods: what is sent, and what must come back; None: nothing.
    ("positional", '{"jsonrpc": "2.0", "method": "run.setBreakpoints", "params": [{"where": "n == 90"}], "id": 1}',
     {"result": 0, "id": 1}),
    ("positional", '{"jsonrpc": "2.0", "method": "run.setBreakpoints", "params": [], "id": 2}',
     {"result": 0, "id": 2}),
    ("named", '{"jsonrpc": "2.0", "method": "run.step", "params": {"run": "run-1", "events": 2}, "id": 3}',
     {"result": 2, "id": 3}),
    ("named", '{"jsonrpc": "2.0", "method": "run.step", "params": {"events": 2, "run": "run-1"}, "id": 4}',
     {"result": 4, "id": 4}),
    ("notification", '{"jsonrpc": "2.0", "method": "run.step", "params": {"events": 5}}', None),
    ("notification", '{"jsonrpc": "2.0", "method": "run.state"}', None),
    ("no such method", '{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', {"error": -32601, "id": "1"}),
    ("invalid JSON", '{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', {"error": -32700, "id": None}),
    ("invalid request", '{"jsonrpc": "2.0", "method": 1, "params": "bar"}', {"error": -32600, "id": None}),
    ("batch, invalid JSON",
     '[{"jsonrpc": "2.0", "method": "run.step", "params": {"events": 1}, "id": "1"}, {"jsonrpc": "2.0", "method"]',
     {"error": -32700, "id": None}),
    ("empty batch", "[]", {"error": -32600, "id": None}),
    ("invalid batch, not empty", "[1]", [{"error": -32600, "id": None}]),
    ("invalid batch", "[1,2,3]", [{"error": -32600, "id": None}] * 3),
    ("batch",
     """[{"jsonrpc": "2.0", "method": "run.step", "params": {"events": 1}, "id": "1"},
         {"jsonrpc": "2.0", "method": "ping", "params": [7]},
         {"jsonrpc": "2.0", "method": "pong", "id": "2"},
         {"foo": "boo"},
         {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
         {"jsonrpc": "2.0", "method": "ping", "id": "9"}]""",
     [{"result": 10, "id": "1"}, {"result": "pong", "id": "2"}, {"error": -32600, "id": None},
      {"error": -32601, "id": "5"}, {"result": "pong", "id": "9"}]),
    ("batch of notifications",
     """[{"jsonrpc": "2.0", "method": "ping", "params": [1,2,4]},
         {"jsonrpc": "2.0", "method": "run.step", "params": {"events": 1}}]""", None),
]  # fmt: skip


async def test_the_examples_of_the_specification_are_answered_as_it_says(server):
    """Each in turn on one run, whose count of events shows that notifications are done, too."""

    def short(answer):
        assert answer.keys() - {"result", "error"} == {"jsonrpc", "id"}
        assert ("result" in answer) != ("error" in answer)
        if "error" in answer:
            assert answer["error"].keys() <= {"code", "message", "data"}
            return {"error": answer["error"]["code"], "id": answer["id"]}
        result = answer["result"]
        return {"result": result["published"] if isinstance(result, dict) else result, "id": answer["id"]}

    async with steered(ticks(100), broker=server.broker), connected(server) as debugger:
        for what, sent, expected in EXAMPLES:
            if expected is None:
                await debugger.send(sent)
                answer = await debugger.call("ping", call_id="after it")
                assert answer == {"jsonrpc": "2.0", "result": "pong", "id": "after it"}, what
            else:
                answer = await debugger.exchange(sent)
                assert type(answer) is type(expected), what
                found = [short(one) for one in answer] if isinstance(answer, list) else short(answer)
                assert found == expected, what
        while (state := (await debugger.call("run.attach"))["result"])["state"] != "paused":
            pass
        assert state["published"] == 11, "the last notification was a step"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**4_000), 10**4_000)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["run-1", "run", "project", "pipeline_failed", "n > 3", "max", "$"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
named = (
    "run",
    "events",
    "speed",
    "entity",
    "breakpoints",
    "type",
    "where",
    "fault",
    "event",
    "kind",
    "minutes",
    "data",
)
params = st.dictionaries(
    st.sampled_from(named),
    json_values
    | st.lists(st.dictionaries(st.sampled_from(named), json_values, max_size=3), max_size=3)
    | st.dictionaries(st.sampled_from(named), json_values, max_size=3),
    max_size=4,
)
calls = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | json_values,
        "method": st.sampled_from(["run.list", "ping", "run.state", *debug.METHODS]) | json_values,
        "params": params | json_values,
        "id": json_values,
    },
)
frames = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=200),
    (calls | json_values | st.lists(calls, max_size=5)).map(json.dumps),
    st.integers(1, 30_000).map(lambda deep: "[" * deep + "]" * deep),
    st.integers(1, 10_000).map(lambda deep: '{"a":' * deep + "1" + "}" * deep),
    st.integers(1, 60_000).map(lambda digits: f'{{"jsonrpc":"2.0","method":"ping","id":{"9" * digits}}}'),
    st.integers(1, 60_000).map(lambda size: f'{{"jsonrpc":"2.0","method":"ping","id":"{"x" * size}"}}'),
)


async def test_whatever_comes_is_answered_with_code_and_path_and_no_task_stays(server, monkeypatch):
    monkeypatch.setattr(socket, "BURST", 1e9)
    async with steered(ticks(100), broker=server.broker), connected(server) as debugger:
        loop = asyncio.get_running_loop()
        await debugger.call("run.attach")
        settled = len(asyncio.all_tasks())
        expected = answered = 0  # answers to what is no call

        async def hear():
            """The next message, or None for the answer to our ping. What is wrong is said with its path."""
            nonlocal answered
            answer = await debugger.receive()
            if isinstance(answer, dict) and answer.get("id") == "still there":
                return None
            for one in answer if isinstance(answer, list) else [answer]:
                assert one["jsonrpc"] == "2.0"
                assert "method" in one or ("result" in one) != ("error" in one)
                if "error" in one and one["error"]["code"] != jsonrpc.REFUSED:
                    assert one["error"]["data"]["path"].startswith("$")
                if "error" in one and one["error"]["code"] in (jsonrpc.PARSE_ERROR, jsonrpc.INVALID_REQUEST):
                    answered += 1
            return answer

        async def try_out(frame):
            nonlocal expected
            before = answered
            await (debugger.ws.send_bytes if isinstance(frame, bytes) else debugger.ws.send_str)(frame)
            await debugger.send({"jsonrpc": "2.0", "method": "ping", "id": "still there"})
            calls, _ = jsonrpc.decode("" if isinstance(frame, bytes) else frame)  # nothing of ours is binary
            wrong = sum(not isinstance(call, jsonrpc.Call) for call in calls)
            expected += wrong
            while await hear() is not None:
                pass
            assert answered - before >= wrong or wrong < len(calls), "each is answered"

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(frames)
        def fuzz(frame):
            asyncio.run_coroutine_threadsafe(try_out(frame), loop).result(TIMEOUT_S)

        await asyncio.to_thread(fuzz)
        async with asyncio.timeout(TIMEOUT_S):
            while answered < expected:  # a batch is answered together with what the run says, which may take a while
                await hear()
            await debugger.send({"jsonrpc": "2.0", "method": "ping", "id": "still there"})
            while await hear() is not None:
                pass
            assert answered == expected, "each is answered once"
            while len(asyncio.all_tasks()) > settled:
                await asyncio.sleep(0.01)


# ---- runs ---------------------------------------------------------------------------------------------------------


async def test_the_runs_of_a_project_are_listed_with_their_state_and_no_others(server):
    async with (
        steered(demo(), broker=server.broker, run="sim-1", name="demo"),
        steered(ticks(9), broker=server.broker, run="ticks-1"),
        steered(ticks(9), broker=server.broker, run="elsewhere", projects=("zeus",)),
        connected(server) as debugger,
    ):
        await server.broker.claim(project_channel("apollo"), "silent", 60)
        await server.broker.claim(project_channel("apollo"), "not a name", 60)
        runs = {run["run"]: run for run in (await debugger.call("run.list"))["result"]}
        assert runs.keys() == {"sim-1", "ticks-1", "silent"}
        assert (runs["silent"]["state"], runs["silent"]["project"]) == ("unknown", "apollo")
        assert (runs["sim-1"]["state"], runs["sim-1"]["name"]) == ("paused", "demo")
        assert runs["sim-1"]["simulation"].startswith("sim-")
        assert runs["ticks-1"]["simulation"] is None
        answer = await debugger.call("run.pause", {"run": "elsewhere"})
        assert answer["error"]["code"] == -32001
        answer = await debugger.call("run.attach")
        assert (answer["error"]["code"], answer["error"]["data"]) == (-32602, {"path": "$.params.run"})
        assert "silent, sim-1, ticks-1" in answer["error"]["message"]


async def test_a_socket_is_attached_to_so_many_runs_and_to_those_it_has_as_before(server, monkeypatch):
    monkeypatch.setattr(debug, "MAX_ATTACHED", 1)
    async with (
        steered(ticks(9), broker=server.broker, run="one"),
        steered(ticks(9), broker=server.broker, run="two"),
        connected(server) as debugger,
    ):
        assert (await debugger.call("run.attach", {"run": "one"}))["result"]["run"] == "one"
        refused = (await debugger.call("run.attach", {"run": "two"}))["error"]
        assert (refused["code"], "at most 1 runs" in refused["message"]) == (-32000, True)
        assert (await debugger.call("run.pause", {"run": "one"}))["result"]["run"] == "one"


async def test_a_run_is_steered_and_two_debuggers_are_told_the_same(server):
    async with (
        steered(demo(), broker=server.broker, run="sim-1") as run,
        connected(server) as one,
        connected(server) as two,
    ):
        assert (await two.call("run.attach", {"run": "sim-1"}))["result"]["state"] == "paused"
        answer = await one.call("run.step", {"events": 10})
        assert answer["result"]["published"] == len(await run.log()) == 10
        assert (await one.call("run.setBreakpoints", [{"type": "pipeline_failed"}]))["result"]["breakpoints"]
        assert (await one.call("run.setSpeed", {"speed": "max"}))["result"]["speed"] == "max"
        assert (await one.call("run.resume"))["result"]["state"] == "playing"

        def stopped(method, state):
            return method == "run.stopped" and state["stopped"]["reason"] == "breakpoint"

        first, second = await one.told(stopped), await two.told(stopped)
        assert first == second
        assert [notice for notice in one.notices if notice in two.notices] == two.notices
        inspected = (await two.call("run.inspect", {"entity": "project"}))["result"]
        assert inspected["published"] == first["params"]["published"]
        assert (await two.call("run.inject", {"fault": {"kind": "ci_outage", "minutes": 5}}))["result"]
        assert (await one.call("run.step", {"events": 3}))["result"]
        assert "fault_started" in [event.type for event in (await run.log())[-3:]]
        answer = await one.call("run.setBreakpoints", [{"where": "a ="}])
        assert answer["error"]["code"] == -32602
        assert answer["error"]["data"] == {"path": "$.params.breakpoints[0]"}


async def test_a_step_under_way_does_not_hold_up_what_comes_after_it(server):
    async with steered(ticks(100_000), broker=server.broker), connected(server) as debugger:
        await debugger.send({"jsonrpc": "2.0", "method": "run.step", "params": {"events": 100_000}, "id": "step"})
        await debugger.send({"jsonrpc": "2.0", "method": "run.pause", "id": "pause"})
        answers = {}
        while len(answers) < 2:
            message = await debugger.receive()
            if "id" in message:
                answers[message["id"]] = message["result"]
        assert answers["step"] == answers["pause"]
        assert answers["pause"]["state"] == "paused"
        assert answers["pause"]["published"] < 100_000


async def test_a_run_that_ends_without_an_answer_is_said_to_have_ended(server, monkeypatch):
    monkeypatch.setattr(debug, "ANSWER_S", 0.2)
    await server.broker.claim(project_channel("apollo"), "silent", 60)
    async with connected(server) as debugger:
        assert (await debugger.call("run.pause"))["error"]["code"] == -32002
        await server.broker.release(project_channel("apollo"), "silent")
        answer = await debugger.call("run.pause")
        assert (answer["error"]["code"], "has ended" in answer["error"]["message"]) == (-32001, True)


async def test_a_request_that_no_event_can_carry_is_refused(server):
    async with steered(ticks(9), broker=server.broker), connected(server) as debugger:
        for value in ("x" * 65_300, [[]]):
            for _ in range(70 if value == [[]] else 0):
                value = [value]  # noqa: PLW2901 - deeper and deeper
            answer = await debugger.call("run.inspect", {"entity": value})
            assert answer["error"]["code"] == -32602


async def test_what_others_write_into_a_control_channel_reaches_nobody(server):
    async with steered(ticks(9), broker=server.broker) as run, connected(server) as debugger:
        await debugger.call("run.attach")
        foreign = event(1, "zeus", "control_notice", {"method": "run.state"})
        entries = [b"7", b"\xff", b'{"type":"control_notice"}', foreign.encode()]
        entries += [event(2, "apollo", "control_answer", {"id": 7}).encode()]
        await server.broker.publish(control_channel("run-1"), entries)
        run.player.resume()
        await debugger.told(lambda _, state: state["state"] == "playing")
        assert len(debugger.notices) == 1


async def test_whoever_is_attached_holds_the_lease_and_nobody_else(server, monkeypatch):
    monkeypatch.setattr(steering, "RENEW_S", 0.01)

    async def renewals():
        entries = (await server.broker.read(control_channel("run-1"), 0, 1_000)).entries
        return sum(b'"run.renew"' in entry for entry in entries)

    async with steered(ticks(9), broker=server.broker):
        async with connected(server) as watching:
            await watching.call("run.list")
            async with connected(server) as debugger:
                await debugger.call("run.attach")
                while await renewals() < 5:
                    await asyncio.sleep(0.01)
            links = server.app.extensions["syndarix_rt_links"]
            while links._links:
                await asyncio.sleep(0.01)
            before = await renewals()
            await watching.call("run.list")
            assert await renewals() == before


# ---- coming in ----------------------------------------------------------------------------------------------------


async def refused(server, project="apollo", **options):
    """Status and problem of a refused upgrade."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with connected(server, project, **options):
            pytest.fail("accepted")
    return caught.value.status


async def test_a_page_of_another_site_is_refused_before_the_upgrade():
    async with running(token="s3cret", cors_origins=("https://site.example",)) as server:
        key = {"authorization": "Bearer s3cret"}
        assert await refused(server, headers={"origin": "https://evil.example"}) == 403
        assert await refused(server, headers=key | {"origin": "https://evil.example"}) == 403
        assert await refused(server, headers=key | {"host": "evil.example"}) == 403
        for origin in (server.url, "https://site.example"):
            async with connected(server, headers=key | {"origin": origin}) as debugger:
                assert (await debugger.call("ping"))["result"] == "pong"
    async with running() as server:
        assert await refused(server, headers={"origin": "https://evil.example"}) == 403


async def test_without_the_key_it_is_closed_with_4401_and_a_cookie_needs_an_origin():
    async with running(token="s3cret") as server:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"origin": server.url}):
            async with connected(server, headers=headers) as debugger:
                assert (await debugger.closed())[0] == 4401
        for url in ("/projects/apollo/debug?key=s3cret",):
            async with server.http.ws_connect(server.url + url, protocols=(PROTOCOL,)) as ws:
                assert (await Debugger(ws).call("ping"))["result"] == "pong"
        async with server.http.get(server.url + "/?key=s3cret"):  # leaves the cookie in the session
            pass
        cookies = server.http.cookie_jar.filter_cookies(server.url)
        cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())
        if cookie:
            assert await refused(server, headers={"cookie": cookie}) == 403
            async with connected(server, headers={"cookie": cookie, "origin": server.url}) as debugger:
                assert (await debugger.call("ping"))["result"] == "pong"


async def test_a_token_that_does_not_reach_so_far_is_closed_with_4403():
    key = "k" * 48
    async with running(token=key) as server:
        for right, code in (("debug:apollo", 0), ("debug:zeus", 4403), ("chat:apollo", 4403)):
            headers = {"authorization": f"Bearer {issue(key, [right], name='ana', life_s=60)}"}
            async with connected(server, headers=headers) as debugger:
                if code:
                    assert (await debugger.closed())[0] == code
                else:
                    assert (await debugger.call("ping"))["result"] == "pong"
                    await debugger.ws.close(code=1000)
                    assert debugger.ws.close_code == 1000


async def test_an_unknown_project_and_another_protocol(server):
    async with connected(server, "no.name") as debugger:
        assert (await debugger.closed())[0] == 4404
    assert await refused(server, protocols=("other.v1",)) == 400
    assert await refused(server, protocols=()) == 400
    async with connected(server) as debugger:
        assert debugger.ws.protocol == PROTOCOL


# ---- how it ends --------------------------------------------------------------------------------------------------


async def test_a_message_that_is_too_large_ends_it_with_1009(server):
    for size, sign in ((64 * 1024 + 1, "x"), (40 * 1024, "é")):
        async with connected(server) as debugger:
            await debugger.send(sign * size)
            assert (await debugger.closed())[0] == 1009
    async with connected(server) as debugger:
        assert (await debugger.exchange("x" * 64 * 1024))["error"]["code"] == -32700


async def test_a_flood_is_cut_with_1008_while_the_others_are_answered(server):
    async with connected(server) as calm, connected(server) as flooding:

        async def flood():
            for _ in range(5_000):
                await flooding.ws.send_str('{"jsonrpc":"2.0","method":"ping","id":1}')

        task = asyncio.create_task(flood())
        assert (await flooding.closed())[0] == 1008
        await asyncio.wait({task})
        assert task.exception() is None or isinstance(task.exception(), ConnectionError | aiohttp.ClientError)
        assert (await calm.call("ping"))["result"] == "pong"


async def test_too_many_questions_without_an_answer_end_it(server):
    await server.broker.claim(project_channel("apollo"), "silent", 60)
    async with connected(server) as debugger:
        for n in range(70):
            await debugger.send({"jsonrpc": "2.0", "method": "run.pause", "id": n})
        assert (await debugger.closed())[0] == 1008


async def test_who_gives_no_sign_of_life_is_closed_and_who_does_is_not():
    async with running(ping_s=0.6) as server, connected(server) as silent, connected(server) as alive:
        ended = asyncio.create_task(silent.closed())
        pings = 0
        while not ended.done() or pings < 3:
            message = await alive.receive()
            assert message == {"jsonrpc": "2.0", "method": "ping", "params": {}}
            pings += 1
            await alive.send({"jsonrpc": "2.0", "method": "pong"})
        assert (await ended)[0] == 1008
        await alive.send({"jsonrpc": "2.0", "method": "ping", "id": 1})


async def test_a_server_that_ends_says_so_with_1012():
    async with running() as server, connected(server) as debugger:
        await debugger.call("ping")
        stopping = asyncio.create_task(server.stop())
        assert (await debugger.closed())[0] == 1012
        await stopping


async def test_a_client_that_leaves_leaves_nothing_behind(server):
    async with steered(ticks(9), broker=server.broker):
        for _ in range(5):
            async with connected(server) as debugger:
                await debugger.call("run.attach")
                debugger.ws._response.connection.transport.abort()
        links = server.app.extensions["syndarix_rt_links"]
        while links._links or server.hub._sockets:
            await asyncio.sleep(0.01)


# ---- a run that publishes over HTTP -------------------------------------------------------------------------------


async def test_only_answers_and_notices_come_into_a_control_channel_over_http(server):
    path = "/projects/apollo/runs/run-1/control"
    for kind, status in (("control_answer", 202), ("control_notice", 202), ("control_request", 403), ("my_event", 403)):
        body = event(1, type=kind, data={"id": "x"}).encode()
        assert (await server.post(path, body))[0] == status
    assert (await server.post(path, event(1, "zeus", "control_answer").encode()))[0] == 400
    assert (await server.post("/projects/apollo/runs/a}b/control", event(1).encode()))[0] == 400
    assert (await server.get("/projects/apollo/runs/a}b/control"))[0] == 400
    assert (await server.broker.position(control_channel("run-1"))).last == 2
    assert (await server.get("/projects"))[2] == {"projects": []}


async def test_what_a_run_is_asked_comes_as_an_event_stream_with_resume(server):
    for n in range(1, 4):
        entry = event(n, type="control_request", data={"jsonrpc": "2.0", "method": "run.pause", "id": str(n)}).encode()
        await server.broker.publish(control_channel("run-1"), [entry])
    url = f"{server.url}/projects/apollo/runs/run-1/control"
    epoch = (await server.broker.position(control_channel("run-1"))).epoch
    async with server.http.get(url, headers={"last-event-id": f"{epoch}.1"}) as response:
        assert response.content_type == "text/event-stream"
        text = b""
        while text.count(b"event: control_request") < 2:
            text += await response.content.readany()
    assert b'"id":"1"' not in text
    assert msgspec.json.decode(text.split(b"data: ")[-1].split(b"\n")[0])["data"]["id"] == "3"


async def test_a_control_channel_is_for_those_who_may_publish():
    async with running(token="s3cret") as server:
        path = "/projects/apollo/runs/run-1/control"
        assert (await server.get(path))[0] == 401
        assert (await server.post(path, event(1, type="control_answer").encode()))[0] == 401
