"""Events that are right and odd, read by everything that reads events.

The catalogue checks the keys that a payload's struct names; beside them it may hold any others, with any values, such
as names that other payloads use for something else. Ids are few, so that entities meet; times stand still and go back.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import cache

import msgspec
import pytest
from msgspec import inspect

from syndarix_rt import Event, Scenario, SyndarixError, validate
from syndarix_rt.events import CATALOGUE
from syndarix_rt.events.payloads import MAX_COUNT
from syndarix_rt.playback.exports import read_parquet, write_ocel, write_parquet, write_perfetto
from syndarix_rt.playback.importers import write_azure
from syndarix_rt.playback.importers.aidev_files import write_aidev
from syndarix_rt.simulation.analysis.calibration import Calibration
from syndarix_rt.simulation.analysis.comparison import compare
from syndarix_rt.simulation.analysis.fit import fit
from syndarix_rt.simulation.analysis.frames import events_frame, queues_frame, runs_frame
from syndarix_rt.simulation.analysis.replay import replay
from syndarix_rt.simulation.analysis.summary import Summary

STREAMS = 40
"""Enough for each fault that was found by thousands of them to be found again."""

CUSTOM = ("pr_reviewed", "fault_started", "fault_ended", "my_event")
NAMES = ("1", "2", "developer", "tester")
ODD = (
    *(None, True, -1, 2**64, 10**400, -(10**400), 1.5, 1e12, 1.7e308, 5e-324, "", "1", "日本\u2028", [], ["x"], {}),
    *({"commits": value} for value in ("x", None, -1, 10**400)),
)
FIELDS = {name: inspect.type_info(line.payload).fields for name, line in CATALOGUE.items()}
KEYS = sorted({field.encode_name for fields in FIELDS.values() for field in fields})
KEYS += ["project", "snapshot", "implied", "repo", "fault_id", "type", "time", "a.b", ""]
SCENARIO = Scenario.preset("steady_sprint").for_project("p")


def value_of(kind, rng):
    """A value that a payload's field may have."""
    match kind:
        case inspect.UnionType():
            return value_of(rng.choice(kind.types), rng)
        case inspect.StrType():
            return rng.choice(NAMES)
        case inspect.IntType():
            return rng.choice((kind.ge, 1, 2, 100, MAX_COUNT))
        case inspect.FloatType():
            return rng.choice((0, 1.5, 60, 3_600.0, 1e12, 10**300, 5e-324))
        case inspect.LiteralType():
            return rng.choice(kind.values)
        case inspect.BoolType():
            return rng.random() < 0.5
    return None


def an_event(number, time, rng):
    event_type = rng.choice((*CATALOGUE, "agent_activity", "agent_activity", *CUSTOM))
    fields = FIELDS.get(event_type, ())
    data = {each.encode_name: value_of(each.type, rng) for each in fields if each.required or rng.random() < 0.6}
    known = {each.encode_name for each in fields}
    data |= {key: rng.choice(ODD) for key in rng.sample(KEYS, rng.randrange(4)) if key not in known}
    if event_type == "agent_activity":
        data["gen_ai.operation.name"] = rng.choice(("chat", "execute_tool"))
    attributes = {"simulation": rng.choice((None, "s")), "cause": rng.choice((None, f"e-{number - 1}"))}
    event = Event.new(event_type, data, project="p", id=f"e-{number}", time=time, source=rng.choice("ab"), **attributes)
    return Event.decode(event.encode())


@cache
def streams():
    made = [[]]
    for seed in range(STREAMS):
        rng = random.Random(seed)
        time = datetime(rng.choice((1, 2026, 2026, 2300, 9999)), 6, 1, tzinfo=UTC)
        stream = []
        for number in range(1, rng.choice((2, 40, 150))):
            time += timedelta(seconds=rng.choice((0, 0, 1, 60, 3_600.5, -30)))
            stream.append(an_event(number, time, rng))
        made.append(stream)
    return made


def summed_up(events):
    for summary in (Summary(), Summary(warmup_h=2, scenario=SCENARIO)):
        for event in events:
            summary.feed(event)
        assert summary.metrics()["events"] <= len(events)


def calibrated(events):
    calibration = Calibration()
    for event in events:
        calibration.feed(event)
    assert str(calibration.report(events))


def to_ocel(events, path):
    assert write_ocel(path, events) == len(events)
    document = msgspec.json.decode(path.read_bytes())
    objects = {each["id"] for each in document["objects"]}
    related = [to["objectId"] for each in document["events"] + document["objects"] for to in each["relationships"]]
    assert objects.issuperset(related)


def to_perfetto(events, path):
    assert write_perfetto(path, events) == len(events)
    assert msgspec.json.decode(path.read_bytes())["traceEvents"] or not events


def to_parquet(events, path):
    assert write_parquet(path, events) == len(events)
    assert [each.raw for each in read_parquet(path)] == [each.raw for each in events]


READERS = {
    "validate": lambda events, _: str(validate(events)),
    "validate from the middle": lambda events, _: str(validate(events, partial=True)),
    "summary": lambda events, _: summed_up(events),
    "events_frame": lambda events, _: events_frame(events),
    "runs_frame": lambda events, _: runs_frame(events),
    "queues_frame": lambda events, _: queues_frame(events),
    "queues_frame of a scenario": lambda events, _: queues_frame(events, SCENARIO, warmup_h=1),
    "compare": lambda events, _: str(compare(events, events[len(events) // 2 :])),
    "fit": lambda events, _: fit(events).scenario,
    "fit of a frame": lambda events, _: fit(events_frame(events)),
    "replay": lambda events, _: SCENARIO.replace(replay(events)),
    "calibration": lambda events, _: calibrated(events),
    "OCEL": to_ocel,
    "Perfetto": to_perfetto,
    "Parquet": to_parquet,
    "Azure": write_azure,
    "AIDev": write_aidev,
}


@pytest.mark.parametrize("reader", READERS)
def test_whatever_right_events_say_they_can_be_read(reader, tmp_path):
    for events in streams():
        try:
            READERS[reader](events, tmp_path / "file")
        except SyndarixError as error:  # such as a trace with too little in it to be fitted
            assert str(error)  # noqa: PT017 - one of two good outcomes
