"""Frames: every event, run and queue once, with proper types, from simulations, recordings and real traces."""

import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice

import pandas as pd
import pytest
from event_strategies import events as any_events
from hypothesis import given, settings
from hypothesis import strategies as st

from syndarix_rt import Event, Scenario, Simulation
from syndarix_rt.events import CATALOGUE
from syndarix_rt.simulation.analysis.frames import events_frame, queues_frame, runs_frame
from syndarix_rt.simulation.analysis.summary import Summary

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
WHO = {"run_id": "r", "agent_id": "a", "role": "developer"}


@cache
def stream():
    return tuple(islice(Simulation(Scenario.preset("demo_small"), seed=3), 8_000))


def told(*lines, **attributes):
    """Events from (seconds, type, data)."""
    attributes = {"project": "apollo", **attributes}
    return [
        Event.new(kind, data, id=f"e-{number}", time=START + timedelta(seconds=at), **attributes)
        for number, (at, kind, data) in enumerate(lines)
    ]


# ---- events ---------------------------------------------------------------------------------------------------------


def test_an_event_is_a_row_under_plain_names_with_proper_types():
    call = WHO | {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7, "duration_s": 2, "cost_usd": 0.5}
    frame = events_frame(told((0, "agent_activity", call), (1, "issue_created", {"issue_id": "i", "size": {"x": 1}})))
    first, second = frame.to_dict("records")
    assert (first["time"], first["type"], first["category"], first["id"]) == (START, "agent_activity", "agent", "e-0")
    assert (first["operation"], first["input_tokens"], first["duration_s"], first["cost_usd"]) == ("chat", 7, 2.0, 0.5)
    assert (second["issue_id"], second["data.size.x"]) == ("i", 1)
    assert pd.isna(second["input_tokens"])
    assert math.isnan(second["duration_s"])
    types = frame.dtypes.astype(str)
    assert types["time"] == "datetime64[us, UTC]"
    assert set(types[["project", "type", "category", "role", "operation", "simulation"]]) == {"category"}
    assert set(types[["input_tokens", "attempt", "run_llm_calls"]]) == {"Int64"}
    assert set(types[["duration_s", "cost_usd", "run_cost_usd"]]) == {"float64"}
    assert set(types[["id", "run_id"]]) == {"string"}


def test_columns_are_the_same_for_every_stream_but_for_what_is_special():
    assert list(events_frame(stream()).columns[: len(events_frame([]).columns)]) == list(events_frame([]).columns)
    assert all(name.startswith("data.") for name in events_frame(stream()).columns[len(events_frame([]).columns) :])
    assert events_frame([]).dtypes["time"] == "datetime64[us, UTC]"


def test_adding_up_a_column_counts_every_call_once():
    frame = events_frame(stream())
    ends = [event for event in stream() if event.type in ("agent_completed", "agent_error")]
    ended = frame[frame["run_id"].isin([event.data["run_id"] for event in ends])]
    assert ended["input_tokens"].sum() == ended["run_input_tokens"].sum()
    assert ended["cost_usd"].sum() == pytest.approx(sum(event.data["cost_usd"] for event in ends))
    assert ended["run_cost_usd"].sum() == pytest.approx(ended["cost_usd"].sum())


def test_lines_of_a_recording_make_the_same_frame():
    lines = [event.encode() for event in stream()[:500]]
    pd.testing.assert_frame_equal(events_frame(lines), events_frame(stream()[:500]))


@settings(max_examples=30)  # the strategy is slow
@given(st.lists(any_events(), max_size=6))
def test_whatever_events_say_is_somewhere_in_the_frame(events):
    frame = events_frame(events)
    assert len(frame) == len(events)
    assert frame["id"].tolist() == [event.id for event in events]
    assert frame["time"].tolist() == [event.time for event in events]


def test_a_number_that_no_float_is_keeps_a_column_of_its_own():
    frame = events_frame(told((0, "my_event", {"cost_usd": 10**400})))
    assert pd.isna(frame["cost_usd"][0])
    assert frame["data.cost_usd"][0] == 10**400


@pytest.mark.parametrize("value", ["x", True, 1.5, 2**70, ["x"], {"x": 1}])
def test_a_value_that_does_not_fit_its_column_keeps_its_own(value):
    frame = events_frame(told((0, "my_event", {"attempt": value})))
    assert pd.isna(frame["attempt"][0])
    name = "data.attempt.x" if isinstance(value, dict) else "data.attempt"
    assert frame[name][0] == (1 if isinstance(value, dict) else value)


# ---- runs -----------------------------------------------------------------------------------------------------------


def test_runs_are_what_their_events_say():
    frame = runs_frame(stream()).set_index("run_id")
    starts = [event for event in stream() if event.type == "agent_started"]
    ends = {event.data["run_id"]: event for event in stream() if event.type in ("agent_completed", "agent_error")}
    assert frame.index.tolist() == [event.data["run_id"] for event in starts]
    assert frame["start"].tolist() == [event.time for event in starts]
    assert frame.index[frame["truncated"]].tolist() == [i for i in frame.index if i not in ends]
    for run_id, end in islice(ends.items(), 100):
        run = frame.loc[run_id]
        assert run["end"] == end.time
        assert run["duration_s"] == pytest.approx(end.data["duration_s"])
        assert (run["end_reason"], run["llm_calls"], run["input_tokens"], run["cost_usd"]) == tuple(
            end.data[key] for key in ("end_reason", "llm_calls", "input_tokens", "cost_usd")
        )
    types = frame.dtypes.astype(str)
    assert types["start"] == types["end"] == "datetime64[us, UTC]"
    assert (types["truncated"], types["llm_calls"], types["role"]) == ("bool", "Int64", "category")


def test_a_run_that_goes_on_has_the_sums_of_its_calls():
    call = WHO | {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7, "cached_tokens": 3}
    failed = WHO | {"gen_ai.operation.name": "execute_tool", "status": "error"}
    (run,) = runs_frame(
        told(
            (0, "agent_started", WHO | {"queued_s": 4.0, "attempt": 2, "issue_id": "i"}),
            (1, "agent_activity", call),
            (2, "agent_activity", call),
            (3, "agent_activity", failed),
        )
    ).to_dict("records")
    assert run["truncated"]
    assert (run["queued_s"], run["attempt"], run["issue_id"], run["start"]) == (4.0, 2, "i", START)
    assert (run["llm_calls"], run["tool_calls"], run["failed_calls"]) == (2, 1, 1)
    assert (run["input_tokens"], run["cached_tokens"]) == (14, 6)
    assert pd.isna(run["end"])
    assert pd.isna(run["output_tokens"])


def test_a_run_whose_start_was_missed_started_its_duration_before_its_end():
    end = WHO | {"end_reason": "completed", "duration_s": 90.0, "llm_calls": 5}
    (run,) = runs_frame(told((0, "agent_completed", end))).to_dict("records")
    assert run["start"] == START - timedelta(seconds=90)
    assert (run["duration_s"], run["llm_calls"], run["truncated"]) == (90.0, 5, False)


def test_a_run_that_would_have_started_before_all_calendars_has_no_start():
    end = WHO | {"end_reason": "completed", "duration_s": 1e12, "input_tokens": 2**63 - 1, "cached_tokens": "many"}
    call = WHO | {"gen_ai.usage.input_tokens": 2**63 - 1}
    (run,) = runs_frame(told((0, "agent_completed", end), (1, "agent_activity", call))).to_dict("records")
    assert pd.isna(run["start"])
    assert pd.isna(run["cached_tokens"])
    assert run["input_tokens"] == 2**63 - 1


def test_runs_of_the_same_name_in_two_projects_are_two():
    one, other = told((0, "agent_started", WHO)), told((0, "agent_started", WHO), project="gemini")
    assert runs_frame(one + other)["project"].tolist() == ["apollo", "gemini"]


# ---- queues ---------------------------------------------------------------------------------------------------------


def visits(*lines, **attributes):
    """Pipelines on one runner, from (started, queued, ended) seconds."""
    about = [({"pipeline_id": f"p{n}", "runner": "runner-1"}, line) for n, line in enumerate(lines)]
    begin = [(at, "pipeline_started", name | {"queued_s": wait}) for name, (at, wait, _) in about]
    end = [(at, "pipeline_completed", name) for name, (_, _, at) in about]
    return told(*sorted(begin + end, key=lambda line: line[0]), **attributes)


def test_a_queue_stands_beside_little_and_theory():
    (row,) = queues_frame(visits((0, 0.0, 100), (100, 50.0, 200), (300, 0.0, 400))).to_dict("records")
    assert (row["project"], row["queue"], row["servers"], row["arrivals"]) == ("apollo", "runners", 1.0, 3.0)
    assert row["number_mean"] == pytest.approx((300 + 50) / 400)
    assert row["number_little"] == pytest.approx(row["number_mean"])  # it is empty at both ends
    assert row["waiting_little"] == pytest.approx(row["waiting_mean"]) == pytest.approx(50 / 400)
    assert row["utilisation"] == row["mmc_utilisation"] == row["ggc_utilisation"] == 0.75
    assert row["mmc_wait_mean_s"] == pytest.approx(0.75 / 0.25 * 100)
    assert row["service_cv2"] == 0
    assert row["ggc_wait_mean_s"] == pytest.approx(row["mmc_wait_mean_s"] * row["arrival_cv2"] / 2)


def test_every_project_and_simulation_has_its_own_queues_and_time():
    first = visits((0, 0.0, 50), (50, 0.0, 100), simulation="sim-1")
    other = visits((0, 0.0, 50), (150, 0.0, 200), simulation="sim-2", project="gemini")
    frame = queues_frame(first + other).set_index(["simulation", "project"])
    assert frame.loc[("sim-1", "apollo"), "utilisation"] == 1.0
    assert frame.loc[("sim-2", "gemini"), "utilisation"] == 0.5


def test_the_scenario_says_how_many_servers_there_are_and_a_warm_up_is_left_out():
    scenario = Scenario.preset("demo_small")
    frame = queues_frame(stream(), scenario, warmup_h=1).set_index("queue")
    summary = Summary(warmup_h=1, scenario=scenario)
    for event in stream():
        summary.feed(event)
    metrics = summary.metrics()
    assert "runners" in frame.index
    for queue in frame.index:
        for name in ("servers", "arrivals", "utilisation", "wait_mean_s", "number_mean"):
            assert frame.loc[queue, name] == pytest.approx(metrics[f"queues.{queue}.{name}"], nan_ok=True)


def test_theory_keeps_silent_of_pools_without_a_whole_number_of_servers():
    steps = [{"at_h": 0.5, "developers": 5}]
    scenario = Scenario.preset("demo_small").replace({"agents.steps": steps})
    frame = queues_frame(stream(), scenario).set_index("queue")
    assert not frame.loc["agents.developer", "servers"].is_integer()
    assert math.isnan(frame.loc["agents.developer", "mmc_wait_mean_s"])
    assert not math.isnan(frame.loc["agents.developer", "utilisation"])


def test_theory_keeps_silent_where_there_is_no_time_or_it_goes_back():
    stands_still = queues_frame(stream()[:200], Scenario.preset("demo_small"), warmup_h=1_000).set_index("queue")
    assert stands_still["mmc_wait_mean_s"].isna().all()
    one, other = {"pipeline_id": "p", "runner": "r"}, {"pipeline_id": "q", "runner": "r"}
    back = told((9, "pipeline_started", one), (3, "pipeline_completed", one), (20, "pipeline_started", other))
    (row,) = queues_frame(back).to_dict("records")
    assert row["service_mean_s"] == -6
    assert math.isnan(row["ggc_wait_mean_s"])


def test_a_stream_without_queues_has_an_empty_frame():
    assert queues_frame([]).empty
    assert queues_frame(told((0, "lunch_served", {}))).columns.tolist() == queues_frame([]).columns.tolist()


def test_every_type_of_the_catalogue_can_be_framed():
    assert set(events_frame(stream())["type"]) == set(CATALOGUE)


def test_who_has_no_pandas_is_told_what_to_install():
    script = (
        "import sys; sys.modules['pandas'] = None\n"
        "from syndarix_rt.simulation.analysis.frames import runs_frame\n"
        "runs_frame([])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "runs_frame needs: pip install 'syndarix-rt[analysis]'" in done.stderr
