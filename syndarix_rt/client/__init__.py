"""Clients over HTTP, on aiohttp.

* :mod:`~syndarix_rt.client.stream`: `EventStream` receives a project's events and resumes by itself
* :mod:`~syndarix_rt.client.reception`: what a stream receives, without I/O
* :mod:`~syndarix_rt.client.publisher`: `HttpPublisher` publishes into a project
* :mod:`~syndarix_rt.client.chat`: `ChatClient` talks in a project's chat, for a person or as an agent
* :mod:`~syndarix_rt.client.chat_socket`: how it hears and speaks, over one socket after another
* :mod:`~syndarix_rt.client.outbox`: what it has to send, until it is acknowledged
* :mod:`~syndarix_rt.client.agent`: `ChatAgent` answers there by a function of yours
* :mod:`~syndarix_rt.client.run_chat`: `RunChat` for the agents of a run that publishes over HTTP
* :mod:`~syndarix_rt.client.debug`: `DebugClient` steers the runs that play into a project
* :mod:`~syndarix_rt.client.control`: `HttpLine`, over which a run that publishes over HTTP is steered
* :mod:`~syndarix_rt.client.api`: `Api` asks a server what it has
* :mod:`~syndarix_rt.client.reporter`: `Reporter` tells a server what a real agent does
* :mod:`~syndarix_rt.client.report`: one run of it
* :mod:`~syndarix_rt.client.courier`, :mod:`~syndarix_rt.client.spool`, :mod:`~syndarix_rt.client.post`: how that gets
  there without the agent having to wait
* :mod:`~syndarix_rt.client.url`: `parse_server_url` takes a pasted URL apart
* :mod:`~syndarix_rt.client.socket`: the WebSocket of chat and debug, opened anew when it is cut
* :mod:`~syndarix_rt.client.http`: what they all share
"""

from syndarix_rt.client.agent import ChatAgent
from syndarix_rt.client.api import Api, ProjectState
from syndarix_rt.client.chat import Answer, ChatClient
from syndarix_rt.client.control import HttpLine
from syndarix_rt.client.debug import DebugClient
from syndarix_rt.client.publisher import HttpPublisher
from syndarix_rt.client.reception import StreamOpen
from syndarix_rt.client.report import ReportedRun, current_run
from syndarix_rt.client.reporter import LogHandler, Reporter
from syndarix_rt.client.stream import EventStream, StreamState
from syndarix_rt.client.url import ServerUrl, parse_server_url

__all__ = [
    "Answer",
    "Api",
    "ChatAgent",
    "ChatClient",
    "DebugClient",
    "EventStream",
    "HttpLine",
    "HttpPublisher",
    "LogHandler",
    "ProjectState",
    "ReportedRun",
    "Reporter",
    "ServerUrl",
    "StreamOpen",
    "StreamState",
    "current_run",
    "parse_server_url",
]
