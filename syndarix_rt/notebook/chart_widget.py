"""`ChartWidget`: ``web/chart.js`` in a notebook.

The data go as custom messages with binary buffers, never as synced traits: those would be stored in the notebook and
sent again for every view. A view that appears, or misses a message (they are numbered), asks, and gets everything
anew; so a reload, a second view and a loss heal in the same way.
"""

from __future__ import annotations

import threading
from importlib.resources import files
from typing import Any, NamedTuple

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray

from syndarix_rt.notebook.metrics import EventRate, Span

__all__ = ["ChartWidget"]

_PACKAGE = files("syndarix_rt")


class _State(NamedTuple):
    """What a view needs to begin with."""

    rows: NDArray[np.float64]
    gaps: list[Span]
    now_s: float


class ChartWidget(anywidget.AnyWidget):
    """A live chart of an `EventRate`.

    Args:
        rate: what is drawn; touched by `push` only.
        options: as of ``createChart`` in ``web/chart.js``; ``series`` and ``binS`` are the rate's.
    """

    # As text: anywidget would watch a file, and never let go of the widget.
    _esm = (_PACKAGE / "web" / "chart.js").read_text() + (_PACKAGE / "notebook" / "widget.js").read_text()
    _css = (_PACKAGE / "web" / "chart.css").read_text()
    options = traitlets.Dict().tag(sync=True)

    def __init__(self, rate: EventRate, options: dict[str, Any]) -> None:
        super().__init__(options=options | {"binS": rate.bin_s})
        self._rate = rate
        self._lock = threading.Lock()
        self._sequence = 0
        self._version = 0  # of the rate, as of the last message
        self._gaps: list[Span] = []
        self._now_bin = -1
        self._asked = True
        self._ended: tuple[_State, str] | None = None
        self.on_msg(self._on_message)

    def push(self, now_s: float) -> None:
        """Send what has changed since the last call; nothing if that is nothing. Call it from one thread only.

        Args:
            now_s: where the time axis ends at least, seconds since 1970.
        """
        with self._lock:
            if self._ended:
                return
            rate = self._rate
            now_bin = int(now_s // rate.bin_s)
            if self._asked:
                self._asked = False
                self._tell("reset", _State(rate.rows(), list(rate.gaps), now_s))
            elif rate.version != self._version or now_bin != self._now_bin:
                gaps = [gap for gap in rate.gaps if gap not in self._gaps]
                self._tell("rows", _State(rate.rows(self._version), gaps, now_s))
            self._version, self._gaps, self._now_bin = rate.version, list(rate.gaps), now_bin

    def end(self, now_s: float, text: str) -> None:
        """Send the last state, and grey the chart out; call it from the thread that pushed."""
        with self._lock:
            if self._ended is None:
                self._ended = _State(self._rate.rows(), list(self._rate.gaps), now_s), text
                self._tell("reset", *self._ended)

    def _on_message(self, _widget: object, content: Any, _buffers: object) -> None:
        """A view asks for everything. Runs on whatever thread the kernel likes, so it leaves the work to `push`."""
        if content.get("op") != "ready":
            return
        with self._lock:
            if self._ended is None:
                self._asked = True
            else:
                self._tell("reset", *self._ended)

    def _tell(self, operation: str, state: _State, text: str = "") -> None:
        self._sequence += 1
        self.send(
            {"op": operation, "seq": self._sequence, "now": state.now_s, "gaps": state.gaps, "text": text},
            [state.rows.tobytes()],
        )

    def __repr__(self) -> str:
        return f"<ChartWidget {self.options.get('title')!r}>"
