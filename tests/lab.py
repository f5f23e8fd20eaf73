"""A real JupyterLab on a loopback port, and a notebook open in a real browser."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

TOKEN = "a-token-of-the-tests"
START_S = 60
STOP_S = 20  # it ends within one, on a busy machine within five
RUN_S = 90  # a cell or a request of a test; it takes seconds, and a page would wait for its end for ever
NEWS = "@jupyterlab/apputils-extension:announcements"  # would lay a question over the notebook
MAIN = """
import sys
sys.modules["rfc3987_syntax"] = None  # as in conftest.py
from jupyterlab.labapp import main
main()
"""
ARGUMENTS = [
    "--no-browser",
    "--allow-root",
    "--expose-app-in-browser",  # so that a test can run Lab's commands
    "--ServerApp.port=0",
    "--ServerApp.ip=127.0.0.1",
    f"--IdentityProvider.token={TOKEN}",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.news_url=None",
]


@asynccontextmanager
async def jupyterlab(directory):
    """JupyterLab over a directory, with nobody's settings; its URL, without a slash at the end."""
    directory = Path(directory)
    runtime = directory / ".jupyter" / "runtime"
    private = {
        "JUPYTER_CONFIG_DIR": str(directory / ".jupyter" / "config"),
        "JUPYTER_DATA_DIR": str(directory / ".jupyter" / "data"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "IPYTHONDIR": str(directory / ".jupyter" / "ipython"),
    }
    config = directory / ".jupyter" / "config" / "labconfig"
    config.mkdir(parents=True, exist_ok=True)
    (config / "page_config.json").write_text(json.dumps({"disabledExtensions": {NEWS: True}}))
    log = (directory / "lab.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", MAIN, *ARGUMENTS, f"--ServerApp.root_dir={directory}"],
        env=os.environ | private,
        stdout=log,
        stderr=log,
    )
    try:
        async with asyncio.timeout(START_S):
            while (url := _announced_url(runtime)) is None:
                if process.returncode is not None:
                    raise RuntimeError((directory / "lab.log").read_text()[-3000:])
                await asyncio.sleep(0.05)
        yield url.rstrip("/")
    finally:
        log.close()
        process.send_signal(signal.SIGTERM)  # ends its kernels, too
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:  # seen now and then: its kernels were gone, and it stayed
            process.kill()
            await process.wait()


def _announced_url(runtime):
    for path in runtime.glob("jpserver-*.json"):
        with suppress(ValueError):  # half written
            return json.loads(path.read_text())["url"]
    return None


# Lab's current widget changes with the focus; the notebook does not.
PANEL = "[...(window.jupyterapp?.shell?.widgets('main') ?? [])].find((widget) => widget.content?.activeCell)"


STATE = f"""() => {{
  const {{content, sessionContext}} = {PANEL};
  const {{kernel}} = sessionContext.session;
  return {{
    kernel: kernel.status, connection: kernel.connectionStatus,
    cells: content.widgets.filter(({{model}}) => model.type === "code").map(({{model}}) => ({{
      source: model.sharedModel.getSource(), count: model.executionCount, state: model.executionState,
      outputs: JSON.stringify(model.outputs.toJSON()).slice(0, 500),
    }})),
  }};
}}"""


class Notebook:
    """A notebook open in JupyterLab.

    Attributes:
        console: errors that the page wrote to its console.
        hosts: every host that the page asked for anything.
    """

    def __init__(self, page):
        self.page = page
        self.console = []
        self.hosts = set()
        page.on("console", lambda message: self.console.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.console.append(str(error)))
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2].rpartition(":")[0]))

    async def run(self, cell):
        """Run one cell (by its place) and wait for its end; the text of its output."""
        await self._ended(
            f"""async (cell) => {{
              const panel = {PANEL};
              jupyterapp.shell.activateById(panel.id);
              panel.content.activeCellIndex = cell;
              await jupyterapp.commands.execute("notebook:run-cell");
            }}""",
            cell,
        )
        return await self.page.evaluate(
            f"""(cell) => {{
              const outputs = {PANEL}.content.widgets[cell].model.outputs.toJSON();
              for (const output of outputs)
                if (output.output_type === "error") throw new Error(output.traceback.join("\\n"));
              return outputs.map((output) => output.text ?? output.data["text/plain"]).flat().join("");
            }}""",
            cell,
        )

    async def execute(self, source):
        """Run code in its kernel, without a cell: Lab would scroll to it, and take away what is out of sight.

        Returns:
            What it printed.
        """
        return await self._ended(
            f"""async (code) => {{
              const {{kernel}} = {PANEL}.sessionContext.session;
              const future = kernel.requestExecute({{code, store_history: false}});
              const printed = [];
              let failed = "";
              future.onIOPub = ({{header, content}}) => {{
                if (header.msg_type === "stream") printed.push(content.text);
                if (header.msg_type === "error") failed = content.traceback.join("\\n");
              }};
              await future.done;
              if (failed) throw new Error(failed);
              return printed.join("");
            }}""",
            source,
        )

    async def _ended(self, script, argument):
        """What a script of the page comes to; if it does not end, how the kernel and the cells stand."""
        try:
            return await asyncio.wait_for(self.page.evaluate(script, argument), RUN_S)
        except TimeoutError:
            state = await self.page.evaluate(STATE)
            raise AssertionError(f"still running after {RUN_S} s: {argument}\n{json.dumps(state, indent=1)}") from None

    async def opened(self):
        """Wait until its kernel is there."""
        await self.page.wait_for_function(
            f"() => {PANEL}?.sessionContext?.session?.kernel?.status === 'idle'", timeout=START_S * 1000
        )

    async def reload(self):
        """Save it, and load the page again; the kernel goes on."""
        await self.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
        await self.page.reload()
        await self.opened()

    async def append(self, source):
        """Add a code cell at the end; its place."""
        return await self.page.evaluate(
            f"""(source) => {{
              const {{model}} = {PANEL}.content;
              model.sharedModel.insertCell(model.cells.length, {{cell_type: "code", source}});
              return model.cells.length - 1;
            }}""",
            source,
        )


@asynccontextmanager
async def open_notebook(browser, path):
    """A notebook, open in a JupyterLab of its own, whose files are those beside it."""
    async with jupyterlab(path.parent) as url:
        context = await browser.new_context(viewport={"width": 1280, "height": 1100})
        try:
            notebook = Notebook(await context.new_page())
            await notebook.page.goto(f"{url}/lab/tree/{path.name}?token={TOKEN}")
            await notebook.opened()
            yield notebook
        finally:
            await context.close()
