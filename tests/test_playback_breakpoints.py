"""The language of breakpoints: against a reference that is written out, and against whatever people type."""

from __future__ import annotations

import json
import operator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playback_clock import event_at

from syndarix_rt.playback.breakpoints import MAX_CHARACTERS, Breakpoint, ConditionError, condition

NAMES = ["n", "reason", "a.b", "a", "gen_ai.usage.output_tokens", "data", "x-y", "_1"]
ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(-5, 5).map(lambda x: round(x, 2)),
    st.sampled_from(["", "ok", "tests", "and", 'a "b" \\ c', "é"]),
)
payloads = st.dictionaries(
    st.sampled_from([*NAMES, "b"]), scalars | st.dictionaries(st.sampled_from(["b", "c"]), scalars) | st.lists(scalars)
)


def number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


class Compares:
    def __init__(self, path, order, value):
        self.path, self.order, self.value = path, order, value

    def text(self):
        return f"{self.path} {self.order} {json.dumps(self.value, ensure_ascii=False)}"

    def holds(self, payload):
        found = payload.get(self.path)
        if self.path == "a.b" and "a.b" not in payload and isinstance(payload.get("a"), dict):
            found = payload["a"].get("b")
        truths = isinstance(found, bool) or isinstance(self.value, bool)  # which Python takes for 0 and 1
        same = found is self.value if truths else found == self.value
        if self.order in ("==", "!="):
            return same is (self.order == "==")
        both = (number(found) and number(self.value)) or (isinstance(found, str) and isinstance(self.value, str))
        return both and ORDERS[self.order](found, self.value)


class Joins:
    def __init__(self, word, left, right):
        self.word, self.left, self.right = word, left, right

    def text(self):
        return f"({self.left.text()}) {self.word} ({self.right.text()})"

    def holds(self, payload):
        left, right = self.left.holds(payload), self.right.holds(payload)
        return (left and right) if self.word == "and" else (left or right)


class Denies:
    def __init__(self, inner):
        self.inner = inner

    def text(self):
        return f"not ({self.inner.text()})"

    def holds(self, payload):
        return not self.inner.holds(payload)


orderable = st.one_of(st.integers(-5, 5), st.floats(-5, 5).map(lambda x: round(x, 2)), st.sampled_from(["", "ok", "é"]))
comparisons = st.builds(Compares, st.sampled_from(NAMES), st.sampled_from(["==", "!="]), scalars) | st.builds(
    Compares, st.sampled_from(NAMES), st.sampled_from(list(ORDERS)), orderable
)
conditions = st.recursive(
    comparisons,
    lambda inner: st.builds(Joins, st.sampled_from(["and", "or"]), inner, inner) | st.builds(Denies, inner),
    max_leaves=8,
)


@given(conditions, payloads)
def test_a_condition_holds_where_its_words_say_so(wanted, payload):
    assert condition(wanted.text())(payload) is bool(wanted.holds(payload))


@given(st.lists(comparisons, min_size=3, max_size=3), payloads)
def test_and_binds_tighter_than_or_and_not_tighter_than_both(parts, payload):
    a, b, c = (part.text() for part in parts)
    x, y, z = (part.holds(payload) for part in parts)
    assert condition(f"{a} or {b} and {c}")(payload) is bool(x or (y and z))
    assert condition(f"{a} and {b} or {c}")(payload) is bool((x and y) or z)
    assert condition(f"not {a} and {b}")(payload) is bool(not x and y)


@given(st.text(max_size=60) | st.text(alphabet="ab.=!<>()'\"\\ 01-ntoradlsuef_", max_size=60), payloads)
def test_whatever_is_typed_is_read_or_refused_and_never_fails_on_a_payload(text, payload):
    try:
        holds = condition(text)
    except ConditionError:
        return
    assert holds(payload) in (True, False)
    assert holds({}) in (True, False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected a path at the end"),
        ("n", "expected ==, !=, <, <=, > or >= at the end"),
        ("n = 1", "expected ==, !=, <, <=, > or >= at character 3: '= 1'"),
        ("n == m", "expected a number, \"text\", true, false or null at character 6: 'm'"),
        ("n == 1 2", "expected and, or, or the end at character 8: '2'"),
        ("(n == 1", "expected ) at the end"),
        ("n < true", "< compares numbers or texts only"),
        ("1 == n", "expected a path at character 1"),
        ('__import__("os").system("true")', "at character 11"),
        ("n.__class__ == 1 and ().x == 1", "at character 23"),
        ("not " * 33 + "n == 1", "nested more than 32 deep"),
        ("(" * 33 + "n == 1" + ")" * 33, "nested more than 32 deep"),
        ("n == " + "1" * MAX_CHARACTERS, "at most 1000 characters"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_place(text, reason):
    with pytest.raises(ConditionError) as caught:
        condition(text)
    assert reason in str(caught.value)


def test_the_longest_key_goes_first_and_what_is_not_there_is_null():
    assert condition("a.b == 1")({"a.b": 1, "a": {"b": 2}})
    assert condition("a.b == 2")({"a": {"b": 2}})
    assert condition("a.b.c == 3")({"a": {"b.c": 3}})
    assert condition("a.b == null and a.b != 1 and not a.b < 1")({"a": 7})
    assert condition("a == true and a != 1")({"a": True})
    assert condition(r"""a == 'it\'s' and b == "\"\\" """)({"a": "it's", "b": '"\\'})


def test_a_breakpoint_is_a_type_a_condition_or_both():
    tick, other = event_at(0, 5), event_at(0, 6)
    assert [Breakpoint(type="test_*", where="n == 5").compile()(event) for event in (tick, other)] == [True, False]
    assert Breakpoint(type="test_tick,agent").compile()(tick)
    assert not Breakpoint(type="agent").compile()(tick)
    assert Breakpoint(where="n > 5").compile()(other)
    for wrong in (
        {},
        {"type": ""},
        {"type": "no type"},
        {"where": "n"},
        {"type": "x_y", "when": "n == 1"},
        {"where": 1},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Breakpoint)


def test_the_payload_may_be_named_as_the_event_has_it():
    holds = condition("data.n > 3")
    assert holds({"n": 4})
    assert not holds({"n": 3})
    assert not holds({"n": 4, "data": {"n": 3}}), "a key of that name goes first"
    assert not condition("data == 4")({"n": 4})
