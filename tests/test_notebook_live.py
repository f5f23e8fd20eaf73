"""Notebooks 03 and 07: executed without a browser, and what they hold as they are stored."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

import nbformat
import pytest
from nbclient import NotebookClient
from system_tools import ROOT

from syndarix_rt.notebook.panels.catalogue import CHARTS

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
    (events,) = still(cells["picture"])
    gaps = [node for node in events.iter() if node.get("class") == "srt-gap"]
    assert len(gaps) == 2
    assert max(float(gap.get("width")) for gap in gaps) > 20, "three of thirty seconds"
    assert "2 gaps, 0 undeclared holes, 0 duplicates, 2 reconnects" in printed(cells["check"])
