"""Spans as events: which are understood, in what order they may come, and what is counted."""

from __future__ import annotations

import gzip
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import syndarix_rt.adapters.traces
from syndarix_rt import validate
from syndarix_rt.adapters.genai import KNOWN, RESOURCE_KNOWN, read_span
from syndarix_rt.adapters.otlp import MAX_BYTES, BadRequest, Span, TooLarge, read_request, unpacked
from syndarix_rt.adapters.traces import Traces, by_trace

T0 = 1_790_000_000 * 10**9
S = 10**9
TRACE = "0af7651916cd43dd8448eb211c80319c"
SERVICE = {"service.name": "my-agent"}
AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "Coder"}
CHAT = {
    "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5", "gen_ai.provider.name": "openai",
    "gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 30,
    "gen_ai.usage.cache_read.input_tokens": 100, "gen_ai.response.finish_reasons": ["tool_calls"],
}  # fmt: skip
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "shell", "gen_ai.tool.call.id": "call/1"}
HTTP = {}


def span(number, start_s, end_s, attributes, *, parent=1, trace=TRACE, error=None, resource=SERVICE):
    parent_id = "" if parent is None else f"{parent:016x}"
    return Span(
        trace, f"{number:016x}", parent_id, T0 + int(start_s * S), T0 + int(end_s * S), attributes, error,
        parent is None, resource,
    )  # fmt: skip


ROOT = span(1, 0, 10, AGENT, parent=None)
RUN = [span(2, 1, 3, CHAT), span(3, 3, 4, TOOL), span(4, 4, 9, CHAT), ROOT]


def fed(*portions, traces=None, project="apollo"):
    """The events of spans that come in portions, as they stand in a log."""
    traces = traces or Traces()
    events = []
    for portion in portions:
        found = by_trace(portion)
        events += traces.begin(project, found).values()
        events += traces.feed(project, found)
    return events


def kinds(events):
    return [event.type for event in events]


def test_a_trace_is_a_run_with_calls_tokens_causes_and_totals():
    started, chat, tool, other, ended = events = fed(RUN)
    assert kinds(events) == ["agent_started", *["agent_activity"] * 3, "agent_completed"]
    assert started.time.timestamp() == T0 / S
    assert started.data == {
        "run_id": TRACE, "agent_id": "Coder", "role": "Coder", "concurrency": 10_000, "gen_ai.request.model": "gpt-5",
    }  # fmt: skip
    assert started.source == f"/otlp/my-agent/{TRACE}"
    assert chat.data["gen_ai.usage.input_tokens"] == 120
    assert chat.data["cached_tokens"] == 100
    assert chat.data["duration_s"] == 2
    assert chat.traceparent == f"00-{TRACE}-0000000000000002-01"
    assert (tool.data["gen_ai.tool.name"], tool.data["gen_ai.tool.call.id"]) == ("shell", "call-1")
    assert [event.cause for event in events] == [None, started.id, chat.id, tool.id, other.id]
    assert ended.data == {
        "run_id": TRACE, "agent_id": "Coder", "role": "Coder", "end_reason": "completed", "duration_s": 10,
        "llm_calls": 2, "tool_calls": 1, "input_tokens": 240, "output_tokens": 60,
    }  # fmt: skip
    assert validate(events).ok


def test_children_come_long_before_what_is_around_them():
    events = fed(RUN[:1], RUN[1:2], RUN[2:])
    assert kinds(events) == ["agent_started", *["agent_activity"] * 3, "agent_completed"]
    assert events[0].data["joined"]
    assert events[0].data["agent_id"] == "my-agent"  # nobody has said anything else yet
    assert events[-1].data["input_tokens"] == 240
    assert events[-1].data["duration_s"] == 10
    assert validate(events).ok


def test_a_run_that_is_joined_begins_with_the_earliest_that_is_known():
    events = fed([span(3, 3, 4, TOOL), span(2, 1, 3, CHAT)])
    assert events[0].time.timestamp() == T0 / S + 1
    assert validate(events).ok


def test_a_tool_that_began_before_the_first_call_that_came_is_no_contradiction():
    inner = span(3, 2, 4, CHAT, parent=2)
    outer = span(2, 1, 30, TOOL)
    events = fed([inner], [outer], [span(1, 0, 31, AGENT, parent=None)])
    assert validate(events).ok
    assert events[2].data["duration_s"] == 29


@given(st.permutations(range(6)), st.integers(1, 6), st.randoms(use_true_random=False))
def test_any_order_and_any_portions_are_a_valid_stream(order, size, rng):
    spans = [
        span(1, 0, 20, AGENT, parent=None),
        span(2, 1, 3, CHAT),
        span(3, 3, 9, TOOL),
        span(4, 4, 8, CHAT, parent=3),
        span(5, 9, 19, CHAT, error="overloaded"),
        span(6, 2, 18, {"http.method": "GET"}),
    ]
    shuffled = [spans[index] for index in order]
    portions = [shuffled[start : start + size] for start in range(0, 6, size)]
    traces = Traces()
    events = fed(*portions, rng.choice(portions), traces=traces)  # one comes twice
    assert validate(events).ok, str(validate(events))
    assert {event.type for event in events} <= {
        "agent_started", "agent_activity", "agent_activity_late", "agent_completed",
    }  # fmt: skip
    assert kinds(events).count("agent_completed") == 1
    assert len({event.id for event in events}) == len(events)
    tokens = sum(event.data.get("gen_ai.usage.input_tokens", 0) for event in events)
    assert tokens == 360
    assert traces.counts["mapped"] + traces.counts["late"] == 5


def test_what_comes_after_the_end_is_late_and_no_part_of_the_run():
    traces = Traces()
    events = fed(RUN, [span(9, 1, 2, CHAT)], traces=traces)
    assert events[-1].type == "agent_activity_late"
    assert events[-1].data["late_s"] == 8
    assert traces.counts == {"mapped": 4, "late": 1}
    assert validate(events).ok


def test_a_span_that_comes_again_adds_nothing():
    traces = Traces()
    once = fed(RUN, traces=traces)
    assert fed(RUN, traces=traces) == []
    assert traces.counts["duplicate"] == 4
    assert len(once) == 5


def test_what_has_nothing_to_do_with_agents_is_counted():
    traces = Traces()
    assert fed([span(1, 0, 1, {"http.method": "GET"}, parent=None)], traces=traces) == []
    assert traces.counts == {"other": 1}


def test_a_frame_that_is_no_agent_ends_the_run_too():
    events = fed([span(2, 1, 3, CHAT)], [span(1, 0, 4, HTTP, parent=None)])
    assert kinds(events) == ["agent_started", "agent_activity", "agent_completed"]
    assert validate(events).ok


def test_a_call_with_nothing_around_it_is_a_run_of_one_call():
    events = fed([span(1, 0, 4, CHAT, parent=None)])
    assert kinds(events) == ["agent_started", "agent_activity", "agent_completed"]
    assert events[2].data["llm_calls"] == 1
    assert validate(events).ok


def test_errors_are_told_with_their_reason():
    failed = {**CHAT, "error.type": "RateLimitError"}
    events = fed([span(2, 1, 3, failed, error="429"), span(1, 0, 4, AGENT, parent=None, error="gave up")])
    assert (events[1].data["status"], events[1].data["error"]) == ("error", "RateLimitError")
    assert events[2].type == "agent_error"
    assert (events[2].data["end_reason"], events[2].data["error"]) == ("error", "gave up")


def test_totals_are_left_out_where_others_may_know_more():
    assert "llm_calls" not in fed(RUN, traces=Traces(is_alone=False))[-1].data
    traces = Traces()
    fed(RUN[:1], traces=traces)
    traces.joined_by_others("apollo", TRACE)
    assert "llm_calls" not in fed(RUN[1:], traces=traces)[-1].data


def test_a_total_that_is_no_count_any_more_is_left_out():
    many = CHAT | {"gen_ai.usage.input_tokens": 2**53 - 1}
    *_, ended = fed([*(span(number, 1, 3, many) for number in range(2, 1_028)), ROOT])
    assert ended.data["llm_calls"] == 1_026
    assert "input_tokens" not in ended.data


def test_services_that_work_on_one_run_keep_their_names():
    """A collector sends spans of several processes together, those of the caller first."""
    helper = {"service.name": "helper"}
    events = fed([ROOT, span(2, 1, 3, CHAT), span(5, 3, 6, CHAT, parent=2, resource=helper)])
    assert kinds(events) == ["agent_started", *["agent_activity"] * 2, "agent_completed"]
    assert events[2].source == f"/otlp/helper/{TRACE}"
    assert validate(events).ok


def test_what_is_remembered_has_bounds(monkeypatch):
    monkeypatch.setattr(syndarix_rt.adapters.traces, "MAX_RUNS", 2)
    monkeypatch.setattr(syndarix_rt.adapters.traces, "MAX_SEEN", 3)
    traces = Traces()
    for number in (1, 2, 3):
        fed([span(2, 1, 2, CHAT, trace=f"{number:032x}")], traces=traces)
    again = fed([span(3, 2, 3, CHAT, trace=f"{1:032x}")], traces=traces)
    assert kinds(again) == ["agent_started", "agent_activity"], "the oldest run was forgotten, and is joined anew"
    calls = [span(number, 3, 4, CHAT, trace=f"{1:032x}") for number in (3, 4, 5, 6, 3)]
    fed(calls, traces=traces)
    assert traces.counts["duplicate"] == 1, "the first; by the last one there was no room for more"


def test_agents_whose_names_are_not_in_ascii_are_as_many():
    names = ("研究员", "审稿人", "café", "cafe")
    spans = [span(1, 0, 1, AGENT | {"gen_ai.agent.name": name}, parent=None, trace=f"{n:032x}") for n, name in
             enumerate(names, 1)]  # fmt: skip
    started = [event for event in fed(spans) if event.type == "agent_started"]
    assert [event.data["role"] for event in started] == list(names)
    assert len({event.data["agent_id"] for event in started}) == len(names)


def test_two_projects_share_no_run():
    traces = Traces()
    assert len(fed(RUN, traces=traces)) == len(fed(RUN, traces=traces, project="zeus")) == 5


OPENINFERENCE = {
    "openinference.span.kind": "LLM", "llm.model_name": "claude-sonnet-4", "llm.provider": "anthropic",
    "llm.token_count.prompt": 900, "llm.token_count.completion": 45, "llm.token_count.total": 945,
    "llm.token_count.prompt_details.cache_read": 800, "llm.token_count.completion_details.reasoning": 20,
    "llm.cost.total": 0.0125,
}  # fmt: skip


def test_openinference_says_the_same_in_other_words():
    reading = read_span(OPENINFERENCE, None)
    assert reading.data == {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "claude-sonnet-4",
        "gen_ai.provider.name": "anthropic", "gen_ai.usage.input_tokens": 900, "gen_ai.usage.output_tokens": 45,
        "cached_tokens": 800, "gen_ai.usage.reasoning.output_tokens": 20, "cost_usd": 0.0125,
    }  # fmt: skip
    assert read_span({"openinference.span.kind": "TOOL", "tool.name": "search"}, None).data["gen_ai.tool.name"]
    assert read_span({"openinference.span.kind": "AGENT"}, None).is_agent
    assert read_span({"openinference.span.kind": "CHAIN"}, None) is None


@pytest.mark.parametrize("wrong", [-1, True, "12", 1.5, 2**60, float("nan"), None, [1]])
def test_a_count_that_is_none_is_left_out(wrong):
    data = read_span({**CHAT, "gen_ai.usage.input_tokens": wrong, "llm.cost.total": wrong}, None).data
    assert "gen_ai.usage.input_tokens" not in data


def test_a_cache_that_is_counted_beside_the_input_is_no_contradiction():
    events = fed([span(1, 0, 1, {**CHAT, "gen_ai.usage.input_tokens": 20}, parent=None)])
    assert events[1].data["gen_ai.usage.cache_read.input_tokens"] == 100
    assert validate(events).ok


ANYTHING = st.one_of(
    st.text(max_size=300),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(st.text(max_size=5), max_size=3),
)


@given(
    st.dictionaries(st.sampled_from(sorted(KNOWN)), ANYTHING),
    st.dictionaries(st.sampled_from(sorted(RESOURCE_KNOWN)), ANYTHING),
    st.one_of(st.none(), st.text(max_size=5_000)),
)
def test_no_attribute_is_wrong_enough_to_be_an_error(attributes, resource, error):
    whole = {"gen_ai.operation.name": "chat", **attributes}
    events = fed([span(2, 1, 2, whole, error=error, resource=resource), span(1, 0, 3, whole, parent=None, error=error)])
    for event in events:
        event.encode()
    assert validate(events).ok


# ---- requests -------------------------------------------------------------------------------------------------------


def document(*spans):
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"spans": list(spans)}]}]}


def raw_span(**changes):
    return {
        "traceId": TRACE.upper(), "spanId": "b7ad6b7169203331", "parentSpanId": "", "name": "chat gpt-5", "kind": 3,
        "startTimeUnixNano": str(T0), "endTimeUnixNano": T0 + S, "status": {}, "flags": 257,
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "12"}},
            {"key": "gen_ai.response.finish_reasons", "value": {"arrayValue": {"values": [{"stringValue": "stop"}]}}},
            {"key": "gen_ai.input.messages", "value": {"stringValue": "what nobody here should read"}},
        ],
    } | changes  # fmt: skip


def test_json_has_ids_in_hexadecimal_and_whole_numbers_as_text():
    request = read_request(json.dumps(document(raw_span())).encode(), is_json=True)
    (found,) = request.spans
    assert (found.trace_id, found.start_ns, found.end_ns, found.is_entry) == (TRACE, T0, T0 + S, True)
    assert found.attributes == {
        "gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 12, "gen_ai.response.finish_reasons": ["stop"],
    }  # fmt: skip


def test_null_in_json_is_what_is_not_set():
    nothing = {"key": "error.type", "value": {}}, {"key": "gen_ai.agent.name", "value": None}
    raw = raw_span(parentSpanId=None, status=None, flags=None, attributes=[*raw_span()["attributes"], *nothing])
    whole = document(raw, raw_span(attributes=None, traceId=None))
    whole["resourceSpans"][0]["resource"] = None
    whole["resourceSpans"] += [
        {"resource": {"attributes": None}, "scopeSpans": [{"spans": None}]},
        {"scopeSpans": None},
    ]
    request = read_request(json.dumps(whole).encode(), is_json=True)
    (found,) = request.spans
    assert request.rejected.total() == 1
    assert found.is_entry
    assert (found.error, found.resource) == (None, {})
    assert found.attributes.keys().isdisjoint({"error.type", "gen_ai.agent.name"})
    assert read_request(b'{"resourceSpans":null}', is_json=True).spans == []


def test_a_span_whose_parent_is_in_another_process_is_an_entry():
    raw = raw_span(parentSpanId="00f067aa0ba902b7", flags=0x301)
    (found,) = read_request(json.dumps(document(raw)).encode(), is_json=True).spans
    assert found.is_entry


@pytest.mark.parametrize(
    "changes",
    [
        {"traceId": ""}, {"traceId": "0" * 32}, {"traceId": "x" * 32}, {"spanId": "12"}, {"parentSpanId": "12"},
        {"startTimeUnixNano": 0}, {"endTimeUnixNano": "1"}, {"endTimeUnixNano": str(2**64)},
    ],
)  # fmt: skip
def test_what_is_no_span_is_rejected_and_the_rest_is_taken(changes):
    body = json.dumps(document(raw_span(), raw_span(**changes))).encode()
    request = read_request(body, is_json=True)
    assert request.rejected.total() == 1
    assert len(request.spans) == 1


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"\xff", b'{"resourceSpans":1}', b"[" * 100_000, b'{"resourceSpans":[{"scopeSpans":[7]}]}'),
        json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "1" * 21}]}]}]}).encode(),
    ],
)
def test_json_that_is_no_request_is_refused(body):
    with pytest.raises(BadRequest):
        read_request(body, is_json=True)


def test_noise_is_refused_or_harmless():
    rng = random.Random(5)
    for _ in range(300):
        noise = rng.randbytes(rng.randrange(1, 200))
        for is_json in (True, False):
            try:
                read_request(noise, is_json=is_json)
            except BadRequest:
                continue


def test_gzip_is_unpacked_within_limits():
    body = gzip.compress(b"first") + gzip.compress(b"second")
    assert unpacked(body) == b"firstsecond"
    with pytest.raises(TooLarge):
        unpacked(gzip.compress(bytes(MAX_BYTES + 1)))
    for cut in (body[:-1], body[:12], b"\x1f\x8b"):
        with pytest.raises(BadRequest, match="cut"):
            unpacked(cut)
    with pytest.raises(BadRequest, match="no gzip"):
        unpacked(b"plain text")


def test_a_cost_is_read_as_a_number_or_as_the_text_of_one():
    costs = [{"key": "llm.cost.total", "value": {"doubleValue": value}} for value in (0.25, "0.25")]
    bodies = [document(raw_span(attributes=[*raw_span()["attributes"], cost])) for cost in costs]
    for body in bodies:
        (found,) = read_request(json.dumps(body).encode(), is_json=True).spans
        assert read_span(found.attributes, None).data["cost_usd"] == 0.25


def test_too_many_bytes_are_refused():
    with pytest.raises(TooLarge, match="more than 16777216"):
        read_request(bytes(MAX_BYTES + 1), is_json=False)


def test_too_many_spans_are_refused_whatever_their_size():
    with pytest.raises(TooLarge, match="more than 10000 spans"):
        read_request(json.dumps(document(*[{}] * 10_001)).encode(), is_json=True)
