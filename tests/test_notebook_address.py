"""Where a browser finds a notebook's server: here, behind a hub, behind a proxy of one's own."""

from __future__ import annotations

import pytest

from syndarix_rt.errors import StreamError
from syndarix_rt.notebook.address import page_url

HERE = "http://127.0.0.1:8765/p/apollo?key=s3cret"
HUB = {"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"}
NAMED_HUB = HUB | {"JUPYTERHUB_PUBLIC_URL": "https://hub.example/user/ada/"}
OWN = {"SYNDARIX_RT_PUBLIC_URL": "https://rt.example/live/"}


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        (HERE, {}, "http://127.0.0.1:8765"),
        ("http://localhost:8765/", {}, "http://localhost:8765"),
        (HERE, HUB, "/user/ada/proxy/8765"),
        ("http://localhost", HUB, "/user/ada/proxy/80"),
        ("http://[::1]:8765", HUB, "/user/ada/proxy/8765"),
        (HERE, {"JUPYTERHUB_SERVICE_PREFIX": "/"}, "/proxy/8765"),
        (HERE, NAMED_HUB, "https://hub.example/user/ada/proxy/8765"),
        ("https://rt.example/p/apollo", NAMED_HUB, "https://rt.example"),  # not on this machine: no way through it
        (HERE, OWN, "https://rt.example/live"),
        (HERE, OWN | NAMED_HUB, "https://rt.example/live"),
        (HERE, {"SYNDARIX_RT_PUBLIC_URL": ""}, "http://127.0.0.1:8765"),
    ],
)
def test_a_browser_is_sent_where_it_can_reach_the_server(url, environment, expected):
    assert page_url(url, environment) == expected


def test_a_public_url_that_is_none_is_refused():
    with pytest.raises(StreamError, match="not a server's URL"):
        page_url(HERE, {"SYNDARIX_RT_PUBLIC_URL": "rt.example"})
