"""`PanelWidget`: a panel that is no chart, drawn by a small module of its own in the browser."""

from __future__ import annotations

import threading
from abc import abstractmethod
from typing import Any

import anywidget
import traitlets

from syndarix_rt.notebook.modules import WEB, joined

__all__ = ["PanelWidget", "module"]


def module(name: str) -> str:
    """The text of ``web/views/<name>.js`` and what it needs. As text: anywidget would watch a file."""
    return joined("views/frame.js", f"views/{name}.js", adapter="panel.js")


class PanelWidget(anywidget.AnyWidget):
    """Sends what has changed when it is told to, as numbered messages; a view that misses one asks for everything.

    Args:
        options: what the module is told at its start.
    """

    _css = (WEB / "panels.css").read_text(encoding="utf-8")
    options = traitlets.Dict().tag(sync=True)

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options=options)
        self._lock = threading.Lock()
        self._sequence = 0
        self._asked = True
        self._ended = ""
        self._now_s = 0.0
        self.on_msg(self._on_message)

    def push(self, now_s: float) -> None:
        """Send what has changed; nothing if that is nothing. Call it from one thread only.

        Args:
            now_s: wall time, seconds since 1970.
        """
        with self._lock:
            if not self._ended:
                self._now_s = now_s
                self._tell()

    def end(self, now_s: float, text: str) -> None:
        """Send the last state, and that nothing more will come."""
        with self._lock:
            if not self._ended:
                self._now_s, self._ended, self._asked = now_s, text, True
                self._tell()

    @abstractmethod
    def news(self, now_s: float, *, whole: bool) -> dict[str, Any] | None:
        """What a view is to be told; None if that is nothing.

        Args:
            now_s: wall time, seconds since 1970.
            whole: everything; else what has changed since the last call.
        """

    def asked_for(self, content: dict[str, Any]) -> None:
        """A person did something in a view. Called on whatever thread the kernel likes: hand the work over."""

    def _on_message(self, _widget: object, content: Any, _buffers: object) -> None:
        if content.get("op") != "ready":
            if not self._ended:
                self.asked_for(content)
            return
        with self._lock:
            self._asked = True
            if self._ended:  # nobody pushes any more
                self._tell()

    def _tell(self) -> None:
        whole, self._asked = self._asked, False
        news = self.news(self._now_s, whole=whole)
        if news is not None:
            self.tell("reset" if whole else "news", news)

    def tell(self, operation: str, content: dict[str, Any]) -> None:
        """Send a numbered message."""
        self._sequence += 1
        self.send(content | {"op": operation, "seq": self._sequence, "ended": self._ended})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.options.get('title')!r}>"
