"""The server: Quart routes, one hub, Hypercorn below.

* :mod:`~syndarix_rt.server.app`: `create_app`
* :mod:`~syndarix_rt.server.projects`: stream, history, publish, position, approvals
* :mod:`~syndarix_rt.server.query`: what a request for events asks for
* :mod:`~syndarix_rt.server.stream`: one subscriber's event stream
* :mod:`~syndarix_rt.server.connection`: a request that becomes a stream leaves Quart's response machinery
* :mod:`~syndarix_rt.server.writer`: the way to one client, without a task
* :mod:`~syndarix_rt.server.below`: what is below that in Hypercorn
* :mod:`~syndarix_rt.server.channel`: one tail and one log for all streams of a channel, which it writes to
* :mod:`~syndarix_rt.server.wheel`: which stream must be looked at when
* :mod:`~syndarix_rt.server.hub`: all channels, streams and sockets of this process
* :mod:`~syndarix_rt.server.settling`: what has settled is no business of the garbage collector
* :mod:`~syndarix_rt.server.ingress`: events from outside; spans (:mod:`~syndarix_rt.server.otlp`) and webhooks
  (:mod:`~syndarix_rt.server.github`), which may come again (:mod:`~syndarix_rt.server.once`)
* :mod:`~syndarix_rt.server.access`: who may come in
* :mod:`~syndarix_rt.server.limits`: what one client, and all of them, may take; where connections
  (:mod:`~syndarix_rt.server.admission`) and use over time (:mod:`~syndarix_rt.server.throttle`) meet them
* :mod:`~syndarix_rt.server.proxies`: behind proxies, and below a prefix
* :mod:`~syndarix_rt.server.pages`: the web page
* :mod:`~syndarix_rt.server.documents`: what the routes take and answer
* :mod:`~syndarix_rt.server.openapi`, :mod:`~syndarix_rt.server.asyncapi`: the server described
* :mod:`~syndarix_rt.server.problems`: errors as problem documents (RFC 9457)
* :mod:`~syndarix_rt.server.settings`: `Settings`
* :mod:`~syndarix_rt.server.launcher`: Hypercorn, signals, draining
"""

from syndarix_rt.server.app import create_app
from syndarix_rt.server.below import told as delivery_path
from syndarix_rt.server.launcher import bind, loop_factory, serve
from syndarix_rt.server.settings import Settings

__all__ = ["Settings", "bind", "create_app", "delivery_path", "loop_factory", "serve"]
