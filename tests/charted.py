"""What the charts of a dashboard must show of a frame: counted once more, from its rows alone.

The bins are those of a dashboard by wall time: a second each.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from typing import Any, NamedTuple

import pytest

STEP_S = 0.1
"""What a lane of a minute's window tells apart; a boundary may be drawn so much too early."""

ROLES = ("developer", "planner", "tester", "reviewer")
STATES = {
    "open": "open", "reopened": "open", "assigned": "assigned", "in_progress": "in progress",
    "in_review": "in review", "blocked": "blocked",
}  # fmt: skip


class Told(NamedTuple):
    """A row of a frame."""

    at: float  # on the axis: when it was published, seconds since 1970
    when: float  # the event's own time
    type: str
    series: str
    simulation: str
    data: dict[str, Any]


def epochs_of(frame):
    """The rows of each epoch."""
    epochs = []
    for _, rows in itertools.groupby(frame.to_dict("records"), key=lambda row: row["epoch"]):
        events = []
        for row in rows:
            data = {
                key.removeprefix("data."): value
                for key, value in row.items()
                if key.startswith("data.") and not _is_missing(value)
            }
            at = min(row["recordedtime"], row["received"]).timestamp()
            series = row["type"] if isinstance(row["category"], str) else "custom types"
            simulation = row["simulation"] if isinstance(row["simulation"], str) else ""
            events.append(Told(at, row["time"].timestamp(), row["type"], series, simulation, data))
        epochs.append(events)
    return epochs


def _is_missing(value):
    return value is None or (isinstance(value, float) and math.isnan(value))


def bin_of(time_s):
    return math.floor(time_s)


# ---- what happened in each bin ---------------------------------------------------------------------------------------


def events_by_type(event):
    return {event.series: 1}


def tokens(event):
    put_in = event.data.get("gen_ai.usage.input_tokens", 0)
    cached = min(event.data.get("cached_tokens", 0), put_in)
    output = event.data.get("gen_ai.usage.output_tokens", 0)
    return {"output": output, "input": put_in - cached, "input from cache": cached}


# ---- what there is at the end of each bin: (event, levels) for each event that changes something ---------------------


def cost(events):
    spent = Counter()
    for event in events:
        if event.type == "agent_activity" and event.data.get("cost_usd"):
            role = event.data["role"]
            spent[role if role in ROLES else "other roles"] += event.data["cost_usd"]
            yield event, dict(spent)


def git(events):
    counts, requests = Counter(), {}
    for event in events:
        match event.type:
            case "commit_pushed":
                counts["commits"] += 1
            case "branch_created":
                counts["branches"] += 1
            case "pr_created":
                requests[event.data["pr_id"]] = "pull requests open"
            case "pr_merged":
                requests[event.data["pr_id"]] = "merged"
            case "pr_closed":
                requests[event.data["pr_id"]] = "closed unmerged"
            case _:
                continue
        yield event, {**counts, **Counter(requests.values())}


def issues(events):
    states = {}
    for event in events:
        match event.type:
            case "issue_created":
                states[event.data["issue_id"]] = STATES[event.data.get("state", "open")]
            case "issue_updated" if event.data.get("state") in STATES:
                states[event.data["issue_id"]] = STATES[event.data["state"]]
            case "issue_updated":
                states.setdefault(event.data["issue_id"], "open")
            case "issue_closed":
                is_done = event.data.get("resolution", "done") == "done"
                states[event.data["issue_id"]] = "done" if is_done else "dropped"
            case _:
                continue
        yield event, dict(Counter(states.values()))


def pipelines(events):
    """Those that run, and requests that must be green and wait for one; failures are in `failures`."""
    running, required, waiting = set(), set(), set()
    for event in events:
        pr_id, pipeline_id = event.data.get("pr_id"), event.data.get("pipeline_id")
        match event.type:
            case "pipeline_started":
                running.add(pipeline_id)
                waiting.discard(pr_id)
            case "pipeline_completed" | "pipeline_failed":
                running.discard(pipeline_id)
                if event.data.get("reason") == "infra" and pr_id in required:
                    waiting.add(pr_id)
            case "pr_created" if event.data.get("require_green"):
                required.add(pr_id)
                waiting.add(pr_id)
            case "issue_updated" if event.data.get("state") == "in_review" and pr_id in required:
                waiting.add(pr_id)
            case "pr_merged" | "pr_closed":
                required.discard(pr_id)
                waiting.discard(pr_id)
            case _:
                continue
        yield event, {"running": len(running), "waiting for a runner": len(waiting)}


def failures(event):
    return {"just failed": int(event.type == "pipeline_failed")}


def sprint(events):
    """With the ideal at each event's time; levels None: there is no sprint."""
    sprint_id, start, duration, scope, closed = None, 0.0, 0.0, 0, 0
    for event in events:
        mine = sprint_id is not None and event.data.get("sprint_id") == sprint_id
        match event.type:
            case "sprint_started":
                sprint_id, start, duration = event.data["sprint_id"], event.when, event.data["duration_s"]
                scope, closed = event.data.get("issues_planned", 0), 0
            case "sprint_completed" if sprint_id is not None:
                sprint_id = None
                yield event, None
            case "issue_created" if mine:
                scope += 1
            case "issue_closed" if mine:
                closed += 1
        if sprint_id is not None:
            ideal = scope * min(max((event.when - start) / duration, 0.0), 1.0)
            yield event, {"sprint": sprint_id, "scope": scope, "closed": closed, "ideal": ideal}


SUMS = {"events": (events_by_type,), "tokens": (tokens,), "pipelines": (failures,)}
LEVELS = {"cost": cost, "git": git, "issues": issues, "pipelines": pipelines}


class Levels:
    """What a chart of levels shows at the end of each bin."""

    def __init__(self, epochs, change):
        self.by_epoch = []
        for events in epochs:
            newest, found = -math.inf, {}
            for event, levels in change(events):
                newest = max(newest, event.at)
                found.setdefault(bin_of(newest), []).append(levels)
            self.by_epoch.append((bin_of(events[0].at), bin_of(max(event.at for event in events)), found))

    def in_bin(self, bin_, *, before):
        """All levels that were set in a bin, or in the last one before; None: the frame does not tell.

        Args:
            bin_: which.
            before: what there is before the first.
        """
        for number, (first, last, found) in reversed(list(enumerate(self.by_epoch))):
            is_newest = number == len(self.by_epoch) - 1
            if bin_ in found:
                return found[bin_]
            if (bin_ == first and number) or (bin_ > last and not is_newest):
                return None  # an epoch begins in it, or it lies between two
            if bin_ > first:
                earlier = [at for at in found if at < bin_]
                return found[max(earlier)] if earlier else [before]
        return [before]


def between_epochs(epochs):
    """Bins of which the frame does not tell what is known: an epoch ends in the one before them, and begins after."""
    found = set()
    for old, new in itertools.pairwise(epochs):
        found.update(range(bin_of(max(event.at for event in old)) + 1, bin_of(new[0].at)))
    return found


def differences(charts, frame):
    """Where what the charts have drawn (their readouts, by name) differs from what a frame says.

    Yields:
        The chart, what of it, what is drawn, what was expected.
    """
    epochs = epochs_of(frame)
    if not epochs:
        return
    first, last = bin_of(epochs[0][0].at), bin_of(max(event.at for event in epochs[-1]))
    between = between_epochs(epochs)
    for name, chart in charts.items():
        yield from _gaps(name, chart, epochs)
        if name == "agents":
            yield from _lanes(chart, epochs)
            continue
        points = {line["name"]: dict(map(tuple, line["points"])) for line in chart["series"]}
        drawn = set().union(*points.values())
        window = range(max(first, bin_of(chart["from"])), min(last, math.ceil(chart["to"]) - 1) + 1)
        if name == "sprint":
            yield from _sprint(points, window, epochs)
            continue
        missing = set(window) - drawn - between
        if missing:
            yield name, "bins without a value", sorted(missing), []
        told = set()
        for amounts in SUMS.get(name, ()):
            sums = defaultdict(Counter)
            for event in itertools.chain(*epochs):
                for series, amount in amounts(event).items():
                    sums[series][bin_of(event.at)] += amount
            told |= set(sums)
            for series, counts in sums.items():
                expected = {at: count for at, count in counts.items() if count and at >= chart["from"]}
                shown = {at: value for at, value in points[series].items() if value}
                if shown != expected:
                    yield name, series, shown, expected
        if name in LEVELS:
            levels = Levels(epochs, LEVELS[name])
            for series in points.keys() - told:
                told.add(series)
                for at, value in points[series].items():
                    expected = levels.in_bin(int(at), before={})
                    if expected is not None and value != pytest.approx(expected[-1].get(series, 0)):
                        yield name, f"{series} at {at}", value, expected[-1]
        if any(any(points[series].values()) for series in points.keys() - told):
            yield name, "series that no event tells of", points.keys() - told, set()


def _gaps(name, chart, epochs):
    drawn = [(gap["from"], gap["to"]) for gap in chart["gaps"]]
    for old, new in itertools.pairwise(epochs):
        start, end = max(event.at for event in old), new[0].at
        if start <= chart["from"] or start >= chart["to"]:
            continue
        if not any(a == pytest.approx(start, abs=1e-3) and a <= b <= end + 1e-3 for a, b in drawn):
            yield name, "gaps", drawn, (start, end)


def _sprint(points, window, epochs):
    levels = Levels(epochs, sprint)
    # One bin before a sprint begins there is none, so that no line joins it to the last one.
    before_start = {bin_of(event.at) - 1 for event in itertools.chain(*epochs) if event.type == "sprint_started"}
    for at in window:
        found = levels.in_bin(at, before=None)
        if found is None:
            continue
        shown = {series: values[at] for series, values in points.items() if at in values}
        last = found[-1]
        if last is None or at in before_start:
            if shown:
                yield "sprint", at, shown, "none"
            continue
        ideals = [each["ideal"] for each in found if each is not None and each["sprint"] == last["sprint"]]
        is_exact = shown.get("scope") == last["scope"] and shown.get("closed") == last["closed"]
        is_even = min(ideals) - 1e-9 <= shown.get("ideal", math.nan) <= max(ideals) + 1e-9
        if not (is_exact and is_even):
            yield "sprint", at, shown, (last, ideals)


# ---- the agents' lanes -----------------------------------------------------------------------------------------------


def intervals_of(events, end_s):
    """The states of one agent in one epoch, from its first event on: (from, to, state)."""
    parts = ((start, end, state) for start, end, state in _parts_of(events, end_s) if end > start)
    for state, run in itertools.groupby(parts, key=lambda part: part[2]):
        (start, end, _), *rest = run
        yield start, rest[-1][1] if rest else end, state


def _parts_of(events, end_s):
    """Calls, and the time between them."""
    runs, before = set(), None
    for event in events:
        state = "in a call" if runs else "idle"
        if before is not None and event.type == "agent_activity":
            passed_s = event.when - before.when
            pace = (event.at - before.at) / passed_s if passed_s > 0 else 0.0
            begun = max(event.at - event.data.get("duration_s", 0.0) * pace, before.at)
            kind = "tool" if event.data.get("gen_ai.operation.name") == "execute_tool" else "LLM"
            kind = "error" if event.data.get("status") == "error" else kind
            yield before.at, begun, "waiting" if begun - before.at > STEP_S else kind
            yield begun, event.at, kind
        elif before is not None:
            yield before.at, event.at, state
        if event.type in ("agent_started", "agent_activity"):
            runs.add(event.data["run_id"])
        else:
            runs.discard(event.data["run_id"])
        before = event
    yield before.at, end_s, "in a call" if runs else "idle"


def _lanes(chart, epochs):
    lanes = {lane["name"]: lane["spans"] for lane in chart["lanes"]}
    agents = {}  # by name: the states in the epochs in which it is
    for number, events in enumerate(epochs):
        is_newest = number == len(epochs) - 1
        end_s = chart["to"] if is_newest else max(event.at for event in events)
        by_agent = defaultdict(list)
        for event in events:
            if event.type.startswith("agent_"):
                by_agent[event.data["agent_id"], event.simulation].append(event)
        for (agent_id, simulation), seen in by_agent.items():
            full = f"{agent_id} ({simulation[-4:]})"  # where two simulations have one of that name
            name = full if full in lanes else agent_id
            if name in lanes:
                agents.setdefault(name, []).extend(intervals_of(seen, end_s))
            elif is_newest:
                yield "agents", "lanes", list(lanes), agent_id
    if lanes.keys() != agents.keys():
        yield "agents", "lanes", list(lanes), list(agents)
    long_s = 2.5 * STEP_S  # then its middle is in it, however it is drawn
    looked_at = 0
    for name, states in agents.items():
        for start, end, state in states:
            start, end = max(start, chart["from"]), min(end, chart["to"])  # noqa: PLW2901 - what of it is seen
            if end - start > long_s:
                looked_at += 1
                drawn = _state_at(lanes[name], (start + end) / 2)
                if drawn != state:
                    yield "agents", f"{name} from {start} to {end}", drawn, state
        for span in lanes[name]:
            middle = (span["from"] + span["to"]) / 2
            known = any(start - STEP_S <= middle <= end + STEP_S for start, end, _ in states)
            if span["state"] is not None and span["to"] - span["from"] > long_s and not known:
                yield "agents", name, span, "unknown"
    if not looked_at:
        yield "agents", "states", "none long enough to be seen", "some"


def _state_at(spans, time_s):
    return next((span["state"] for span in spans if span["from"] <= time_s < span["to"]), None)
