"""JSON-RPC 2.0: what the specification says about requests, notifications, batches and errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt.delivery import jsonrpc
from syndarix_rt.delivery.jsonrpc import Call
from syndarix_rt.errors import RpcError

ids = st.none() | st.integers(-(2**53), 2**53) | st.text(max_size=20) | st.floats(-1e6, 1e6)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
requests = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": st.text(max_size=20)},
    optional={"id": ids, "params": st.dictionaries(st.text(max_size=8), values) | st.lists(values)},
)


@given(requests)
def test_a_request_is_read_as_it_is(request):
    (call,), batch = jsonrpc.decode(json.dumps(request))
    assert not batch
    assert isinstance(call, Call)
    assert (call.method, call.params) == (request["method"], request.get("params", {}))
    assert call.is_notification is ("id" not in request)
    if "id" in request:
        answer = json.loads(jsonrpc.message([jsonrpc.result(call.id, 1)], batch=False))
        assert answer == {"jsonrpc": "2.0", "result": 1, "id": request["id"]}


@given(st.lists(requests | values, min_size=1, max_size=6))
def test_of_a_batch_each_is_read_by_itself_in_order(batch):
    found, is_batch = jsonrpc.decode(json.dumps(batch))
    assert is_batch
    assert len(found) == len(batch)
    for given_, call in zip(batch, found, strict=True):
        valid = isinstance(given_, dict) and given_.get("jsonrpc") == "2.0" and isinstance(given_.get("method"), str)
        if isinstance(call, Call):
            assert valid
            assert call.method == given_["method"]
        else:
            assert call["error"]["code"] == jsonrpc.INVALID_REQUEST


@given(st.text() | st.binary())
def test_whatever_comes_is_calls_or_errors_that_can_be_sent(text):
    calls, batch = jsonrpc.decode(text)
    assert calls
    for call in calls:
        if not isinstance(call, Call):
            assert call["jsonrpc"] == "2.0"
            assert call["error"]["code"] in (jsonrpc.PARSE_ERROR, jsonrpc.INVALID_REQUEST)
            assert json.loads(jsonrpc.message([call], batch=batch))


@pytest.mark.parametrize("text", ["", "[", "{", "nul", b"\xff", "[" * 100_000, '{"a":' * 100_000])
def test_what_is_no_json_is_a_parse_error_without_an_id(text):
    (error,), batch = jsonrpc.decode(text)
    assert (error["error"]["code"], error["id"], batch) == (-32700, None, False)


def test_an_empty_batch_and_one_that_is_too_large_are_one_error_each():
    for text in ("[]", json.dumps([{"jsonrpc": "2.0", "method": "ping", "id": 1}] * 101)):
        (error,), batch = jsonrpc.decode(text)
        assert (error["error"]["code"], error["id"], batch) == (-32600, None, False)


def test_nothing_is_said_to_notifications_alone_and_an_error_carries_its_data():
    assert jsonrpc.message([], batch=True) is None
    assert jsonrpc.message([], batch=False) is None
    error = jsonrpc.failure("a", RpcError(-32602, "no", {"path": "$.params"}))
    assert error == {
        "jsonrpc": "2.0",
        "id": "a",
        "error": {"code": -32602, "message": "no", "data": {"path": "$.params"}},
    }
    assert "data" not in jsonrpc.failure(None, RpcError(-32603, "no"))["error"]


@pytest.mark.parametrize(
    ("call", "reason", "path"),
    [
        ({}, 'jsonrpc is "2.0"', "$.jsonrpc"),
        ({"jsonrpc": "1.0", "id": 3}, 'jsonrpc is "2.0"', "$.jsonrpc"),
        ({"jsonrpc": "2.0", "id": [3]}, "id is a string, a number or null", "$.id"),
        ({"jsonrpc": "2.0", "id": True}, "id is a string, a number or null", "$.id"),
        ({"jsonrpc": "2.0", "id": 3}, "method is a string", "$.method"),
        ({"jsonrpc": "2.0", "id": 3, "method": "x", "params": 7}, "params is an object or an array", "$.params"),
    ],
)
def test_what_is_no_call_is_answered_with_the_place_of_what_is_wrong(call, reason, path):
    (answer,), _ = jsonrpc.decode(json.dumps(call))
    assert answer["error"] == {"code": jsonrpc.INVALID_REQUEST, "message": reason, "data": {"path": path}}
    assert answer["id"] == (3 if call.get("id") == 3 else None)
