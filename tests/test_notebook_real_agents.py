"""Notebook 08: a real agent is watched, fitted and simulated; executed without a browser, and as it is stored."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

import nbformat
import pytest
from nbclient import NotebookClient
from system_tools import ROOT

NOTEBOOK = ROOT / "notebooks" / "08_real_agents.ipynb"
CHECK = r"([\d,]+) reported = ([\d,]+) received = ([\d,]+) recorded; .* 0 gaps, 0 undeclared holes, 0 duplicates"


@pytest.fixture(autouse=True)
def _private_jupyter(tmp_path, monkeypatch):
    """Kernels without this user's settings."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    monkeypatch.setenv("SYNDARIX_RT_EMBEDDED_LINGER_S", "0.5")


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


EVENTS_OF_AN_ISSUE = 12
"""Created, started, read, parsed, a branch, a commit, completed, a request, a pipeline and its end, merged, closed."""


def most_open(cell):
    """The most open issues of the loads, each as (coders, issues)."""
    html = cell.outputs[0].data["text/html"]
    table = ET.fromstring(html[html.index("<table") : html.index("</table>") + len("</table>")])
    return [(int(row.findall("th")[-1].text), float(row.findall("td")[1].text)) for row in table.find("tbody")]


def check(cells):
    """What the last cell says is what was reported, whatever it was."""
    reported, received, recorded = re.search(CHECK, printed(cells["check"])).groups()
    assert reported == received == recorded
    assert int(reported.replace(",", "")) >= 60 * EVENTS_OF_AN_ISSUE
    *_, (few, before_few), (many, before_many) = most_open(cells["load"])
    assert (few, many) == (3, 30)
    assert before_many < before_few, "of the same work"
    assert "Agents(planners=0, developers=3, testers=0, reviewers=0" in printed(cells["fit"])
    assert printed(cells["validate"]).endswith("0 violations\n")


def test_it_is_stored_with_its_outputs_and_no_widget_state():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    text = json.dumps(notebook)
    assert "widget-view" not in text
    assert "?key=" not in text
    cells = {cell.id: cell for cell in notebook.cells}
    check(cells)
    assert "image/svg+xml" in cells["watch"].outputs[0].data


def test_it_runs_to_its_end(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:  # the same issues, in less than half of the time
        cell.source = cell.source.replace("chance.expovariate(6)", "chance.expovariate(15)")
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=100, store_widget_state=False, resources=resources)
    check({cell.id: cell for cell in client.execute().cells})
