"""What events tell: metrics, frames, queues beside their theory, comparisons of two streams.

* :mod:`~syndarix_rt.simulation.analysis.summary`: `Summary`: metrics of a stream, taken event by event
* :mod:`~syndarix_rt.simulation.analysis.queues`: `Queues`: visits to agents, runners and humans
* :mod:`~syndarix_rt.simulation.analysis.theory`: what queueing theory says of them
"""
