"""Runs the command line as a child process that ends when its parent does, however that ends.

Run as a script, so that it loads nothing of a notebook: its standard input is a pipe that the parent never writes to;
the kernel closes it with the parent, also after ``kill -9``.
"""

import os
import runpy
import signal
import threading


def _end_with_parent() -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock would be in the way when the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("syndarix_rt", run_name="__main__", alter_sys=True)
