"""`Settings`: what a server is told at start; each default has its reason."""

from __future__ import annotations

from pathlib import Path

import msgspec

__all__ = ["Settings"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the server behaves. Units stand in the names."""

    host: str = "127.0.0.1"
    """The name or address it is bound to; requests for another host are refused (DNS rebinding). Loopback: a demo on a
    laptop is nobody else's business."""
    hosts: tuple[str, ...] = ()
    """Further host names that it answers to, such as a proxy's."""
    token: str | None = None
    """The secret that clients must show; None switches authorisation off (for tests, and for loopback on purpose)."""
    github_secret: str | None = None
    """The secret of GitHub webhooks; None: there are none. One for all projects: whoever has it may write to each."""
    cors_origins: tuple[str, ...] = ()
    """Origins of other sites whose pages may read and write here."""
    tls_cert: Path | None = None
    """Certificate chain (PEM); with it the launcher serves HTTPS. Most have a proxy that does."""
    tls_key: Path | None = None
    """The certificate's private key (PEM), if it is not in the same file."""
    proxy_hops: int = 0
    """Proxies of ours in front, whose ``X-Forwarded-*`` are believed; 0: nobody's, since anybody can send them."""
    root_path: str = ""
    """The path below which the world sees the server, such as ``/rt``; a proxy may take it away or leave it."""
    log_clients: bool = False
    """Whether a log line says who comes and goes; off where the server is a part of something that prints, too, such as
    a notebook."""
    figures_dir: Path | None = None
    """Where the workers of one server leave their figures for each other, so that any can tell those of all."""
    keepalive_s: float = 15.0
    """A comment goes to a connection that had no byte for so long; the HTML standard advises about 15 s for proxies."""
    ping_s: float = 15.0
    """A WebSocket whose client was silent for so long is asked for a sign of life, and closed without one after as long
    again: a lease that it holds lasts no longer."""
    fast_path: bool = True
    """Whether streams over HTTP/1.1 are written straight to their connection, at a quarter of the cost; if not,
    as all others through ASGI."""
    retry_ms: tuple[int, int] = (1_000, 3_000)
    """Bounds of the random delay that clients are asked to keep before they connect again."""
    drain_s: float = 10.0
    """Streams are ended over at most so long at shutdown."""
    drain_per_s: float = 200.0
    """Streams ended in a second, so that their clients do not all come back at once; few streams end at once."""
    stall_s: float = 30.0
    """A connection that takes no byte for so long is given up (``TCP_USER_TIMEOUT``), and a stream whose client has not
    taken one write by then: longer than a lift ride."""
    max_age_s: float = 24 * 3600.0
    """A stream is ended as planned at this age, or up to a fifth earlier, and comes back: what nothing else has noticed
    to be dead, such as a peer behind a proxy, is gone after a day."""
    replay_limit: int = 100_000
    """``?replay=N`` is cut to this: the default retention, so that only a longer log feels it."""
    max_connections: int = 20_000
    """Connections open at a time, and requests, streams and sockets on them (HTTP/2 has many on one); more are answered
    with 503. 20,000 streams are 0.3 GiB. The launcher takes less where the process may open fewer files."""
    max_client_connections: int = 0
    """… of one client, more with 429; 0: nine tenths of all. On one machine every stream comes from the same address,
    and so do all behind a proxy that is not declared; but somebody else always gets in."""
    body_timeout_s: float = 60.0
    """A request's body is here within this, or it is answered with 408: 4 MiB over half a megabit a second."""
    publish_bytes_per_s: float = 16 * 1024 * 1024
    """What one client may publish over HTTP, lasting; ten times as much at once. More than a worker stored from four
    publishers on two busy cores (17,000 events of a simulation, 10 MiB a second), so that a run at full speed is not
    slowed down; for strangers it should be less."""
    new_projects_per_h: float = 2_000.0
    """Projects without an event that one client may ask for or begin: so many at once, and again within an hour. Of
    each the broker keeps some bytes. A thousand dashboards may be opened before the first event."""
    alone: bool = True
    """No other process serves on this port. Of a run that real agents report over several, none knows the totals."""
    linger_s: float = 1.0
    """A channel is followed so long after its last subscriber left: bridges a reload, ends well within 5 s."""
