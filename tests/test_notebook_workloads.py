"""Notebook 02: it runs to its end, and shows what it says."""

from __future__ import annotations

import json
import re

import nbformat
import pytest
from nbclient import NotebookClient
from system_tools import ROOT

NOTEBOOK = ROOT / "notebooks" / "02_simulating_agent_workloads.ipynb"
REPLICATIONS = 4  # not ten, as a reader has it: half a minute of two cores that shows nothing more

# Asked of the kernel at the end: what its cells found.
FINDINGS = """
import json
rows = result.frame[result.frame["metric"] == "queues.agents.developer.wait_mean_s"]
outage = {
    name: queues_frame(stream).set_index("queue").loc["runners", "wait_mean_s"] for name, stream in streams.items()
}
print(json.dumps({
    "points": rows["agents.developers"].tolist(), "n": rows["n"].tolist(), "means": rows["mean"].tolist(),
    "half_widths": rows["half_width"].tolist(), "outage": outage,
    "pairs": [axes.get_ylabel() for axes in (left, right)],
}))
"""


@pytest.fixture(autouse=True)
def _private_jupyter(tmp_path, monkeypatch):
    """Kernels without this user's settings."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))


def cells_of(notebook):
    return {cell.id: cell for cell in notebook.cells}


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def shown(cell, kind):
    return [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


def test_it_is_stored_without_outputs_and_its_cells_are_short():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in codes] == [([], None)] * len(codes)
    assert max(len(cell.source.splitlines()) for cell in codes) <= 13
    sweep = cells_of(notebook)["sweep"].source  # from the import to the plot
    assert sweep.startswith("from syndarix_rt.simulation import")
    assert "result.plot(" in sweep
    assert len(sweep.splitlines()) <= 10


def test_all_axes_have_units():
    source = "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells)
    labels = re.findall(r"""label(?:\(|=)"([^"]+)\"""", source)
    assert len(labels) >= 5
    assert [label for label in labels if not re.search(r" \((minutes|hours|seconds|number)\)$", label)] == []


@pytest.mark.timeout(300)
def test_it_runs_to_its_end(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    sweep = cells_of(notebook)["sweep"]
    assert "replications=10," in sweep.source
    sweep.source = sweep.source.replace("replications=10,", f"replications={REPLICATIONS},")
    figures = ["durations", "sweep", "pairs", "theory", "backlogs"]
    notebook.cells.append(nbformat.v4.new_code_cell(FINDINGS, id="findings"))
    client = NotebookClient(
        notebook, timeout=240, store_widget_state=False, resources={"metadata": {"path": str(tmp_path)}}
    )
    cells = cells_of(client.execute())
    for name in figures:
        assert len(shown(cells[name], "image/png")) == 1, name
    for name, column in {
        "scenario": "cost_usd",
        "runs": "llm_calls",
        "frame": "half_width",
        "theory": "utilisation",
    }.items():
        (table,) = shown(cells[name], "text/html")
        assert f"<th>{column}</th>" in table, name
    assert re.fullmatch(r"\d+ events, 0 violations\n", printed(cells["check"]))
    assert printed(cells["sweep"]).endswith(f"█ {3 * REPLICATIONS} of {3 * REPLICATIONS} replications\n")
    found = json.loads(printed(cells["findings"]))
    assert found["points"] == [3, 4, 6]
    assert found["n"] == [REPLICATIONS] * 3
    assert found["means"] == sorted(found["means"], reverse=True)  # more developers, shorter waits
    assert all(half_width > 0 for half_width in found["half_widths"])
    assert found["outage"]["CI outage"] > found["outage"]["undisturbed"]
    assert found["pairs"] == [
        "issues.lead_time_mean_h (hours)",
        "issues.lead_time_mean_h (hours)\nagainst agents.developers = 4",
    ]
