"""Whatever takes events says in one line what else it was given, and how events are had."""

from itertools import islice
from pathlib import Path

import pytest

from syndarix_rt import Scenario, Simulation, validate
from syndarix_rt.errors import SyndarixError
from syndarix_rt.simulation import Validator, compare, events_frame, fit, queues_frame, replay, runs_frame

DEMO = Scenario.preset("demo_small")


def first():
    return list(islice(Simulation(DEMO, 7), 10))


TAKERS = {
    "validate": validate,
    "events_frame": events_frame,
    "runs_frame": runs_frame,
    "queues_frame": queues_frame,
    "fit": fit,
    "replay": replay,
    "compare with": lambda events: compare(first(), events),
    "compare": lambda events: compare(events, first()),
}


@pytest.mark.parametrize("taker", TAKERS.values(), ids=TAKERS)
@pytest.mark.parametrize("given", ["a.jsonl", Path("a.jsonl"), b"{}", 3, None, ["a.jsonl"]], ids=repr)
def test_what_is_no_events_is_refused_with_what_to_do(taker, given):
    with pytest.raises(SyndarixError) as caught:
        taker(given)
    assert str(caught.value).startswith("expected events")
    assert str(caught.value).endswith("read_recording(path) of syndarix_rt.playback")


@pytest.mark.parametrize("taker", TAKERS.values(), ids=TAKERS)
def test_a_simulation_that_never_ends_is_refused(taker):
    with pytest.raises(SyndarixError, match=r"demo_small: this simulation never ends; .* itertools\.islice"):
        taker(Simulation(DEMO, 7))


def test_lines_and_events_may_come_in_one_stream():
    events = first()
    assert str(validate([*(event.encode() for event in events[:5]), *events[5:]])) == "10 events, 0 violations"
    with pytest.raises(SyndarixError, match=r"expected events or lines of bytes, not '\{\}'"):
        Validator().feed("{}")
