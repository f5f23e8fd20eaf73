"""Notebook 04: it runs to its end, shows what is stored in it, and its last cell checks what was told."""

from __future__ import annotations

import json
import re

import nbformat
import pytest
from lab import open_notebook
from nbclient import NotebookClient
from system_tools import ROOT

NOTEBOOK = ROOT / "notebooks" / "04_chat_and_approvals.ipynb"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


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


@pytest.mark.lab
@pytest.mark.timeout(240)  # JupyterLab alone takes 20 s to come up on a busy machine
async def test_in_jupyterlab_enter_says_it_in_the_panel_and_not_to_the_notebook(browser, tmp_path, state_dir):
    cells = [
        nbformat.v4.new_code_cell(
            "from syndarix_rt.notebook import Workbench\n"
            "bench = await Workbench.start()\n"
            "@bench.agent('echo')\n"
            "async def echo(said):\n"
            "    return f'heard {said.text}'\n"
        ),
        nbformat.v4.new_code_cell("bench.chat(name='ana')"),
        nbformat.v4.new_code_cell("await bench.close()"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), tmp_path / "chat.ipynb")
    async with open_notebook(browser, tmp_path / "chat.ipynb") as notebook:
        for cell in range(2):
            await notebook.run(cell)
        chat = notebook.page.locator(".srt-chat")
        await chat.locator("option[value=echo]").wait_for(state="attached")
        await chat.get_by_label("To").select_option("echo")
        await chat.get_by_label("Message").fill("hello")
        await chat.get_by_label("Message").press("Enter")
        answer = chat.locator("li:not(.srt-mine):not(.srt-open)")
        await answer.wait_for()
        assert await answer.locator("p").inner_text() == "heard hello"
        assert await chat.locator("li.srt-mine p").all_inner_texts() == ["hello"], "said once"
        assert await chat.get_by_label("Message").input_value() == ""
        await notebook.run(2)
        assert [line for line in notebook.console if "srt" in line or "syndarix" in line] == []
