"""Evidence that nothing is lost unless it is declared: a workload, faults, and an oracle over every subscriber.

* :mod:`~syndarix_rt.verification.plan`: levels, and which faults come when
* :mod:`~syndarix_rt.verification.stack`: a Redis and server processes that can be killed, paused and restarted
* :mod:`~syndarix_rt.verification.cluster`: the same of three masters with a replica each
* :mod:`~syndarix_rt.verification.link`: the TCP proxy in front of each subscriber
* :mod:`~syndarix_rt.verification.recorder`: a recording whose disk is full
* :mod:`~syndarix_rt.verification.faults`: does what the plan says
* :mod:`~syndarix_rt.verification.workload`: what is published
* :mod:`~syndarix_rt.verification.history`: what the log held when
* :mod:`~syndarix_rt.verification.subscribers`: who receives, and what each of them saw
* :mod:`~syndarix_rt.verification.oracle`: holds that against the history
* :mod:`~syndarix_rt.verification.planted`: faults in delivery, to see that the oracle finds them
* :mod:`~syndarix_rt.verification.trial`: all of it together
* :mod:`~syndarix_rt.verification.verdict`: what it found, as data
* :mod:`~syndarix_rt.verification.report`: and as a page with a picture
"""

from syndarix_rt.verification.plan import FAULTS, LEVELS, Fault, Level
from syndarix_rt.verification.planted import PLANTED
from syndarix_rt.verification.report import html_report
from syndarix_rt.verification.trial import verify
from syndarix_rt.verification.verdict import Verdict

__all__ = ["FAULTS", "LEVELS", "PLANTED", "Fault", "Level", "Verdict", "html_report", "verify"]
