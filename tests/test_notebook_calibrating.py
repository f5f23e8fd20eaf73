"""Notebook 06: it finds what the trace was made with; with the real traces, what they are known for."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from system_tools import ROOT

from syndarix_rt.simulation import Profile

NOTEBOOK = ROOT / "notebooks" / "06_calibrating_from_a_trace.ipynb"

# Asked of the kernel at the end: what its cells found.
FINDINGS = """
import json
law = fits["mine"]["runs.output_tokens"]
print(json.dumps({
    "names": list(fits), "rows": rows, "median": law.value.median, "sigma": law.value.sigma, "ks": law.ks,
    "code": [fits["code.head70"]["issues.arrivals"].value.shape] if len(fits) > 1 else None,
    "arrivals_ks": {name: profile["issues.arrivals"].ks for name, profile in fits.items()}, "saved": str(saved),
    "labels": [axes.get_xlabel() for axes in fits["mine"].plot().axes],
}))
"""


@pytest.fixture(autouse=True)
def _private_jupyter(tmp_path, monkeypatch):
    """Kernels without this user's settings."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    monkeypatch.delenv("SYNDARIX_RT_TRACES", raising=False)


def execute(directory):
    """Its cells by id, with outputs, and what was found."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(FINDINGS, id="findings"))
    client = NotebookClient(
        notebook, timeout=120, store_widget_state=False, resources={"metadata": {"path": str(directory)}}
    )
    cells = {cell.id: cell for cell in client.execute().cells}
    return cells, json.loads(printed(cells["findings"]))


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


@pytest.mark.timeout(180)
def test_it_finds_the_law_that_the_log_was_made_with_and_simulates_it(tmp_path):
    cells, found = execute(tmp_path)
    requests = int(printed(cells["log"]).split()[0])
    assert f"{requests:,} rows = {requests:,} mapped + 0 ignored" in printed(cells["import"])
    assert found["names"] == ["mine"]
    assert (found["median"], found["sigma"]) == (pytest.approx(60, rel=0.02), pytest.approx(0.8, rel=0.03))
    assert found["ks"] < 0.02
    (default, fitted) = found["rows"]
    assert (default[1], fitted[1]) == ("default", "mine")
    assert fitted[-1] < 0.02
    assert default[-1] > 0.3
    assert Profile.load(Path(found["saved"]))["runs.output_tokens"].value.median == found["median"]
    (table,) = shown(cells["fit"], "text/html")
    assert "<th>chosen</th>" in table
    assert len(shown(cells["plot"], "image/png")) == 1
    assert all("(" in label for label in found["labels"])
    assert "lognormal median" in printed(cells["profile"])
    assert "trace.copilot.run_success_p50_min" in printed(cells["closure"])


@pytest.mark.traces
@pytest.mark.timeout(240)
def test_with_the_real_traces_it_calibrates_from_them_too(tmp_path, monkeypatch, traces_dir):
    monkeypatch.setenv("SYNDARIX_RT_TRACES", str(traces_dir))
    cells, found = execute(tmp_path)
    assert found["names"] == ["mine", "code.head70", "conv.head70"]
    assert found["code"] == pytest.approx([0.431], abs=0.001)
    assert found["arrivals_ks"]["code.head70"] == pytest.approx(0.138, abs=0.001)
    assert found["arrivals_ks"]["conv.head70"] == pytest.approx(0.018, abs=0.001)
    assert len(shown(cells["plot"], "image/png")) == 3
    by_trace = {(name, profile): ks for name, profile, *_, ks in found["rows"]}
    for name in ("code.head70", "conv.head70"):
        assert by_trace[name, name] < 0.1
        assert by_trace[name, "default"] > 0.2
