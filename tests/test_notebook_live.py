"""Notebooks 03 and 07: executed without a browser, 03 also in a real JupyterLab; what they hold as they are stored."""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import asynccontextmanager
from xml.etree import ElementTree as ET

import nbformat
import pandas as pd
import pytest
from charted import differences
from lab import open_notebook
from nbclient import NotebookClient
from playwright.async_api import expect
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


TOLD = """\
while watcher.ledger().gaps[-1].reason != "epoch":
    await asyncio.sleep(0.05)
"""


def execute(name, tmp_path):
    """The cells with their outputs, by id; without the time that is there for people to watch."""
    notebook = stored(name)
    for cell in notebook.cells:
        cell.source = re.sub(r"asyncio\.sleep\([68]\)", "asyncio.sleep(1.5)", cell.source)
        cell.source = cell.source.replace("window_s=30", "window_s=120")  # on a slow machine all is in it, too
        cell.source = cell.source.replace("await publish(50)\n    await asyncio.sleep(0.5)", "await publish(50)")
        cell.source = cell.source.replace("    await asyncio.sleep(1)", "")  # of `caught_up`, which waits for it all
        cell.source = cell.source.replace("await publish(100)\nawait asyncio.sleep(1)", f"await publish(100)\n{TOLD}")
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
    assert max(float(gap.get("width")) for gap in gaps) > 8, "three of 120 seconds, at least"
    assert "2 gaps, 0 undeclared holes, 0 duplicates, 2 reconnects" in printed(cells["check"])
    accused = {row[1] for row in rows(cells["planted"])}
    assert [row[0] for row in rows(cells["planted"])] == list(PLANTED.values())
    assert {row[0] for row in rows(cells["verify"]) if row[-1] != "0"} == accused
    assert len(accused) == len(PLANTED) < len(rows(cells["verify"])) == 14


# ---- notebook 03 in JupyterLab ------------------------------------------------------------------------------------

DEADLINE_S = 60
DEADLINE_MS = DEADLINE_S * 1000

# What cells of the test use; a run of the newest epoch, and what this notebook decided in it.
HELPERS = """
import asyncio, json
import pandas as pd
from syndarix_rt.client import DebugClient
debug = await DebugClient(bench.url, PROJECT).__aenter__()
def newest():
    f = bench.frame()
    return f[f["epoch"] == f["epoch"].iloc[-1]]
def decisions():
    f = newest()
    return f.loc[f["data.by"] == "notebook", "data.decision"].tolist() if "data.by" in f else []
async def until(condition):
    async with asyncio.timeout(40):
        while not condition():
            await asyncio.sleep(0.05)
control, pressed = dashboard["control"], []
control.on_msg(lambda _, content, __: pressed.append(content) if content["op"] != "ready" else None)
def rests():  # nothing is being done that was asked for, and the view is told so
    return not control._doing and not control._changed and not control._told["doing"]
"""
NEWEST = "print(newest()[['epoch', 'simulation', 'offset']].iloc[0].to_json())"
PENDING = """
f = newest()
asked, answered = f[f["type"] == "approval_required"], f[f["type"] == "approval_resolved"]
waiting = asked if answered.empty else asked[~asked["data.approval_id"].isin(answered["data.approval_id"])]
print(json.dumps(waiting["data.title"].tolist() if len(waiting) else []))
"""
PRESSED = """
await until(lambda: pressed and rests())
print(json.dumps([len(pressed), control._error]))
"""
STANDS = """
state = await debug.attach()
print(json.dumps([state.state, state.published, len(newest()) - len(decisions())]))
"""
FAULTS = """
await until(lambda: (newest()["type"] == "fault_started").sum() == 3)
print(json.dumps(sorted(newest().loc[newest()["type"] == "fault_started", "data.kind"])))
"""
# No event is published before its time: at ten times real time two seconds have some twenty, at 600 times 1,200.
SLOW = """
def slow():
    f = newest()
    late = f.loc[f["recordedtime"] > f["recordedtime"].max() - pd.Timedelta("2s"), "time"]
    return len(late) > 3 and late.max() - late.min() < pd.Timedelta("60s")
await until(slow)
print((await debug.attach()).speed)
"""
LEDGER = """
frame, ledger = bench.frame(), bench.ledger()
frame.to_pickle("frame.pkl")
print(json.dumps({
    "events received": f"{ledger.events:,}", "reconnects": f"{ledger.connections - 1:,}",
    "median delay": f"≤ {ledger.latency_ms(0.5):g} ms", "95 % within": f"{ledger.latency_ms(0.95):g} ms",
    "gaps": f"{len(ledger.gaps):,}", "undeclared holes": f"{len(ledger.holes):,}",
    "duplicates": f"{ledger.duplicates:,}", "kept here": f"{len(frame):,}",
    "position": f"{frame['epoch'].iloc[-1]}.{frame['offset'].iloc[-1]:,}",
}))
"""
CONNECTION = """() => {
  const panel = document.querySelector(".srt-connection");
  const boxes = [...panel.querySelectorAll("dl > div")];
  const figures = boxes.map((box) => [...box.children].map((part) => part.textContent));
  return Object.fromEntries([...figures, ["position", panel.querySelector(".srt-note").textContent]]);
}"""


class Lab:
    """The notebook with its dashboard, and the buttons on it."""

    def __init__(self, opened):
        self.page = opened.page
        self.execute = opened.execute
        self._control = self.page.locator(".srt-control")

    async def read(self, source):
        """What code in the kernel prints, as JSON."""
        return json.loads(await self.execute(source))

    async def press(self, name):
        """Press a button of the run as soon as it can be pressed, and wait until that is done."""
        button = self._control.get_by_role("button", name=name, exact=True)
        async with self._asking():
            await expect(button).to_be_enabled(timeout=DEADLINE_MS)
            await button.evaluate("(button) => button.click()")

    async def choose_speed(self, speed):
        async with self._asking():
            await self._control.get_by_label("speed", exact=True).select_option(speed)

    @asynccontextmanager
    async def _asking(self):
        """What one click asks for. While another is being done it is none, and the kernel may take it after a cell."""
        await self.execute("await until(rests); pressed.clear()")
        yield
        assert await self.read(PRESSED) == [1, ""]

    async def shows_waiting(self, titles):
        """Wait until these and no other questions wait in the inbox."""
        inbox = self.page.locator(".srt-approvals")
        await expect(inbox.locator("li strong")).to_have_text(titles, timeout=DEADLINE_MS)
        count = f"{len(titles)} waiting" if titles else ""
        await expect(inbox.locator(".srt-note")).to_have_text(count, timeout=DEADLINE_MS)

    async def stands(self):
        """How the run stands, what it says it has published, and how many events of it are there."""
        return tuple(await self.read(STANDS))

    async def drawn(self):
        """What each chart of the dashboard has drawn, by name."""
        readouts = "[...document.querySelectorAll('.srt-chart')].map(({chart}) => chart.readout())"
        return dict(zip(CHARTS, await self.page.evaluate(readouts), strict=True))


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
        lab = Lab(opened)
        codes = [place for place, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        for place in codes[:2]:
            await opened.run(place)
        await lab.page.wait_for_function(f"document.querySelectorAll('.srt-chart').length === {len(CHARTS)}")
        assert await opened.run(places["steer"]) == "25 events in a step of 25\n"
        await lab.execute(HELPERS)

        # Play: a new epoch, of another simulation.
        old = await lab.read(NEWEST)
        await lab.choose_speed("600")
        await lab.press("Play anew")
        await lab.execute(f"await until(lambda: len(newest()) and newest()['epoch'].iloc[0] != {old['epoch']!r})")
        new = await lab.read(NEWEST)
        assert new["offset"] == 1
        assert new["simulation"] != old["simulation"]

        # Decisions, while the run stands at a question: else simulated people answer, too.
        await lab.execute("await debug.set_breakpoints([{'type': 'approval_required'}])")
        for decision, decided in (("Approve", ["approved"]), ("Reject", ["approved", "rejected"])):
            await lab.execute("while (await debug.attach()).state != 'paused': await asyncio.sleep(0.05)")
            waiting = await lab.read(PENDING)
            await lab.shows_waiting(waiting)
            assert waiting
            await lab.page.locator(".srt-approvals li button", has_text=decision).first.evaluate("(it) => it.click()")
            await lab.execute(f"await until(lambda: decisions() == {decided})")
            if decision == "Approve":
                await lab.press("Resume")

        # Faults, and going on.
        for fault in ("CI outage", "provider brownout", "incident storm"):
            await lab.press(f"Inject {fault}")
        await lab.execute("await debug.set_breakpoints([])")
        await lab.press("Resume")
        assert await lab.read(FAULTS) == ["ci_outage", "incident_storm", "provider_brownout"]

        # A pause, and steps: exact.
        await lab.press("Pause")
        state, published, here = await lab.stands()
        assert (state, here) == ("paused", published)
        await lab.press("Step 1")
        assert await lab.stands() == ("paused", published + 1, published + 1)
        await lab.press("Step 100")
        assert await lab.stands() == ("paused", published + 101, published + 101)
        await lab.press("Resume")
        await lab.execute(f"await until(lambda: len(newest()) > {published + 101} + len(decisions()))")

        # Another speed, and the end.
        await lab.choose_speed("10")
        assert await lab.read(SLOW) == 10
        await lab.press("Stop")
        await lab.page.get_by_role("button", name="Play", exact=True).wait_for()
        await lab.execute("while await debug.runs(): await asyncio.sleep(0.05)")

        # What each panel shows is what the frame and the ledger say.
        figures = await lab.read(LEDGER)
        frame = pd.read_pickle(tmp_path / "frame.pkl")
        await lab.shows_waiting(await lab.read(PENDING))
        seen = len(frame) + int(figures["gaps"])
        await expect(lab.page.locator(".srt-log .srt-note")).to_have_text(f"{seen:,} seen", timeout=DEADLINE_MS)
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            found = list(differences(await lab.drawn(), frame))
            told = await lab.page.evaluate(CONNECTION)
            if not found and told == figures:
                break
            await asyncio.sleep(0.2)
        assert found == []
        assert told == figures
        assert figures["undeclared holes"] == figures["duplicates"] == "0"
        assert opened.console == []
        assert opened.hosts == {"127.0.0.1"}
