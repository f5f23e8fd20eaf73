"""The counting behind the charts, in Python and in the page's JavaScript."""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syndarix_rt.notebook.metrics import EventRate, Span
from syndarix_rt.notebook.panels.agents import AgentLanes

NAMES = ["a_a", "b_b", "other"]
T0 = 1_795_386_400


def table(rate, since=0):
    return {int(row[0]) - T0: list(row[1:]) for row in rate.rows(since)}


def test_events_count_in_the_bin_of_their_time_and_unknown_types_in_the_last_series():
    rate = EventRate(NAMES)
    for name, seconds in [("a_a", 0.2), ("a_a", 0.9), ("b_b", 1.0), ("c_c", 1.5)]:
        rate.add(name, T0 + seconds)
    assert table(rate) == {0: [2, 0, 0], 1: [0, 1, 1]}


def test_a_rate_is_per_second_whatever_the_bin():
    rate = EventRate(NAMES, bin_s=0.5)
    rate.add("a_a", T0 + 0.1)
    assert rate.rows()[0].tolist() == [T0, 2.0, 0, 0]


def test_between_events_that_follow_each_other_the_rate_is_zero():
    rate = EventRate(NAMES)
    rate.add("a_a", T0)
    rate.add("a_a", T0 + 3)
    assert table(rate) == {0: [1, 0, 0], 1: [0, 0, 0], 2: [0, 0, 0], 3: [1, 0, 0]}


def test_time_goes_on_only_as_far_as_the_open_stream_proves_it():
    rate = EventRate(NAMES)
    rate.add("a_a", T0)
    assert table(rate).keys() == {0}
    rate.advance(T0 + 2.5)
    assert table(rate) == {0: [1, 0, 0], 1: [0, 0, 0], 2: [0, 0, 0]}


def test_within_a_gap_nothing_is_known_not_even_what_was_taken_for_zero():
    rate = EventRate(NAMES)
    rate.add("a_a", T0 + 0.5)
    rate.advance(T0 + 5)  # the connection was dead already, and nobody knew
    rate.gap(T0 + 8.5, "gap")
    rate.add("a_a", T0 + 9.5)
    rows = table(rate)
    assert rows[0] == rows[9] == [1, 0, 0]
    assert all(math.isnan(value) for second in range(1, 6) for value in rows[second])
    assert rows.keys() == {0, 1, 2, 3, 4, 5, 8, 9}  # 8 is known in part, 6 and 7 never were
    assert rate.gaps == [Span(T0 + 0.5, T0 + 8.5, "gap")]


def test_a_gap_ends_where_retained_history_goes_on():
    rate = EventRate(NAMES)
    rate.add("a_a", T0 + 0.5)
    rate.gap(T0 + 8.5, "gap")
    rate.add("b_b", T0 + 4.5)
    rate.add("b_b", T0 + 6.5)
    assert rate.gaps == [Span(T0 + 0.5, T0 + 4.5, "gap")]
    assert table(rate) == {0: [1, 0, 0], 4: [0, 1, 0], 5: [0, 0, 0], 6: [0, 1, 0]}


@pytest.mark.parametrize(("seconds", "at"), [(1.2, 1.2), (1.5, 1.5), (2.2, 1.5)])
def test_a_gap_before_the_first_event_is_never_right_of_it(seconds, at):
    rate, lanes = EventRate(NAMES), AgentLanes()
    rate.gap(T0 + 1.5, "gap")  # the log began anew, and its first events were published before that came
    rate.add("a_a", T0 + seconds)
    rate.add("a_a", T0 + 3)
    lanes.gap(T0 + 1.5, "gap")
    lanes.prove(T0 + seconds)
    assert rate.gaps == lanes.gaps == [Span(T0 + at, T0 + at, "gap")]


def test_far_times_neither_grow_memory_nor_take_long():
    rate = EventRate(NAMES, bins=10)
    for seconds in (0, 1e9, -1e9, 1e9 + 3):
        rate.add("a_a", T0 + seconds)
    assert sorted(table(rate)) == [int(1e9) + second for second in range(-6, 4)]


operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(["a_a", "b_b", "c_c"]), st.floats(-30, 60, width=32)),
        st.tuples(st.just("advance"), st.floats(-30, 60, width=32)),
        st.tuples(st.just("gap"), st.floats(-30, 60, width=32)),
    ),
    max_size=25,
)


def perform(rate, steps):
    for name, *values in steps:
        match name:
            case "add":
                rate.add(values[0], T0 + values[1])
            case "advance":
                rate.advance(T0 + values[0])
            case "gap":
                rate.gap(T0 + values[0], "gap")


@given(steps=operations, cut=st.integers(0, 25))
def test_what_changed_completes_what_was_known(steps, cut):
    rate = EventRate(NAMES, bins=200)
    perform(rate, steps[:cut])
    known, version = table(rate), rate.version
    perform(rate, steps[cut:])
    known.update(table(rate, since=version))
    np.testing.assert_equal(known, table(rate))


@given(times=st.lists(st.tuples(st.sampled_from(["a_a", "b_b", "c_c"]), st.floats(0, 60, width=32)), min_size=1))
def test_without_a_gap_every_event_is_counted_and_no_second_is_left_out(times):
    rate = EventRate(NAMES)
    perform(rate, [("add", *item) for item in times])
    expected = Counter((name if name != "c_c" else "other", math.floor(T0 + seconds) - T0) for name, seconds in times)
    rows = table(rate)
    assert {
        (name, second): int(count)
        for second, row in rows.items()
        for name, count in zip(NAMES, row, strict=True)
        if count
    } == expected
    assert sorted(rows) == list(range(min(rows), max(rows) + 1))


@pytest.mark.browser
async def test_the_page_counts_by_the_same_rules(browser):
    cases = []

    @settings(max_examples=500, database=None, derandomize=True)
    @given(steps=operations)
    def collect(steps):
        cases.append(steps)

    collect()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(files("syndarix_rt") / "web")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{server.server_port}/icon.svg")
        found = await page.evaluate(
            """async ([cases, names, t0]) => {
              const {EventRate} = await import("./panels/rates.js");
              return JSON.stringify(cases.map((steps) => {
                const rate = new EventRate(names, {bins: 40});
                for (const [name, ...values] of steps) {
                  if (name === "add") rate.see({type: values[0]}, t0 + values[1]);
                  if (name === "advance") rate.advance(t0 + values[0]);
                  if (name === "gap") rate.gap(t0 + values[0], "gap");
                }
                return [[...rate.rows()], rate.gaps.map(({from, to}) => [from, to])];
              }));
            }""",
            [cases, NAMES, T0],
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    for steps, (rows, gaps) in zip(cases, json.loads(found), strict=True):
        rate = EventRate(NAMES, bins=40)
        perform(rate, steps)
        mine = [None if math.isnan(value) else value for value in rate.rows().ravel()]  # JSON has no NaN
        assert (mine, [[gap.start_s, gap.end_s] for gap in rate.gaps]) == (rows, gaps), steps
