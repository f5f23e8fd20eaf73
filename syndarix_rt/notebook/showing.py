"""`Showing`: a widget where somebody sees it, and a still picture where nobody can, or it has ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from IPython.display import DisplayHandle, display

from syndarix_rt.notebook.still import NO_VIEW, Still, no_view

__all__ = ["Showing"]

VIEW_S = 5.0
"""Time in which a view answers that has all it needs: it does within a second."""

ANSWER_S = 0.5
"""What waited while a cell blocked the kernel is taken first."""

REFRESH_S = 5.0
"""Time between two pictures where no view is: each is some 100 kB in the notebook's output, in place of the last."""


class Showing:
    """The output of a cell that shows a widget.

    Args:
        widget: the widget by MIME type.
        picture: a still picture of it, as it is now.
        live: whether it goes on.
    """

    def __init__(
        self, widget: Callable[[], dict[str, Any]], picture: Callable[[], Still], live: Callable[[], bool]
    ) -> None:
        self._widget = widget
        self._picture = picture
        self._live = live
        self._handle: DisplayHandle | None = None
        self._seen = False  # whether a view has told that it shows it
        self._replaced = False  # whether a picture stands where a view should

    def show(self) -> None:
        """Show it in a cell, in a way that a still picture can take its place."""
        self._handle = display(self._widget(), raw=True, display_id=True)  # type: ignore[no-untyped-call] # as all of IPython
        with contextlib.suppress(RuntimeError):  # no loop: this is no kernel, and nobody will answer
            loop = asyncio.get_running_loop()
            if self._live() and not self._seen:
                loop.call_later(VIEW_S, loop.call_later, ANSWER_S, self._show_picture)

    def seen(self) -> None:
        """A view shows it. If that came late, let it: where it was is a picture by now."""
        self._seen = True
        if self._replaced and self._live():
            self._replaced = False
            self._update(self._widget())

    def end(self, picture: Still) -> None:
        """Show a picture from now on."""
        # Without the type of a widget, which would be shown instead, and is gone with the kernel.
        self._update(picture.bundle())

    def _show_picture(self) -> None:
        """No view has answered: say why, and show a picture instead, now and again.

        On the kernel's loop: a cell that blocks it holds up the views' answers as well as this.
        """
        if self._seen or not self._live():
            return
        self._replaced = True
        picture = self._picture()
        texts = {"text/html": no_view(picture.svg), "text/plain": f"{NO_VIEW}\n{picture!r}"}
        self._update(picture.bundle() | texts)
        asyncio.get_running_loop().call_later(REFRESH_S, self._show_picture)

    def _update(self, bundle: dict[str, Any]) -> None:
        if self._handle is not None:
            self._handle.update(bundle, raw=True)  # type: ignore[no-untyped-call] # as all of IPython
