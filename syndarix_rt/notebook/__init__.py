"""Live in a notebook: simulate, publish, receive and watch, on ipywidgets.

* :mod:`~syndarix_rt.notebook.workbench`: `Workbench`, the one object that a notebook needs
* :mod:`~syndarix_rt.notebook.parts`: `Parts`, what a workbench holds: feeds, dashboards, recordings, and
* :mod:`~syndarix_rt.notebook.playing`, ``talking``: its runs, and its chats and agents
* :mod:`~syndarix_rt.notebook.server`: a server of its own
* :mod:`~syndarix_rt.notebook.dashboard`: `Dashboard`, what is watched
* :mod:`~syndarix_rt.notebook.panels`: what panels show, counted as events come
* :mod:`~syndarix_rt.notebook.chart_widget`: `ChartWidget`, the charts of ``web/`` in a notebook
* :mod:`~syndarix_rt.notebook.panel_widget`: `PanelWidget`, the base of panels that are no charts
* :mod:`~syndarix_rt.notebook.connection`, ``approvals``, ``log_widget``, ``control``: these panels
* :mod:`~syndarix_rt.notebook.chat_widget`: `ChatWidget`, to talk with people and agents
* :mod:`~syndarix_rt.notebook.agent`: `NotebookAgent`, a function of yours that answers there
* :mod:`~syndarix_rt.notebook.debugger`: `Debugger`, to stop a run and look into it
* :mod:`~syndarix_rt.notebook.still`, ``still_axes``: still pictures of charts, drawn without a browser
* :mod:`~syndarix_rt.notebook.words`: numbers in words
* :mod:`~syndarix_rt.notebook.feed`: one project's stream, kept and counted as it comes
* :mod:`~syndarix_rt.notebook.store`: what was received, as a pandas frame
* :mod:`~syndarix_rt.notebook.showing`: a dashboard in a cell, or a still picture where no view is
* :mod:`~syndarix_rt.notebook.recording`: `Recording`, what was received in a file
* :mod:`~syndarix_rt.notebook.metrics`: values in bins of time, counted as they come
* :mod:`~syndarix_rt.notebook.runs`: `Run`, what plays into a project
* :mod:`~syndarix_rt.notebook.steering`: `Steering`, pause, step, speed and faults of a run
* :mod:`~syndarix_rt.notebook.outlet`: how a notebook's own events get into the log
* :mod:`~syndarix_rt.notebook.address`: where a browser finds the server
* :mod:`~syndarix_rt.notebook.children`, ``child``: child processes that never outlive the kernel
* :mod:`~syndarix_rt.notebook.upkeep`: `Upkeep`, a chat's or a debugger's connection, kept in view
* :mod:`~syndarix_rt.notebook.modules`: the modules of ``web/`` as text, for widgets
* :mod:`~syndarix_rt.notebook.background`: the thread and event loop beside the kernel's

Streams, pumps and players live on a thread of their own, so a cell that blocks does not freeze a dashboard.
"""

from importlib.util import find_spec

from syndarix_rt.errors import MissingExtra

if not all(map(find_spec, ("ipywidgets", "anywidget", "pandas"))):
    raise MissingExtra("notebook", "syndarix_rt.notebook")

from syndarix_rt.notebook.dashboard import Dashboard
from syndarix_rt.notebook.workbench import Workbench

__all__ = ["Dashboard", "Workbench"]
