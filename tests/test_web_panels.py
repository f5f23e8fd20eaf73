"""The page counts what the notebook counts: the models of ``web/panels`` beside `syndarix_rt.notebook.panels`."""

from __future__ import annotations

import gzip
import random
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from charting import serving_web
from system_tools import ROOT

from syndarix_rt.events import Event
from syndarix_rt.notebook.metrics import EVENT_SERIES
from syndarix_rt.notebook.panels.catalogue import CHARTS, Axis, make_chart
from syndarix_rt.notebook.panels.inbox import ApprovalInbox
from syndarix_rt.notebook.panels.log import EventLog, Filter, told
from syndarix_rt.notebook.panels.timeline import Timeline

pytestmark = pytest.mark.browser

# What a page does with the steps of `play`, and what it has counted then.
COUNT = """async ([types, axis, steps]) => {
  const [{makeCharts}, {ApprovalInbox}, {EventLog, tell}, {sightingOf}, {Timeline}] = await Promise.all(
    ["catalogue", "inbox", "log", "sighting", "timeline"].map((name) => import(`./panels/${name}.js`)));
  const categories = new Map(types.filter(({category}) => category).map(({name, category}) => [name, category]));
  const charts = makeCharts(types, axis);
  const inbox = new ApprovalInbox();
  const log = new EventLog(categories);
  const timeline = new Timeline([...[...charts.values()].map(({model}) => model), inbox, log], axis);
  for (const [what, ...args] of steps) {
    if (what === "add") timeline.add(sightingOf(args[0]), args[1], args[2]);
    else timeline[what](...args);
  }
  const found = {};
  for (const [name, {model, options}] of charts) {
    found[name] = {rows: [...model.rows()].map(String), gaps: model.gaps.map(({from, to, label}) => [from, to, label]),
      lanes: model.lanes ?? [], span: model.span ?? null, options: [options.title, options.unit, options.binS]};
  }
  found.pending = [...inbox.pending.keys()];
  found.log = log.matching({type: "git", text: "A"}, 50).lines.map((line) => [line.number, line.time, ...tell(line)]);
  found.filters = log.filters;
  return found;
}"""


SEEN = ("id", "type", "time", "data", "recordedtime", "simulation", "subject", "cause")


@pytest.fixture(scope="module")
def static_url():
    with serving_web() as url:
        yield url


def steps(name, seed, count=1200):
    """Events of a recording with pauses, gaps, repeats of its beginning and clocks that run apart.

    From its middle on they are of a second run; at the end come two sprints, the first of which is broken off.
    """
    rng = random.Random(seed)
    content = (ROOT / "sample_data" / name).read_bytes()
    lines = (gzip.decompress(content) if name.endswith(".gz") else content).splitlines()[:count]
    wall_s = 1_790_000_000.0
    found = []
    for offset, line in enumerate(lines, 1):
        wall_s += rng.expovariate(8)
        event = msgspec.json.decode(line)
        if is_second := offset > count // 2:  # as if another simulation had gone on in its place
            event["simulation"] = "sim-after"
        published_s = wall_s + rng.choice([0, 0, 0, -0.7, 0.3])
        event["recordedtime"] = f"{np.datetime64(int(published_s * 1e6), 'us')}Z"
        found.append(["add", msgspec.json.encode(event).decode(), offset if rng.random() > 0.002 else 1, wall_s])
        if rng.random() < 0.05:
            found.append(["advance", wall_s + 0.25])
        # A later gap would hide that the agents of the first run leave by themselves.
        if not is_second and rng.random() < 0.008:
            wall_s += rng.uniform(0, 9)
            found.append(["gap", wall_s, f"gap: {offset} missed"])
        if rng.random() < 0.002:
            wall_s += rng.uniform(50, 700)  # more than a window
    time = np.datetime64(event["time"].rstrip("Z"), "us")
    for offset in (count + 1, count + 2):  # a sprint, and another that breaks it off
        wall_s, time = wall_s + 30, time + np.timedelta64(3600, "s")
        times = {"time": f"{time}Z", "recordedtime": f"{np.datetime64(int(wall_s * 1e6), 'us')}Z"}
        data = {"sprint_id": f"S-{offset}", "number": 1, "issues_planned": offset}
        started = event | times | {"id": f"sprint-{offset}", "type": "sprint_started", "data": data}
        found.append(["add", msgspec.json.encode(started).decode(), offset, wall_s])
    return [*found, ["advance", wall_s + 1]]


def count(found, axis):
    """The same with the notebook's models."""
    charts = {name: make_chart(name, axis) for name in CHARTS}
    inbox, log = ApprovalInbox(), EventLog()
    timeline = Timeline([*(chart.model for chart in charts.values()), inbox, log], simulated=axis.simulated)
    for what, *args in found:
        if what == "add":
            event = Event.decode(args[0].encode())
            sighting = SimpleNamespace(**{key: getattr(event, key) for key in SEEN}, raw=args[0].encode())
            timeline.add(sighting, args[1], args[2])
        else:
            getattr(timeline, what)(*args)
    return charts, inbox, log


@pytest.mark.parametrize("simulated", [False, True])
@pytest.mark.parametrize("name", ["demo_small.jsonl", "ci_outage.jsonl.gz", "incident_storm.jsonl.gz"])
async def test_page_and_notebook_count_the_same(browser, static_url, name, simulated):
    axis = Axis(simulated, 7200.0 if simulated else 60.0)
    found = steps(name, seed=f"{name} {simulated}")
    page = await browser.new_page()
    await page.goto(static_url)
    options = {"isSimulated": simulated, "windowS": axis.window_s}
    seen = await page.evaluate(COUNT, [EVENT_SERIES, options, found])
    await page.close()
    charts, inbox, log = count(found, axis)
    for chart_name, (_, model, options) in charts.items():
        there = seen[chart_name]
        rows = np.array(there["rows"], dtype=float).reshape(model.rows().shape)
        np.testing.assert_allclose(rows, model.rows(), rtol=1e-9, err_msg=chart_name)
        assert there["gaps"] == [list(gap) for gap in model.gaps], chart_name
        assert there["lanes"] == getattr(model, "lanes", []), chart_name
        span = getattr(model, "span_s", None)
        assert there["span"] == (span and list(span)), chart_name
        assert there["options"] == [options["title"], options["unit"], model.bin_s]
    assert seen["pending"] == list(inbox.pending)
    assert seen["filters"] == log.filters
    wanted = Filter(frozenset({"git"}), "A")
    assert seen["log"] == [
        [line.number, line.time_s, told(line)[0], [list(pair) for pair in told(line)[1]]]
        for line in log.matching(wanted, 50)
    ]
    assert charts["events"].model.rows().size > 50


async def test_a_gap_that_was_drawn_elsewhere_is_not_left_there(browser, static_url):
    page = await browser.new_page()
    await page.goto(static_url)
    drawn = await page.evaluate("""async () => {
      const {ChartPanel} = await import("./page/chart-panel.js");
      const {EventRate} = await import("./panels/rates.js");
      const model = new EventRate(["a_a"], {});
      const options = {kind: "bars", series: [{name: "a_a"}], binS: 1, windowS: 60, clock: "utc"};
      const panel = new ChartPanel(document.body.appendChild(document.createElement("div")), {model, options});
      const add = (time) => model.see({type: "a_a"}, time);
      const steps = [() => model.gap(101.5, "gap"), () => add(101.2), () => add(102)];
      return steps.map((step, n) => {
        step();
        panel.push(101.6 + n);
        return panel.chart.readout().gaps.map(({from, to}) => [from, to]);
      });
    }""")
    await page.close()
    assert drawn == [[[101.5, 101.5]], [[101.2, 101.2]], [[101.2, 101.2]]]
