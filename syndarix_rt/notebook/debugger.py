"""`Debugger`: the run that plays into a project, stopped, looked into and changed from a notebook."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import ipywidgets

from syndarix_rt.client import DebugClient
from syndarix_rt.delivery import RunState
from syndarix_rt.delivery.steering import Notice, described
from syndarix_rt.errors import SyndarixError
from syndarix_rt.notebook.background import Background
from syndarix_rt.notebook.control import FAULT_MIN, choices
from syndarix_rt.notebook.panel_widget import PanelWidget, module
from syndarix_rt.notebook.upkeep import Upkeep

__all__ = ["Debugger"]

LOOK_S = 2.0
"""Between two looks for a run, while there is none."""

STEERABLE = ("playing", "paused", "stepping")

ENTITIES = [
    "project", "queues", "agents", "agent_runs", "issues", "prs", "pipelines", "approvals", "sprints", "faults",
]  # fmt: skip


class Debugger(ipywidgets.VBox):  # type: ignore[misc] # it has no types
    """Buttons, breakpoints and a look inside, over a `DebugClient` on the background's loop.

    A run that stands waits for it: until it is stopped.

    Args:
        url: the server's, with its key.
        project: whose run; if several play there, the one that the server names first.
        background: where the connection lives.
    """

    _upkeep: Upkeep | None = None  # ipywidgets closes what failed in its constructor, too

    def __init__(self, url: str, project: str, background: Background) -> None:
        self.project = project
        self.client = DebugClient(url, project, on_notice=self._note)
        self._background = background
        self._looking: asyncio.Task[None] | None = None
        self._look_s = 0.0
        self._doing = self._refused = self._found = self._error = ""
        control = _Buttons({"title": "Run", "scenarios": [], **choices()}, self._told_run, self._ask)
        look = _Look({"title": "Debug", "entities": ENTITIES}, self._told_look, self._ask)
        self._panels: tuple[_Part, ...] = (control, look)
        super().__init__(self._panels)
        self.add_class("srt-dashboard")
        self._upkeep = Upkeep(background, self.client, self._push, self._end)

    @property
    def run(self) -> RunState | None:
        """The run as it last told; None while none plays."""
        return next(iter(self.client.attached.values()), None)

    def _note(self, notice: Notice) -> None:
        """The client keeps it; it is seen at the next look."""

    # ---- on the background's loop ---------------------------------------------------------------------------------

    def _push(self, now_s: float) -> None:
        if self.run is None and now_s >= self._look_s and (self._looking is None or self._looking.done()):
            self._look_s = now_s + LOOK_S
            self._looking = asyncio.create_task(self._look())
        for panel in self._panels:
            panel.push(now_s)

    async def _look(self) -> None:
        with contextlib.suppress(SyndarixError):  # looked for again
            found = next((run for run in await self.client.runs() if run.state in STEERABLE), None)
            if found is not None:
                await self.client.attach(found.run)

    def _ask(self, content: dict[str, Any]) -> None:
        self._background.spawn(self._do(content))

    async def _do(self, content: dict[str, Any]) -> None:
        run = self.run
        if run is None:
            self._found, self._error = "", self.status
            return
        op = content.get("op")
        looks = op in ("inspect", "break", "clear")
        if not looks:
            if self._doing:  # a second click while the first is under way is none
                return
            self._doing, self._refused = str(op), ""
        try:
            found = await self._answer(run, content)
        except SyndarixError as error:
            if looks:
                self._found, self._error = "", str(error)
            else:
                self._refused = str(error)
        else:
            if looks:
                self._found, self._error = found, ""
        finally:
            if not looks:
                self._doing = ""

    async def _answer(self, run: RunState, content: dict[str, Any]) -> str:
        client = self.client
        match content:
            case {"op": "inspect", "entity": str(entity)}:
                return json.dumps(await client.inspect(entity, run.run), indent=2, ensure_ascii=False)
            case {"op": "break", "type": str(kind), "where": str(where)} if kind or where:
                point = {name: text for name, text in (("type", kind), ("where", where)) if text}
                await client.set_breakpoints([*run.breakpoints, point], run.run)
            case {"op": "clear"}:
                await client.set_breakpoints([], run.run)
            case {"op": "pause"}:
                await client.pause(run.run)
            case {"op": "resume"}:
                await client.resume(run.run)
            case {"op": "step", "value": int(events)}:
                await client.step(run.run, events)
            case {"op": "set_speed", "value": str(speed)}:
                await client.set_speed("max" if speed == "max" else float(speed), run.run)
            case {"op": "inject", "value": str(kind)}:
                await client.inject(run.run, fault={"kind": kind, "minutes": FAULT_MIN})
        return ""

    # ---- what is seen ---------------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """How the run stands, or what is wrong with the connection."""
        client, run = self.client, self.run
        if client.state == "closed":
            return client.reason
        if client.state != "open":
            return "reconnecting" if client.state == "waiting" else "connecting"
        if run is None:
            return f"Nothing plays into {self.project} now."
        # While it plays, it does not tell how far it has come.
        return f"{run.name or run.run} {'plays' if run.state == 'playing' else described(run)}"

    def _told_run(self) -> dict[str, Any]:
        run = self.run
        abilities: list[str] = []
        if run is not None and self.client.state == "open":
            abilities = ["resume" if run.state == "paused" else "pause", "step", "set_speed"]
            abilities += ["inject"] if run.simulation else []
        return {
            "status": self.status, "begun": "", "playing": run is not None, "abilities": abilities,
            "doing": self._doing, "error": self._refused,
        }  # fmt: skip

    def _told_look(self) -> dict[str, Any]:
        run = self.run
        event = run.stopped.event if run is not None and run.stopped is not None else None
        return {
            "status": f"stopped at {event['type']} {event.get('subject') or ''}".strip() if event else "",
            "breakpoints": run.breakpoints if run is not None else [],
            "text": self._found,
            "error": self._error,
        }

    # ---- the end --------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Let go of the run, which then plays on if nobody else is attached."""
        if self._upkeep is not None:
            self._upkeep.stop()

    def _end(self, now_s: float, text: str) -> None:
        for panel in self._panels:
            panel.end(now_s, text)

    def close(self) -> None:
        """Let go, and remove it from wherever it is shown."""
        self.stop()
        for panel in self.children:
            panel.layout.close()
            panel.close()
        self.layout.close()
        super().close()

    def __repr__(self) -> str:
        return f"<Debugger of {self.project!r}: {self.status}>"


class _Part(PanelWidget):
    """One of its panels: shows what it is told, whenever that changes."""

    def __init__(
        self, options: dict[str, Any], told: Callable[[], dict[str, Any]], ask: Callable[[dict[str, Any]], None]
    ) -> None:
        super().__init__(options)
        self._content: dict[str, Any] = {}
        self._look = told
        self._ask = ask

    def news(self, now_s: float, *, whole: bool) -> dict[str, Any] | None:  # noqa: ARG002 - the base's signature
        """All of it."""
        content = self._look()
        if content == self._content and not whole:
            return None
        self._content = content
        return content

    def asked_for(self, content: dict[str, Any]) -> None:
        """A button was pressed."""
        self._ask(content)


class _Buttons(_Part):
    _esm = module("control")


class _Look(_Part):
    _esm = module("debug")
