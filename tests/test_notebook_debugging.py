"""Notebook 05: it runs to its end, shows what is stored in it, and its last cell checks what was shown."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbclient import NotebookClient
from system_tools import ROOT

DEBUGGING = ROOT / "notebooks" / "05_debugging_a_run.ipynb"


@pytest.fixture(autouse=True)
def _private_jupyter(tmp_path, monkeypatch):
    """Kernels without this user's settings."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("SYNDARIX_RT_EMBEDDED_LINGER_S", "0.5")


def execute(tmp_path, path):
    """The outputs of its cells, as one text each; played faster, which moves nothing in simulated time."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("speed=60,", "speed=600,")
    client = NotebookClient(
        notebook, timeout=120, store_widget_state=False, resources={"metadata": {"path": str(tmp_path)}}
    )
    return texts(client.execute())


def texts(notebook):
    found = {}
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        found[cell.id] = "".join(output.get("text") or output["data"]["text/plain"] for output in outputs)
    return found


def test_debugging_a_run_shows_what_is_stored_in_it(tmp_path):
    notebook = nbformat.read(DEBUGGING, as_version=4)
    nbformat.validate(notebook)
    stored = texts(notebook)
    shown = execute(tmp_path, DEBUGGING)

    def plain(text):
        return re.sub(r"'position': '[\w-]+\.", "'position': '", text)

    for cell in ("stop", "why", "agents", "step", "fault"):
        assert plain(shown[cell]) == plain(stored[cell]), cell
        assert stored[cell]
    assert "then a fault; " in shown["check"]
    assert "0 gaps" in shown["check"]
