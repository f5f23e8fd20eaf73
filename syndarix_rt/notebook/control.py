"""`ControlWidget`: begin a run, and steer it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from syndarix_rt.errors import SyndarixError
from syndarix_rt.notebook.panel_widget import PanelWidget, module
from syndarix_rt.notebook.runs import Run
from syndarix_rt.simulation import presets
from syndarix_rt.simulation.settings import CiOutage, IncidentStorm, ProviderBrownout

__all__ = ["FAULT_MIN", "ControlWidget", "Controls", "choices"]

EVERY_S = 0.5
"""Time between two looks at the run."""

SPEEDS = (1.0, 10.0, 60.0, 600.0, math.inf)
"""Simulated seconds per second that can be chosen."""

FAULT_MIN = 30.0
"""How long a fault lasts, in simulated minutes: at speed 60 half a minute, which is long enough to see what it does."""

_FAULTS = {
    "ci_outage": CiOutage(minutes=FAULT_MIN),
    "provider_brownout": ProviderBrownout(minutes=FAULT_MIN),
    "incident_storm": IncidentStorm(minutes=FAULT_MIN),
}

ANSWER_S = 30.0
"""A run answers within milliseconds; a preset that was just begun, once its process plays."""


class Controls:
    """What the buttons do. Everything may take a while, and is called on a thread of its own.

    Args:
        play: begins a preset at a speed (None: its own), in place of what plays.
        current: the run that was begun last; None before the first.
    """

    def __init__(self, play: Callable[[str, float | None], Run], current: Callable[[], Run | None]) -> None:
        self.current = current
        self._play = play

    def play(self, scenario: str, speed: float | None) -> None:
        """Begin a preset; what plays is ended."""
        self.stop()
        self._play(scenario, speed)

    def stop(self) -> None:
        """End what plays."""
        run = self.current()
        if run is not None:
            run.stop()

    @property
    def abilities(self) -> list[str]:
        """How the current run can be steered now."""
        run = self.current()
        if run is None or run.done:
            return []
        state = run.state
        stands = state is not None and state.state == "paused"
        simulated = state is None or state.simulation is not None
        return ["resume" if stands else "pause", "step", "set_speed", *(["inject"] if simulated else [])]

    def steer(self, how: str, *values: Any) -> None:
        """Do one of the abilities.

        Raises:
            SyndarixError: the run cannot do that, or does not answer.
        """
        if how not in self.abilities:
            raise SyndarixError("this run cannot be steered; begin one here")
        try:
            getattr(self.current(), how)(*values).result(ANSWER_S)
        except TimeoutError:
            raise SyndarixError(f"the run has not answered within {ANSWER_S:g} s; it may do so yet") from None


_presets = cache(presets)
"""To load them all takes a fifth of a second, and a package's own never change."""


def choices() -> dict[str, Any]:
    """What the view lets a person choose for a run that plays."""
    return {
        "speeds": [["max" if speed == math.inf else f"{speed:g}", _speed(speed)] for speed in SPEEDS],
        "faults": [[kind, kind.replace("_", " ").replace("ci ", "CI ")] for kind in _FAULTS],
        "faultMin": FAULT_MIN,
    }


class ControlWidget(PanelWidget):
    """Buttons for `Controls`."""

    _esm = module("control")

    def __init__(self, controls: Controls) -> None:
        self._scenarios = _presets()
        super().__init__(
            {
                "title": "Run",
                "scenarios": [[name, text] for name, text in self._scenarios.items()],
                **choices(),
            }
        )
        self._controls = controls
        self._due_s = 0.0
        self._told: dict[str, Any] = {}
        self._doing = ""
        self._error = ""
        self._changed = False

    def news(self, now_s: float, *, whole: bool) -> dict[str, Any] | None:
        """How the run stands."""
        if not whole and not self._changed and now_s < self._due_s:
            return None
        self._due_s, self._changed = now_s + EVERY_S, False
        run = self._controls.current()
        begun = run.name.partition(" ")[0] if run else ""
        content = {
            "status": run.status if run else "Nothing plays from here: choose a scenario and press Play.",
            "begun": begun if begun in self._scenarios else "",
            "playing": run is not None and not run.done,
            "abilities": self._controls.abilities,
            "doing": self._doing,
            "error": self._error,
        }
        if content == self._told and not whole:
            return None
        self._told = content
        return content

    def asked_for(self, content: dict[str, Any]) -> None:
        """A button was pressed: work on a thread of its own, so that neither kernel nor stream waits."""
        action, value = content.get("op"), content.get("value")
        work: Callable[[], None]
        match action:
            case "play" if value in self._scenarios:
                speed = _number(content.get("speed"))
                work = lambda: self._controls.play(str(value), speed)  # noqa: E731 - one of several
            case "stop":
                work = self._controls.stop
            case "pause" | "resume":
                work = lambda: self._controls.steer(str(action))  # noqa: E731 - one of several
            case "step" if isinstance(value, int) and value > 0:
                work = lambda: self._controls.steer("step", value)  # noqa: E731 - one of several
            case "set_speed" if (speed := _number(value)) is not None:
                work = lambda: self._controls.steer("set_speed", speed)  # noqa: E731 - one of several
            case "inject" if value in _FAULTS:
                work = lambda: self._controls.steer("inject", _FAULTS[value])  # noqa: E731 - one of several
            case _:
                return
        if not self._doing:  # a second click while the first is under way is none
            self._doing, self._error, self._changed = str(action), "", True
            threading.Thread(target=self._do, args=(work,), name="syndarix-rt control", daemon=True).start()

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - shown to who pressed the button
            self._error = str(error) or type(error).__name__
        finally:
            self._doing, self._changed = "", True


def _number(speed: Any) -> float | None:
    """A speed that was chosen; None: the scenario's own."""
    return next((each for each in SPEEDS if speed == ("max" if each == math.inf else f"{each:g}")), None)


def _speed(speed: float) -> str:
    return "as fast as it goes" if speed == math.inf else f"{speed:g} times real time"
