"""Chart widgets without a browser: what they send, and that they leave nothing behind."""

from __future__ import annotations

import gc
import json
import math
import weakref

import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances

from syndarix_rt.notebook.chart_widget import ChartWidget
from syndarix_rt.notebook.metrics import EVENT_SERIES, EventRate, Span
from syndarix_rt.notebook.panels.agents import AgentLanes

T0 = 1_795_386_400


class RecordingChart(ChartWidget):
    """Keeps what it would send."""

    def __init__(self, model, **options):
        self.sent = []
        super().__init__(model, {"title": "Test"} | options)

    def send(self, content, buffers=None):
        json.dumps(content, allow_nan=False)  # Jupyter sends it as JSON, which browsers read
        width = self._model.rows().shape[1]
        self.sent.append((content, np.frombuffer(buffers[0]).reshape(-1, width).tolist()))

    def taken(self):
        sent, self.sent = self.sent, []
        return [(content["op"], content["seq"], rows) for content, rows in sent]

    def view_asks(self):
        self._handle_custom_msg({"op": "ready"}, [])


class Lanes:
    """A model that has all that a model may have."""

    bin_s = 0.125

    def __init__(self):
        self.version = self.cleared = 0
        self.gaps, self.lanes, self.span_s, self.start_s = [], ["Ada"], None, None
        self.changes = []

    def add(self, *row):
        self.version += 1
        self.changes.append((self.version, row))

    def rows(self, since=0):
        return np.array([row for version, row in self.changes if version > since], float).reshape(-1, 3)


@pytest.fixture
def rate():
    rate = EventRate(["a_a", "other"])
    rate.add("a_a", T0)
    return rate


def test_a_view_begins_with_everything_and_then_gets_what_changed(rate):
    chart = RecordingChart(rate)
    chart.push(T0 + 0.1)
    rate.add("a_a", T0 + 0.5)
    rate.add("b_b", T0 + 1.5)
    chart.push(T0 + 1.6)
    rate.add("b_b", T0 + 1.7)
    chart.push(T0 + 1.8)
    assert chart.taken() == [
        ("reset", 1, [[T0, 1, 0]]),
        ("rows", 2, [[T0, 2, 0], [T0 + 1, 0, 1]]),
        ("rows", 3, [[T0 + 1, 0, 2]]),
    ]
    chart.view_asks()  # another view, a reload, or a message that got lost
    chart.push(T0 + 1.9)
    assert chart.taken() == [("reset", 4, [[T0, 2, 0], [T0 + 1, 0, 2]])]


def test_without_news_it_is_silent_but_for_the_time_axis(rate):
    chart = RecordingChart(rate)
    for tenth in range(30):
        chart.push(T0 + tenth / 10)
    assert [operation for operation, *_ in chart.taken()] == ["reset", "rows", "rows"]


def test_gaps_are_sent_once_and_again_when_they_shrink(rate):
    chart = RecordingChart(rate)
    chart.push(T0 + 1)
    rate.gap(T0 + 5, "gap: 3 missed")
    chart.push(T0 + 5)
    rate.add("a_a", T0 + 3)
    chart.push(T0 + 5.1)
    chart.push(T0 + 6.1)
    assert [[list(gap) for gap in content["gaps"]] for content, _ in chart.sent] == [
        [],
        [[T0, T0 + 5, "gap: 3 missed"]],
        [[T0, T0 + 3, "gap: 3 missed"]],
        [],
    ]


def test_a_gap_that_was_told_elsewhere_is_not_left_there():
    rate = EventRate(["a_a", "other"])
    chart = RecordingChart(rate)
    rate.gap(T0 + 1.5, "gap: unknown")
    chart.push(T0 + 1.6)
    rate.add("a_a", T0 + 1.2)  # which is where it was
    chart.push(T0 + 1.7)
    chart.push(T0 + 2.1)
    assert [(content["op"], content["gaps"]) for content, _ in chart.sent] == [
        ("reset", [(T0 + 1.5, T0 + 1.5, "gap: unknown")]),
        ("reset", [(T0 + 1.2, T0 + 1.2, "gap: unknown")]),
        ("rows", []),
    ]


def test_an_ended_chart_still_answers_a_new_view(rate):
    chart = RecordingChart(rate)
    chart.push(T0 + 1)
    chart.end(T0 + 2, "Ended 12:00")
    rate.add("a_a", T0 + 3)
    chart.push(T0 + 3)
    chart.taken()
    chart.view_asks()
    assert chart.sent[0][0]["text"] == "Ended 12:00"
    assert chart.taken() == [("reset", 3, [[T0, 1, 0]])]


def test_lanes_gaps_and_spans_are_told_as_they_change_and_all_again_where_only_that_helps():
    model = Lanes()
    chart = RecordingChart(model, kind="lanes", windowS=50)
    model.add(T0, 0, 0)
    chart.push(T0 + 1)
    (first, rows), *rest = chart.sent
    assert rest == []
    assert first == {
        "op": "reset", "seq": 1, "now": T0 + 1, "text": "",
        "gaps": [], "span": None, "lanes": ["Ada"],
    }  # fmt: skip
    assert rows == [[T0, 0, 0]]

    model.gaps.append(Span(T0 + 1.2, T0 + 1.5, "gap"))
    model.add(T0 + 2, 0, 1)
    chart.push(T0 + 2)
    model.span_s = (T0, None)
    model.version += 1
    chart.push(T0 + 2)
    chart.push(T0 + 2)
    news = [{key: content.get(key) for key in ("op", "gaps", "span")} for content, _ in chart.sent[1:]]
    assert news == [
        {"op": "rows", "gaps": [(T0 + 1.2, T0 + 1.5, "gap")], "span": None},
        {"op": "rows", "gaps": [], "span": (T0, None)},
    ]
    assert "span" not in chart.sent[1][0]
    chart.taken()

    both = [[T0, 0, 0], [T0 + 2, 0, 1]]
    for attribute, value in {
        "lanes": ["Bob", "Ada"],  # the numbers of lanes may be others now
        "start_s": T0 - 86_400,
        "cleared": 1,
    }.items():
        setattr(model, attribute, value)
        chart.push(T0 + 2)
        assert chart.taken()[0][::2] == ("reset", both), attribute
    chart.push(T0 + 1)  # time itself begins anew
    assert chart.taken()[0][::2] == ("reset", both)


def test_time_goes_on_in_steps_that_can_be_seen_and_not_before_it_is_known():
    chart = RecordingChart(Lanes())
    for _ in range(3):
        chart.push(math.nan)
    assert [(content["op"], content["now"]) for content, _ in chart.sent] == [("reset", None)]
    for step in range(64):
        chart.push(T0 + step / 64)
    assert [content["now"] - T0 for content, _ in chart.sent[1:]] == [n / 8 for n in range(8)]


def test_no_data_are_in_what_a_saved_notebook_keeps():
    rate = EventRate([line["name"] for line in EVENT_SERIES])
    chart = ChartWidget(rate, {"title": "Test", "series": EVENT_SERIES})
    before = len(json.dumps(chart.get_state(), default=str))
    for second in range(600):
        rate.add("agent_activity", T0 + second)
        chart.push(T0 + second)
    assert len(json.dumps(chart.get_state(), default=str)) == before
    assert before < 62_000  # of which the modules are 50,000
    assert repr(chart) == "<ChartWidget 'Test'>"


def test_a_closed_widget_is_let_go():
    gc.collect()
    before = len(_instances)
    rate = EventRate(["a_a", "other"])
    chart = ChartWidget(rate, {"title": "Test", "series": []})
    kept = weakref.ref(chart)
    assert len(_instances) > before
    chart.layout.close()
    chart.close()
    del chart
    gc.collect()
    assert len(_instances) == before
    assert kept() is None


@pytest.mark.parametrize("model", [EventRate(["a_a", "other"]), AgentLanes()])
def test_when_time_begins_anew_no_view_keeps_what_was_before(model):
    chart = RecordingChart(model)
    if isinstance(model, EventRate):
        model.add("a_a", T0)
    chart.push(T0 + 5)
    chart.taken()
    model.clear()
    chart.push(T0 + 6)  # later than before: time alone does not tell
    assert [(operation, rows) for operation, _, rows in chart.taken()] == [("reset", [])]
