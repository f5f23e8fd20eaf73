"""What others say, as events, without I/O: OpenTelemetry's spans of agents, GitHub's webhooks.

* :mod:`~syndarix_rt.adapters.otlp`: an OTLP export request, as spans
* :mod:`~syndarix_rt.adapters.genai`: what a span's attributes say of an LLM, a tool or an agent
* :mod:`~syndarix_rt.adapters.traces`: spans as the events of runs
* :mod:`~syndarix_rt.adapters.github`: webhooks as events
"""
