"""Notebooks 03 and 07: executed without a browser, 03 also in a real JupyterLab; what they hold as they are stored."""

from __future__ import annotations

import asyncio
import json
import re
import time
from xml.etree import ElementTree as ET

import nbformat
import pytest
from lab import open_notebook
from nbclient import NotebookClient
from system_tools import ROOT

from syndarix_rt.notebook.panels.catalogue import CHARTS
from syndarix_rt.verification import PLANTED

LIVE, GUARANTEES = "03_live_dashboard", "07_what_delivery_guarantees_mean"


@pytest.fixture(autouse=True)
def _private_jupyter(tmp_path, monkeypatch):
    """Kernels without this user's settings."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("SYNDARIX_RT_EMBEDDED_LINGER_S", "0.5")


def stored(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def execute(name, tmp_path):
    """The cells with their outputs, by id; without the time that is there for people to watch."""
    notebook = stored(name)
    for cell in notebook.cells:
        cell.source = re.sub(r"asyncio\.sleep\([68]\)", "asyncio.sleep(1.5)", cell.source)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=120, store_widget_state=False, resources=resources)
    return {cell.id: cell for cell in client.execute().cells}


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def rows(cell):
    """The cells of a frame, row by row."""
    (html,) = [output.data["text/html"] for output in cell.outputs if "text/html" in output.get("data", {})]
    body = ET.fromstring(html[html.index("<tbody>") : html.index("</tbody>") + len("</tbody>")])
    return [[cell.text for cell in row] for row in body]


def still(cell):
    """The charts of a still picture."""
    (svg,) = [output.data["image/svg+xml"] for output in cell.outputs if "image/svg+xml" in output.get("data", {})]
    return [node for node in ET.fromstring(svg).iter() if node.get("class") == "srt-still"]


@pytest.mark.parametrize("name", [LIVE, GUARANTEES])
def test_it_is_stored_with_its_outputs_and_no_widget_state(name):
    notebook = stored(name)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    text = json.dumps(notebook)
    assert "widget-view" not in text
    assert "?key=" not in text
    cells = {cell.id: cell for cell in notebook.cells}
    published, received = re.search(r"([\d,]+) published = ([\d,]+)", printed(cells["check"])).groups()
    missed = re.search(r"([\d,]+) declared missing", printed(cells["check"]))
    numbers = [int(number.replace(",", "")) for number in (published, received, missed[1] if missed else "0")]
    assert numbers[0] == numbers[1] + numbers[2] > 0
    assert len(still(cells["watch"])) == (len(CHARTS) if name == LIVE else 1)


def test_a_live_dashboard_runs_to_its_end_without_a_browser(tmp_path):
    cells = execute(LIVE, tmp_path)
    assert printed(cells["steer"]) == "25 events in a step of 25\n"
    assert len(still(cells["watch"])) == len(CHARTS)
    assert "0 undeclared holes, 0 duplicates, 0 reconnects" in printed(cells["check"])


def test_losses_are_declared_drawn_and_add_up(tmp_path):
    cells = execute(GUARANTEES, tmp_path)
    assert "400 events, 0 gaps" in printed(cells["short"])
    assert "reason='trimmed'" in printed(cells["long"])
    assert "reason='epoch'" in printed(cells["reset"])
    assert [row[:3] for row in rows(cells["losses"])] == [["0", "True", "trimmed"], ["1", "True", "epoch"]]
    (events,) = still(cells["picture"])
    gaps = [node for node in events.iter() if node.get("class") == "srt-gap"]
    assert len(gaps) == 2
    assert max(float(gap.get("width")) for gap in gaps) > 20, "three of thirty seconds"
    assert "2 gaps, 0 undeclared holes, 0 duplicates, 2 reconnects" in printed(cells["check"])
    accused = {row[1] for row in rows(cells["planted"])}
    assert [row[0] for row in rows(cells["planted"])] == list(PLANTED.values())
    assert {row[0] for row in rows(cells["verify"]) if row[-1] != "0"} == accused
    assert len(accused) == len(PLANTED) < len(rows(cells["verify"])) == 14


# ---- notebook 03 in JupyterLab ------------------------------------------------------------------------------------

DEADLINE_S = 40

# From the rows of the frame alone, by chart and series: [[second of publication, value], …].
AGGREGATE = """
import json
f = bench.frame()
f = f[f["epoch"] == f["epoch"].iloc[-1]]
second = f["recordedtime"].dt.floor("1s").astype("int64") // 1_000_000
def columns(*names):
    return [f[name] if name in f else f["offset"] * 0.0 for name in names]
def sums(values):
    return [[int(at), float(value)] for at, value in values.groupby(second).sum().items() if value]
def so_far(values):  # at each second in which it changes
    return [[int(at), float(value)] for at, value in values.cumsum()[values != 0].groupby(second).last().items()]
output, put_in, cached, cost = (
    column.fillna(0.0).astype(float) for column in columns(
        "data.gen_ai.usage.output_tokens", "data.gen_ai.usage.input_tokens", "data.cached_tokens", "data.cost_usd")
)
sprint, ended = f[f["type"].str.startswith("sprint_")].iloc[-1][["data.sprint_id", "type"]]
ended = ended == "sprint_completed"
kind = f["type"].where(f["category"].notna(), "custom types")
print(json.dumps({
    "events": {name: sums((kind == name).astype(int)) for name in kind.unique()},
    "tokens": {"output": sums(output), "input": sums(put_in - cached), "input from cache": sums(cached)},
    "cost": {
        role: so_far(cost.where((f["type"] == "agent_activity") & (f["data.role"] == role), 0.0))
        for role in ("developer", "planner")
    },
    "git": {
        name: so_far((f["type"] == of).astype(int))
        for name, of in (("commits", "commit_pushed"), ("branches", "branch_created"), ("merged", "pr_merged"))
    },
    "pipelines": {"just failed": sums((f["type"] == "pipeline_failed").astype(int))},
    "agents": sorted(set(f["data.agent_id"].dropna())),
    "issues": int((f["type"] == "issue_created").sum()),
    "closed": None if ended else int(((f["type"] == "issue_closed") & (f["data.sprint_id"] == sprint)).sum()),
}))
"""
EXACT = ("events", "tokens", "pipelines")
"""Where nothing but these points is drawn; levels are drawn on between their changes, too."""


async def drawn(page):
    """What each chart of the dashboard has drawn, by name."""
    charts = await page.evaluate("[...document.querySelectorAll('.srt-chart')].map(({chart}) => chart.readout())")
    return dict(zip(CHARTS, charts, strict=True))


def differences(charts, whole):
    """Where what is drawn differs from the aggregate, as far as the window reaches back."""
    for name in ("events", "tokens", "cost", "git", "pipelines"):
        chart = charts[name]
        points = {line["name"]: dict(map(tuple, line["points"])) for line in chart["series"]}
        for series, values in whole[name].items():
            expected = {at: value for at, value in values if at >= chart["from"]}
            shown = {at: value for at, value in points[series].items() if value and (at in expected or name in EXACT)}
            if shown != pytest.approx(expected):
                yield name, series, shown, expected
    if sorted(lane["name"] for lane in charts["agents"]["lanes"]) != whole["agents"]:
        yield "agents", charts["agents"]["lanes"], whole["agents"]
    last = sum(line["points"][-1][1] for line in charts["issues"]["series"] if line["points"])
    if last != whole["issues"]:
        yield "issues", last, whole["issues"]
    if whole["closed"] is not None:  # else the sprint is over
        closed = next(line["points"][-1][1] for line in charts["sprint"]["series"] if line["name"] == "closed")
        if closed != whole["closed"]:
            yield "sprint", closed, whole["closed"]


async def press(page, name):
    """Press a button as soon as it can be pressed."""
    button = page.get_by_role("button", name=name, exact=True).first
    async with asyncio.timeout(DEADLINE_S):
        while not (await button.count() and await button.is_enabled()):
            await asyncio.sleep(0.05)
    await button.evaluate("(button) => button.click()")


@pytest.mark.lab
@pytest.mark.timeout(300)  # JupyterLab alone takes 20 s to come up on a busy machine
async def test_in_jupyterlab_every_chart_draws_what_the_frame_has_and_every_button_steers(browser, tmp_path):
    notebook = stored(LIVE)
    places = {cell.id: place for place, cell in enumerate(notebook.cells)}
    for cell in notebook.cells:
        cell.source = re.sub(r"asyncio\.sleep\([68]\)", "asyncio.sleep(1.5)", cell.source)
        if cell.cell_type == "code":
            cell.outputs = []
    copy = tmp_path / f"{LIVE}.ipynb"
    nbformat.write(notebook, copy)
    async with open_notebook(browser, copy) as opened:
        page = opened.page
        codes = [place for place, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        for place in codes[:2]:
            await opened.run(place)
        await page.wait_for_function(f"document.querySelectorAll('.srt-chart').length === {len(CHARTS)}")
        assert await opened.run(places["steer"]) == "25 events in a step of 25\n"

        # The buttons: faults, a decision on what waits, pause, steps, speed, stop.
        counting = await opened.append("print(len(bench.frame()))")
        deciding = await opened.append(
            "f = bench.frame()\nif 'data.by' not in f: f['data.by'] = None\n"
            "print(f[(f['type'] == 'approval_resolved') & (f['data.by'] == 'notebook')]['data.decision'].tolist())"
        )
        for fault in ("CI outage", "provider brownout", "incident storm"):
            await press(page, f"Inject {fault}")
            await page.wait_for_function(
                "document.querySelector('.srt-control .srt-live .srt-answer').textContent === ''"
            )
        waiting = page.locator(".srt-approvals button", has_text="Approve").first
        while True:  # until one waits while the run is paused: the simulated people answer, too
            await waiting.wait_for(timeout=DEADLINE_S * 1000)
            await press(page, "Pause")
            await page.get_by_role("button", name="Resume").wait_for()
            if await waiting.count():
                break
            await press(page, "Resume")
        await waiting.evaluate("(button) => button.click()")
        async with asyncio.timeout(DEADLINE_S):
            while (await opened.run(deciding)).strip() != "['approved']":
                await asyncio.sleep(0.1)
        before = int(await opened.run(counting))
        await press(page, "Step 1")
        await press(page, "Step 100")
        async with asyncio.timeout(DEADLINE_S):
            while int(await opened.run(counting)) < before + 101:
                await asyncio.sleep(0.1)
        assert int(await opened.run(counting)) == before + 101
        await press(page, "Resume")
        await page.get_by_role("button", name="Pause").wait_for()
        await page.get_by_label("speed", exact=True).select_option("600")
        await press(page, "Stop")
        await page.get_by_role("button", name="Play", exact=True).wait_for()

        # What each chart has drawn is what the frame says.
        whole = json.loads(await opened.run(await opened.append(AGGREGATE)))
        assert sum(n for values in whole["events"].values() for _, n in values) > before
        deadline = time.monotonic() + DEADLINE_S
        while (found := list(differences(await drawn(page), whole))) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        assert found == []
        assert opened.console == []
        assert opened.hosts == {"127.0.0.1"}
