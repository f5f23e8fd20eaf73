"""`ChartWidget`: the charts of ``web/`` in a notebook.

The data go as custom messages with binary buffers, never as synced traits: those would be stored in the notebook and
sent again for every view. A view that appears, or misses a message (they are numbered), asks, and gets everything
anew; so a reload, a second view and a loss heal in the same way.
"""

from __future__ import annotations

import math
import threading
from typing import Any, NamedTuple, Protocol

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray

from syndarix_rt.notebook.metrics import Span
from syndarix_rt.notebook.modules import WEB, joined

__all__ = ["ChartModel", "ChartWidget"]

_PARTS = ("axes", "rows", "frame", "tip", "words", "redraw", "input", "series", "lanes")
_MODULES = (*(f"chart-{name}.js" for name in _PARTS), "chart.js")
"""The modules of a chart, each after those that it imports."""


class ChartModel(Protocol):
    """What a `ChartWidget` draws.

    A model may also have, and change as time goes on (its ``version`` grows with that, too):

    * ``lanes``: names of lanes by number; when they change, all rows are sent again;
    * ``span_s``: the start and the end of what is shown instead of a rolling window, seconds since 1970, the end None
      for up to now; or None;
    * ``start_s``: a moment of day 1 of simulated time, seconds since 1970; None as long as it is not known;
    * ``cleared``: how often it has forgotten everything. It is also taken for cleared when time goes back.

    Attributes:
        bin_s: what a row covers, seconds. Of lanes: the time between two drawings that differ though nothing happened.
        gaps: declared losses, the newest last.
        version: grows with every change.
    """

    bin_s: float
    gaps: list[Span]
    version: int

    def rows(self, since: int = 0) -> NDArray[np.float64]:
        """Rows that changed after a version, as of ``createChart``, oldest first."""
        ...


class _State(NamedTuple):
    """What a view is to know beside the rows."""

    now_s: float
    gaps: list[Span]
    span_s: tuple[float, float | None] | None
    cleared: int
    rest: dict[str, Any]
    """What only a ``reset`` tells."""

    def follows(self, old: _State) -> bool:
        """Whether a view that knows the old one can be told the difference."""
        is_later = self.now_s >= old.now_s or math.isnan(old.now_s)
        # A view knows a gap by its start.
        has_moved = bool(old.gaps) and old.gaps[-1].start_s not in {gap.start_s for gap in self.gaps}
        return is_later and not has_moved and (self.cleared, self.rest) == (old.cleared, old.rest)


class ChartWidget(anywidget.AnyWidget):
    """A live chart.

    Args:
        model: what is drawn; touched by `push` and `end` only.
        options: as of ``createChart`` in ``web/chart.js``; ``binS`` is the model's.
    """

    # As text: anywidget would watch a file, and never let go of the widget.
    _esm = joined(*_MODULES, adapter="widget.js")
    _css = (WEB / "chart.css").read_text(encoding="utf-8")
    options = traitlets.Dict().tag(sync=True)

    def __init__(self, model: ChartModel, options: dict[str, Any]) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._sequence = 0
        self._version = 0  # of the model, as of the last message
        self._state: _State | None = None  # as of the last message; None: a view has asked for everything
        self._ended: tuple[_State, NDArray[np.float64], str] | None = None
        self.show(model, options)
        self.on_msg(self._on_message)

    def show(self, model: ChartModel, options: dict[str, Any]) -> None:
        """Draw another model, as of the next `push`; arguments as of the class."""
        with self._lock:
            if self._ended is None:
                self._model, self._state = model, None
                self.options = options | {"binS": model.bin_s}

    def push(self, now_s: float) -> None:
        """Send what has changed since the last call; nothing if that is nothing. Call it from one thread only.

        Args:
            now_s: where the time axis ends at least, seconds since 1970; NaN: that is not known.
        """
        with self._lock:
            if self._ended:
                return
            old, new, version = self._state, _look(self._model, now_s), self._model.version
            if old is None or not new.follows(old):
                self._tell_all(new, self._model.rows())
            elif version != self._version or self._has_moved(old.now_s, now_s):
                changed: dict[str, Any] = {"gaps": [gap for gap in new.gaps if gap not in old.gaps]}
                if new.span_s != old.span_s:
                    changed["span"] = new.span_s
                self._tell("rows", now_s, self._model.rows(self._version), changed)
            else:
                return
            self._state, self._version = new, version

    def end(self, now_s: float, text: str) -> None:
        """Send the last state, and fade the chart out; call it from the thread that pushed."""
        with self._lock:
            if self._ended is None:
                self._ended = _look(self._model, now_s), self._model.rows(), text
                self._tell_all(*self._ended)

    def _on_message(self, _widget: object, content: Any, _buffers: object) -> None:
        """A view asks for everything. Runs on whatever thread the kernel likes, so it leaves the work to `push`."""
        if content.get("op") != "ready":
            return
        with self._lock:
            if self._ended is None:
                self._state = None
            else:
                self._tell_all(*self._ended)

    def _has_moved(self, before_s: float, now_s: float) -> bool:
        bin_s = self._model.bin_s
        return not math.isnan(now_s) and now_s // bin_s != before_s // bin_s

    def _tell_all(self, state: _State, rows: NDArray[np.float64], text: str = "") -> None:
        whole = state.rest | {"gaps": state.gaps, "span": state.span_s}
        self._tell("reset", state.now_s, rows, whole, text)

    def _tell(
        self, operation: str, now_s: float, rows: NDArray[np.float64], state: dict[str, Any], text: str = ""
    ) -> None:
        self._sequence += 1
        now = None if math.isnan(now_s) else now_s  # JSON has no NaN
        self.send({"op": operation, "seq": self._sequence, "now": now, "text": text} | state, [rows.tobytes()])

    def __repr__(self) -> str:
        return f"<ChartWidget {self.options.get('title')!r}>"


def _look(model: ChartModel, now_s: float) -> _State:
    """What a model has beside its rows, copied."""
    rest = {"lanes": "lanes", "startS": "start_s"}
    found = {key: getattr(model, name, None) for key, name in rest.items()}
    return _State(
        now_s,
        list(model.gaps),
        getattr(model, "span_s", None),
        getattr(model, "cleared", 0),
        {key: list(value) if isinstance(value, list) else value for key, value in found.items() if value is not None},
    )
