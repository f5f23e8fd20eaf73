"""`Series`: the same events as one by one, and nothing wrong among them."""

from datetime import UTC, datetime

import pytest
from event_strategies import json_values, payloads
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt import Event
from syndarix_rt.errors import EventError
from syndarix_rt.events import CATALOGUE
from syndarix_rt.events.series import Series

TIME = datetime(2026, 1, 5, 9, 0, 0, 1, tzinfo=UTC)
WHO = {"run_id": "run-1", "agent_id": "developer-1", "role": "developer"}
KEYS = ("gen_ai.tool.name", "gen_ai.tool.call.id", "duration_s", "mood")
COMMON = WHO | dict.fromkeys(KEYS) | {"status": "ok"}


def event(**attributes):
    common = {"project": "apollo", "time": TIME, "id": "a-1", "subject": "run-1", "simulation": "sim-1"}
    return Event.new("agent_activity", **{**common, **attributes})


def series():
    return Series(event(data=WHO))


def test_an_event_of_a_series_is_that_which_the_constructor_makes():
    calls = series()
    row = ("shell", "run-1-0", 1.5, {"of": "any kind"})
    calls.check_rows(COMMON, KEYS, [row, ("edit", "run-1-1", 0, None)])
    data = COMMON | dict(zip(KEYS, row, strict=True))
    calls.check(data)
    attributes = {"time": TIME.replace(microsecond=2), "subject": "run-2", "cause": "a-1"}
    made = calls.event("a-2", attributes["time"], "run-2", "a-1", data)
    wanted = event(id="a-2", data=data, **attributes)
    assert made == wanted
    assert made.data is data
    assert made.encode() == wanted.encode()
    assert Event.decode(made.encode()) == made


def refusal(check, *arguments, **more):
    try:
        check(*arguments, **more)
    except EventError as error:
        return str(error)
    return None


@given(line=st.sampled_from(list(CATALOGUE.values())), data=st.data())
def test_a_payload_is_as_right_as_the_constructor_says(line, data):
    """Also if one value of it is any other."""
    about = {"project": "apollo", "id": "a", "time": TIME}
    payload = data.draw(payloads(line.payload))
    kinds = Series(Event.new(line.name, dict(payload), **about))
    if data.draw(st.booleans()):
        payload[data.draw(st.sampled_from(sorted(payload)))] = data.draw(json_values | st.just("x" * 65))
    assert refusal(kinds.check, payload) == refusal(Event.new, line.name, payload, **about)


@pytest.mark.parametrize(
    "row",
    [
        ("", "run-1-0", 1.5, 1),
        (7, "run-1-0", 1.5, 1),
        ("shell", "run 1", 1.5, 1),
        ("shell", "run-1\n", 1.5, 1),
        ("shell", "x" * 65, 1.5, 1),
        ("shell", "run-1-0", -1.5, 1),
        ("shell", "run-1-0", "1.5", 1),
    ],
)
def test_a_wrong_value_among_many_is_found_as_the_constructor_finds_it(row):
    good = ("shell", "run-1-0", 1.5, 1)
    with pytest.raises(EventError) as one_by_one:
        event(data=WHO | dict(zip(KEYS, row, strict=True)))
    with pytest.raises(EventError) as in_bulk:
        series().check_rows(COMMON, KEYS, [good, good, row, good])
    assert str(in_bulk.value) == str(one_by_one.value)


def test_rows_of_another_length_and_values_that_only_look_unusual():
    with pytest.raises(ValueError, match="argument 2"):
        series().check_rows(COMMON, KEYS, [("shell", "run-1-0", 1.5)])
    series().check_rows(COMMON, KEYS, [("shell", None, None, 1)])  # absent
    series().check_rows(COMMON, KEYS, [])


def test_what_all_rows_have_in_common_is_checked_too():
    with pytest.raises(EventError, match="run_id"):
        series().check_rows(COMMON | {"run_id": ""}, KEYS, [])


def test_a_time_that_is_text_is_refused_in_python():
    with pytest.raises(EventError, match=r"\$\.time"):
        event(time="2026-01-05T09:00:00Z", data=WHO)
