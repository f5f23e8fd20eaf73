"""Chart widget and dashboard without a browser: what they send, and that they leave nothing behind."""

from __future__ import annotations

import gc
import json
import weakref

import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances

from syndarix_rt.notebook.chart_widget import ChartWidget
from syndarix_rt.notebook.metrics import EVENT_SERIES, EventRate

T0 = 1_795_386_400


class RecordingChart(ChartWidget):
    """Keeps what it would send."""

    def __init__(self, rate):
        self.sent = []
        super().__init__(rate, {"title": "Test", "series": [{"name": name} for name in rate.names]})

    def send(self, content, buffers=None):
        json.dumps(content)  # Jupyter sends it as JSON
        self.sent.append((content, np.frombuffer(buffers[0]).reshape(-1, 1 + len(self._rate.names)).tolist()))

    def taken(self):
        sent, self.sent = self.sent, []
        return [(content["op"], content["seq"], rows) for content, rows in sent]

    def view_asks(self):
        self._handle_custom_msg({"op": "ready"}, [])


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


def test_no_data_are_in_what_a_saved_notebook_keeps():
    rate = EventRate([line["name"] for line in EVENT_SERIES])
    chart = ChartWidget(rate, {"title": "Test", "series": EVENT_SERIES})
    before = len(json.dumps(chart.get_state(), default=str))
    for second in range(600):
        rate.add("agent_activity", T0 + second)
        chart.push(T0 + second)
    assert len(json.dumps(chart.get_state(), default=str)) == before
    assert before < 40_000
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
