"""What panels show, counted as events come: pure, without widgets, pandas or a clock.

* :mod:`~syndarix_rt.notebook.panels.timeline`: which events there are, and at what time of the axis
* :mod:`~syndarix_rt.notebook.panels.catalogue`: all panels, their names and how each is drawn
* :mod:`~syndarix_rt.notebook.panels.rates`: events, tokens and money
* :mod:`~syndarix_rt.notebook.panels.agents`: what each agent does
* :mod:`~syndarix_rt.notebook.panels.work`: issues and sprints
* :mod:`~syndarix_rt.notebook.panels.changes`: branches, commits, pull requests and pipelines
* :mod:`~syndarix_rt.notebook.panels.census`: who is in which state
* :mod:`~syndarix_rt.notebook.panels.inbox`: approvals that wait
* :mod:`~syndarix_rt.notebook.panels.log`: the newest events
* :mod:`~syndarix_rt.notebook.panels.sighting`: what panels see of an event
"""
