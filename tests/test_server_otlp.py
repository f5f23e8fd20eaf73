"""Real agents by OpenTelemetry: the official SDK, instrumentations of a client library, requests of all kinds."""

from __future__ import annotations

import asyncio
import builtins
import gzip
import io
import json
import os
import re
import subprocess
import sys
import textwrap
from urllib.parse import quote

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from scripted_server import ScriptedServer, answer
from serving import TIMEOUT_S, running

from syndarix_rt import validate
from syndarix_rt.adapters.otlp import MAX_BYTES
from syndarix_rt.errors import BrokerUnavailable
from syndarix_rt.events import Event
from syndarix_rt.server.tokens import issue

PROTOBUF, JSON = "application/x-protobuf", "application/json"
KEY = "k" * 48
T0 = 1_790_000_000 * 10**9


async def stored(server, project="apollo"):
    events, after = [], 0
    while entries := (await server.broker.read(f"project:{{{project}}}", after, 1_000)).entries:
        events += [Event.decode(entry) for entry in entries]
        after += len(entries)
    return events


def export(count=3, *, trace=1, service="my-agent", operation="chat", tokens=10, **changes):
    """An export request with ``count`` spans, the last one around the others, as protobuf."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    if service:
        attribute = resource.resource.attributes.add(key="service.name")
        attribute.value.string_value = service
    spans = resource.scope_spans.add().spans
    for number in range(1, count + 1):
        is_root = number == count
        span = spans.add(
            trace_id=trace.to_bytes(16), span_id=(trace << 32 | number).to_bytes(8), name="call", flags=0x100 | 1,
            start_time_unix_nano=T0 + number, end_time_unix_nano=T0 + 10**9 + number,
        )  # fmt: skip
        if not is_root:
            span.parent_span_id = (trace << 32 | count).to_bytes(8)
        span.attributes.add(key="gen_ai.operation.name").value.string_value = "invoke_agent" if is_root else operation
        if not is_root:
            span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = tokens
        for name, value in changes.items():
            setattr(span, name, value)
    return request.SerializeToString()


async def sent(server, body, kind=PROTOBUF, **headers):
    """Status, headers and raw body of the answer."""
    headers = {"content-type": kind, "syndarix-project": "apollo"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    headers = {name: value for name, value in headers.items() if value is not None}
    async with server.http.post(f"{server.url}/v1/traces", data=io.BytesIO(body), headers=headers) as response:
        return response.status, response.headers, await response.read()


def message(body):
    """Of a ``google.rpc.Status``, whose second field it is."""
    assert body[0] == 0x12
    return body[2:].decode() if body[1] < 0x80 else body[3:].decode()


async def program(source, server, **variables):
    """Run a script as its author would, with nothing but variables of the environment; what it printed."""
    ours = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{quote(KEY)},syndarix-project=apollo",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(source),
        env=os.environ | ours | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    assert (process.returncode, err.decode()) == (0, "")
    return out.decode()


# ---- real agents ----------------------------------------------------------------------------------------------------

SDK_AGENT = """
    import time
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "coder"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracer = provider.get_tracer("agent")
    with tracer.start_as_current_span("invoke_agent Coder") as agent:
        agent.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "Coder"})
        for number in range(20):
            with tracer.start_as_current_span("chat gpt-5") as call:
                call.set_attributes({
                    "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5",
                    "gen_ai.usage.input_tokens": 1000 + number, "gen_ai.usage.output_tokens": number,
                })
            with tracer.start_as_current_span("execute_tool shell") as tool:
                tool.set_attributes({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "shell"})
        with tracer.start_as_current_span("GET /"):
            pass
        if FLUSH:
            provider.force_flush()
        with tracer.start_as_current_span("chat gpt-5") as call:
            call.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7})
    provider.shutdown()
"""


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("flush", [False, True])
async def test_a_script_with_the_official_sdk_is_seen_as_a_run(compression, flush):
    async with running(token=KEY) as server:
        await program(SDK_AGENT.replace("FLUSH", str(flush)), server, OTEL_EXPORTER_OTLP_COMPRESSION=compression)
        events = await stored(server)
        _, _, metrics = await server.get("/metrics", headers={"authorization": f"Bearer {KEY}"})
    assert str(validate(events)) == "43 events, 0 violations"
    ended = events[-1]
    assert ended.type == "agent_completed"
    assert events[0].data.get("joined", False) is flush
    assert {
        "llm_calls": 21,
        "tool_calls": 20,
        "input_tokens": 20_197,
        "output_tokens": 190,
    }.items() <= ended.data.items()
    assert 'syndarix_rt_otlp_spans_total{outcome="mapped"} 42.0' in metrics
    assert 'syndarix_rt_otlp_spans_total{outcome="other"} 1.0' in metrics


class Provider:
    """Speaks the API of a model's provider, and remembers what it reported."""

    def __init__(self):
        self.usages = []

    async def serve(self, exchange):
        number = len(self.usages) + 1
        asked = json.loads(exchange.body)
        if asked["messages"][-1]["content"] == "fail":
            body = b'{"error":{"message":"overloaded","type":"server_error"}}'
            return await exchange.send(answer("400 Bad Request", body, content_type=JSON))
        usage = {
            "prompt_tokens": 1_000 * number, "completion_tokens": 7 * number, "total_tokens": 1_007 * number,
            "prompt_tokens_details": {"cached_tokens": 900 * number},
        }  # fmt: skip
        self.usages.append(usage)
        if number == 1:
            call = {"id": "call_1", "type": "function", "function": {"name": "shell", "arguments": "{}"}}
            reply, reason = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
        else:
            reply, reason = {"role": "assistant", "content": "done"}, "stop"
        document = {
            "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1_790_000_000,
            "model": f"{asked['model']}-2026-10-01",
            "choices": [{"index": 0, "message": reply, "finish_reason": reason}], "usage": usage,
        }  # fmt: skip
        return await exchange.send(answer("200 OK", json.dumps(document).encode(), content_type=JSON))


INSTRUMENTED_AGENT = """
    import os
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    INSTRUMENT

    import openai

    client = openai.OpenAI(base_url=os.environ["PROVIDER"], api_key="none", max_retries=0)
    with trace.get_tracer("agent").start_as_current_span("work on an issue"):
        for question in ("what is there?", "and now?", "fail"):
            messages = [{"role": "user", "content": question}]
            try:
                client.chat.completions.create(model="gpt-5", messages=messages)
            except openai.APIError:
                pass
    provider.shutdown()
"""


@pytest.mark.parametrize(
    ("instrument", "model"),
    [
        ("from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor", "gpt-5"),
        ("from openinference.instrumentation.openai import OpenAIInstrumentor", "gpt-5-2026-10-01"),
    ],
    ids=["opentelemetry", "openinference"],
)
async def test_an_instrumented_client_library_is_seen_with_the_providers_tokens(instrument, model):
    provider = Provider()
    source = INSTRUMENTED_AGENT.replace("INSTRUMENT", f"{instrument}; OpenAIInstrumentor().instrument()")
    async with running(token=KEY) as server, ScriptedServer(provider.serve) as endpoint:
        await program(source, server, PROVIDER=f"{endpoint.url}/v1", OTEL_SERVICE_NAME="coder")
        events = await stored(server)
    assert str(validate(events)) == "5 events, 0 violations"
    started, first, second, failed, ended = events
    assert started.data["role"] == "coder"
    for event, usage in zip((first, second), provider.usages, strict=True):
        assert event.data["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
        assert event.data["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
        assert event.data["cached_tokens"] == usage["prompt_tokens_details"]["cached_tokens"]
        assert event.data["gen_ai.request.model"] == model
        assert 0 < event.data["duration_s"] < TIMEOUT_S
    assert failed.data["status"] == "error"
    assert "what is there?" not in b"".join(event.raw for event in events).decode()
    assert ended.data["input_tokens"] == sum(usage["prompt_tokens"] for usage in provider.usages)
    assert ended.data["output_tokens"] == sum(usage["completion_tokens"] for usage in provider.usages)


# ---- requests -------------------------------------------------------------------------------------------------------


async def test_answers_are_in_the_encoding_of_the_request():
    async with running() as server:
        status, headers, body = await sent(server, export())
        assert (status, headers["content-type"]) == (200, PROTOBUF)
        assert ExportTraceServiceResponse.FromString(body) == ExportTraceServiceResponse()
        status, headers, body = await sent(server, b"{}", JSON)
        assert (status, headers["content-type"], body) == (200, JSON, b"{}")
        assert len(await stored(server)) == 4


async def test_a_part_that_is_rejected_is_told_as_the_specification_has_it():
    async with running() as server:
        body = export() + export(trace=2, trace_id=b"short")
        status, _, answered = await sent(server, body)
        assert status == 200
        told = ExportTraceServiceResponse.FromString(answered).partial_success
        assert (told.rejected_spans, told.error_message) == (3, "a trace id or span id is none")
        assert len(await stored(server)) == 4
        raw = {"resourceSpans": [{"scopeSpans": [{"spans": [{}]}]}]}
        status, _, answered = await sent(server, json.dumps(raw).encode(), JSON)
        assert json.loads(answered)["partialSuccess"]["rejectedSpans"] == "1"


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (export()[:-3], {}, 400, "no ExportTraceServiceRequest"),
        (b"\xff" * 100, {}, 400, "no ExportTraceServiceRequest"),
        (gzip.compress(export())[:-9], {"content_encoding": "gzip"}, 400, "cut"),
        (b"plain", {"content_encoding": "gzip"}, 400, "no gzip"),
        (gzip.compress(bytes(MAX_BYTES + 1)), {"content_encoding": "gzip"}, 413, "unpacks to more than"),
        (bytes(5 * 1024 * 1024), {}, 413, "OTEL_EXPORTER_OTLP_COMPRESSION"),
        (export(10_001), {}, 413, "spans in one request"),
        (export(), {"content_encoding": "br"}, 415, "gzip, identity"),
        (export(), {"syndarix_project": "a b"}, 400, "no project name"),
        (export(), {"kind": "text/plain"}, 415, "application/x-protobuf"),
    ],
)
async def test_a_wrong_body_gets_the_right_status_and_harms_nothing(body, headers, status, says):
    async with running() as server:
        got, reply, answered = await sent(server, body, **headers)
        assert got == status
        assert says in message(answered)
        assert reply["content-type"] == PROTOBUF
        assert await stored(server) == []
        assert (await sent(server, export()))[0] == 200  # it goes on


async def test_a_json_error_is_json():
    async with running() as server:
        status, _, answered = await sent(server, b"{", JSON)
        assert status == 400
        assert "no ExportTraceServiceRequest" in json.loads(answered)["message"]


async def test_the_project_is_the_headers_or_else_the_resources():
    async with running() as server:
        await sent(server, export(trace=1), syndarix_project="zeus")
        await sent(server, export(trace=2), syndarix_project=None)
        await sent(server, export(trace=3, service=""), syndarix_project=None)
        for project in ("zeus", "my-agent", "agents"):
            assert len(await stored(server, project)) == 4


async def test_a_token_for_one_project_needs_the_header_with_its_name():
    async with running(token=KEY) as server:
        bearer = {"authorization": f"Bearer {issue(KEY, ['publish:apollo'], name='Ada', life_s=60)}"}
        assert (await sent(server, export(), **bearer))[0] == 200
        assert (await sent(server, export(trace=2), **bearer, syndarix_project="zeus"))[0] == 403
        assert (await sent(server, export(trace=3), **bearer, syndarix_project=None))[0] == 403
        assert await stored(server, "zeus") == []
        assert await stored(server, "my-agent") == []


async def test_a_request_that_comes_again_adds_nothing():
    async with running() as server:
        for _ in range(2):
            assert (await sent(server, export()))[0] == 200
        packed = gzip.compress(export())
        assert (await sent(server, packed, content_encoding="gzip"))[0] == 200
        assert len(await stored(server)) == 4


async def test_a_server_that_was_restarted_goes_on_with_a_run():
    async with running() as first:
        half = export(operation="chat", count=3)
        request = ExportTraceServiceRequest.FromString(half)
        spans = request.resource_spans[0].scope_spans[0].spans
        root = spans.pop()
        await sent(first, request.SerializeToString())
        async with running(first.broker) as second:
            del spans[:]
            spans.append(root)
            await sent(second, request.SerializeToString())
            events = await stored(second)
    assert [event.type for event in events] == ["agent_started", *["agent_activity"] * 2, "agent_completed"]
    assert "llm_calls" not in events[-1].data  # the second one knows that it does not know
    assert validate(events).ok


class Away:
    """A broker that fails at some publications, before or after they are stored; else it is the other one."""

    def __init__(self, broker, fails_at, *, stores):
        self._broker = broker
        self._fails_at = fails_at
        self._stores = stores
        self._count = 0

    def __getattr__(self, name):
        return getattr(self._broker, name)

    async def publish(self, *args, **kwargs):
        self._count += 1
        fails = self._count in self._fails_at
        if self._stores or not fails:
            done = await self._broker.publish(*args, **kwargs)
        if fails:
            raise BrokerUnavailable("the reply was lost")
        return done


@pytest.mark.parametrize("fails_at", [{1}, {2}, {1, 2}, {1, 3}])
@pytest.mark.parametrize("stores", [True, False])
async def test_while_the_broker_is_away_the_exporter_is_told_to_come_again(fails_at, stores):
    async with running() as plain, running(Away(plain.broker, fails_at, stores=stores)) as server:
        for _ in fails_at:
            status, headers, answered = await sent(server, export())
            assert (status, headers["retry-after"]) == (503, "2")
            assert "send it again" in message(answered)
        assert (await sent(server, export()))[0] == 200
        events = await stored(server)
        async with server.http.get(server.url + "/metrics") as response:
            figures = await response.text()
    assert [event.type for event in events] == ["agent_started", *["agent_activity"] * 2, "agent_completed"]
    assert validate(events).ok
    assert re.findall(r'otlp_spans_total{outcome="(mapped|duplicate)"} (\d+)', figures) == [
        ("mapped", "3"),
        ("duplicate", "0"),
    ], "each once"


async def test_without_the_extra_protobuf_is_refused_with_what_to_do(monkeypatch):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    async with running() as server:
        monkeypatch.setattr(builtins, "__import__", without)
        status, _, answered = await sent(server, export())
        assert status == 501
        assert "pip install 'syndarix-rt[agents]'; or set OTEL_EXPORTER_OTLP_PROTOCOL" in message(answered)
        assert (await sent(server, b"{}", JSON))[0] == 200


@pytest.mark.parametrize("header", [True, False])
async def test_too_many_new_projects_are_refused_whole_and_may_come_again(header):
    async with running(new_projects_per_h=1) as server:
        names = ("one", "two", "three")
        if header:
            bodies = [(export(), {"syndarix_project": name}) for name in names]
        else:
            whole = ExportTraceServiceRequest()
            for number, name in enumerate(names, 1):
                whole.MergeFromString(export(trace=number, service=name))
            bodies = [
                (export(service="one"), {"syndarix_project": None}),
                (whole.SerializeToString(), {"syndarix_project": None}),
            ]
        (first, named), *others = bodies
        assert (await sent(server, first, **named))[0] == 200
        known = {*server.broker._channels}
        for body, named in others:
            status, headers, answer = await sent(server, body, **named)
            assert status == 429, "which exporters send again"
            assert int(headers["retry-after"]) >= 1
            assert message(answer).startswith("This client has too many new projects")
        assert {*server.broker._channels} == known, "nothing of it is there, not even of the project that was known"
        assert await server.broker.projects() == ["one"]
        assert len(await stored(server, "one")) == 4
