"""Notebook 04: it runs to its end, shows what is stored in it, and its last cell checks what was told."""

from __future__ import annotations

import json
import re

import nbformat
import pytest
from nbclient import NotebookClient
from system_tools import ROOT

NOTEBOOK = ROOT / "notebooks" / "04_chat_and_approvals.ipynb"


@pytest.fixture(autouse=True)
def _private_jupyter(tmp_path, monkeypatch):
    """Kernels without this user's settings."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("SYNDARIX_RT_EMBEDDED_LINGER_S", "0.5")


def texts(notebook):
    """The outputs of its cells, as one text each."""
    found = {}
    for cell in notebook.cells:
        outputs = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
        found[cell.id] = "".join(output.get("text") or output["data"]["text/plain"] for output in outputs)
    return found


def test_it_shows_what_is_stored_in_it(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    stored = texts(notebook)
    text = json.dumps(notebook)
    assert "widget-view" not in text
    assert "?key=" not in text
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=100, store_widget_state=False, resources=resources)
    shown = texts(client.execute())

    def plain(text):
        return re.sub(r"decision-[0-9a-f]+", "decision-", text)

    for cell in ("ask", "gatekeeper", "reject", "after", "again", "check"):
        assert plain(shown[cell]) == plain(stored[cell]), cell
        assert stored[cell]
    assert "6 answers as the run was inspected" in shown["check"]
