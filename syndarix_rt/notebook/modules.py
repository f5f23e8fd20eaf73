"""The modules of ``web/`` for a notebook: joined into one text, which is what anywidget takes."""

from __future__ import annotations

import re
from importlib.resources import files

__all__ = ["WEB", "joined"]

WEB = files("syndarix_rt") / "web"
_HERE = files("syndarix_rt") / "notebook"


def joined(*names: str, adapter: str) -> str:
    """Modules of ``web/``, each after those that it imports, and below them ``follow.js`` and an adapter of here.

    Each widget sends it, so without comments.
    """
    texts = [*(WEB / name for name in names), _HERE / "follow.js", _HERE / adapter]
    text = "\n".join(file.read_text(encoding="utf-8") for file in texts)
    return re.sub(r"^\s*(import .*\n|//.*\n|/\*\*(.|\n)*?\*/\n)?", "", text, flags=re.MULTILINE)
