"""Whether anybody sees a dashboard: what a real kernel shows where no view answers, and when one does late."""

from __future__ import annotations

import json

import nbformat
from nbclient import NotebookClient

VIEW = "application/vnd.jupyter.widget-view+json"
CELLS = [
    """
import asyncio, json, os
from syndarix_rt.notebook import Workbench, showing as module
module.VIEW_S = module.ANSWER_S = module.REFRESH_S = 0.2
bench = await Workbench.start(redis_url=os.environ["SYNDARIX_RT_TEST_REDIS"])
shown = []
update = module.DisplayHandle.update
def seen(handle, bundle, **more):
    shown.append(bundle)
    return update(handle, bundle, **more)
module.DisplayHandle.update = seen
""",
    "dashboard = bench.dashboard()\ndashboard",
    """
async with asyncio.timeout(20):
    while len(shown) < 2:  # it is refreshed
        await asyncio.sleep(0.05)
print(json.dumps(shown[-1]))
""",
    """
dashboard._status._handle_custom_msg({"op": "ready"}, [])  # a view comes late
late = shown[-1]
del shown[:]
await asyncio.sleep(1)  # time for several pictures
print(json.dumps([late, len(shown)]))
""",
    """
dashboard = bench.dashboard()
display(dashboard)
del shown[:]
dashboard._status._handle_custom_msg({"op": "ready"}, [])
await asyncio.sleep(1)
print(len(shown))
await bench.close()
""",
]


def test_without_a_view_it_says_what_to_install_and_shows_a_picture_until_one_comes(tmp_path, redis_url, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("SYNDARIX_RT_TEST_REDIS", redis_url)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=60, store_widget_state=False, resources=resources).execute()
    printed = [
        json.loads("".join(output.text for output in cell.outputs if output.output_type == "stream"))
        for cell in notebook.cells[2:]
    ]
    unseen, (late, later), at_once = printed
    assert VIEW not in unseen  # a front end that knows the type, but not anywidget, would show an error instead
    assert "pip install anywidget" in unseen["text/html"]
    assert "data:image/svg+xml;base64," in unseen["text/html"]
    assert "pip install anywidget" in unseen["text/plain"]
    assert VIEW in late
    assert later == at_once == 0
