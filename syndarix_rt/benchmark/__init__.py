"""How fast a server delivers: a load of publishers and subscribers beside it, and figures that compare.

* :mod:`~syndarix_rt.benchmark.load`: many subscribers in one process, by plain sockets
* :mod:`~syndarix_rt.benchmark.offer`: a publisher that keeps to its schedule whatever the server does
* :mod:`~syndarix_rt.benchmark.candidate`: a running server that is measured, each part on a core of its own
* :mod:`~syndarix_rt.benchmark.measures`: what is measured

Figures of one machine and one session compare; others do not.
"""
