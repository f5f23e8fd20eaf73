"""Clients over HTTP, on aiohttp.

* :mod:`~syndarix_rt.client.stream`: `EventStream` receives a project's events and resumes by itself
* :mod:`~syndarix_rt.client.publisher`: `HttpPublisher` publishes into a project
* :mod:`~syndarix_rt.client.api`: `Api` asks a server what it has
* :mod:`~syndarix_rt.client.url`: `parse_server_url` takes a pasted URL apart
"""
