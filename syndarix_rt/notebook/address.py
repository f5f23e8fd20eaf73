"""`page_url`: where a browser finds a server that may stand behind a notebook hub."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from syndarix_rt.client import parse_server_url

__all__ = ["page_url"]

PUBLIC_URL = "SYNDARIX_RT_PUBLIC_URL"
"""Names the server's address for browsers, where a proxy of one's own stands before it."""


def page_url(url: str, environment: Mapping[str, str]) -> str:
    """The address of a server for the browser that shows this notebook, without its key and a ``/`` at the end.

    On a hub the browser is on another machine than the server, and reaches a port of this one only through
    jupyter-server-proxy, below the hub's path for this user. The hub tells its own address since JupyterHub 5; before,
    the answer is a path, which a browser that shows a page of the hub completes.

    Args:
        url: the server's as this machine reaches it.
        environment: of the kernel: ``SYNDARIX_RT_PUBLIC_URL`` wins, then ``JUPYTERHUB_PUBLIC_URL`` and
            ``JUPYTERHUB_SERVICE_PREFIX``, which only a hub sets.

    Raises:
        StreamError: one of these is no URL.
    """
    base_url = parse_server_url(url).base_url
    if public_url := environment.get(PUBLIC_URL):
        return parse_server_url(public_url).base_url
    prefix = environment.get("JUPYTERHUB_SERVICE_PREFIX")
    parts = urlsplit(base_url)
    if not prefix or not _is_here(parts.hostname or ""):
        return base_url
    port = parts.port or (443 if parts.scheme == "https" else 80)
    hub_url = environment.get("JUPYTERHUB_PUBLIC_URL")
    top = parse_server_url(hub_url).base_url if hub_url else "/" + prefix.strip("/")
    return f"{top.rstrip('/')}/proxy/{port}{parts.path}"


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
