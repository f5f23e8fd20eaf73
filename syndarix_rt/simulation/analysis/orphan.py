"""`end_with`: a worker process ends soon after the program that started it.

A program that is killed cannot end its workers. Joblib's would go on to the end of their replication, and then wait a
minute for another one; one that was just starting would wait as long for its first.
"""

from __future__ import annotations

import os
import time
from threading import Thread

__all__ = ["end_with"]

_LOOK_S = 0.5
"""Between two looks: soon for whoever waits for the cores, and nothing beside a simulation."""


def end_with(program: int) -> None:
    """End this process once its parent is no longer the program, which has this process id."""

    def watch() -> None:
        while os.getppid() == program:
            time.sleep(_LOOK_S)
        os._exit(1)

    Thread(target=watch, name="orphan", daemon=True).start()
