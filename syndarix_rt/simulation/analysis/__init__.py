"""What events tell: metrics, frames, queues beside their theory, comparisons of two streams.

* :mod:`~syndarix_rt.simulation.analysis.summary`: `Summary`: metrics of a stream, taken event by event; their
  :mod:`~syndarix_rt.simulation.analysis.metric_names`
* :mod:`~syndarix_rt.simulation.analysis.frames`: `events_frame`, `runs_frame`, `queues_frame`; their
  :mod:`~syndarix_rt.simulation.analysis.columns`
* :mod:`~syndarix_rt.simulation.analysis.comparison`: `compare`: two streams side by side
* :mod:`~syndarix_rt.simulation.analysis.queues`: `Queues`: visits to agents, runners and humans
* :mod:`~syndarix_rt.simulation.analysis.theory`: what queueing theory says of them
* :mod:`~syndarix_rt.simulation.analysis.fit`: `fit`: a profile from a trace
* :mod:`~syndarix_rt.simulation.analysis.calibration`: `Calibration`: is a simulation like real agents?
"""
