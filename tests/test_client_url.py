"""`parse_server_url`: what people paste."""

import pytest

from syndarix_rt.client import ServerUrl, parse_server_url
from syndarix_rt.errors import StreamError


@pytest.mark.parametrize(
    ("pasted", "parts"),
    [
        ("http://127.0.0.1:8765", ("http://127.0.0.1:8765", None, None)),
        ("http://127.0.0.1:8765/", ("http://127.0.0.1:8765", None, None)),
        ("  http://127.0.0.1:8765/p/apollo?key=a%2Fb-_~\n", ("http://127.0.0.1:8765", "a/b-_~", "apollo")),
        ("http://localhost:8765/?key=s3cret", ("http://localhost:8765", "s3cret", None)),
        ("http://localhost:8765?key=s3cret#top", ("http://localhost:8765", "s3cret", None)),
        ("http://localhost:8765/p/apollo/", ("http://localhost:8765", None, "apollo")),
        ("http://localhost:8765/projects/apollo/events?types=git", ("http://localhost:8765", None, "apollo")),
        ("http://[::1]:8765/p/apollo", ("http://[::1]:8765", None, "apollo")),
        ("https://hub.example/user/ada/proxy/8765/", ("https://hub.example/user/ada/proxy/8765", None, None)),
        ("https://h.example/user/p/proxy/1/p/x?key=k", ("https://h.example/user/p/proxy/1", "k", "x")),
        ("https://h.example/projects/live", ("https://h.example/projects/live", None, None)),
        ("HTTP://EXAMPLE.org", ("http://EXAMPLE.org", None, None)),
    ],
)
def test_a_pasted_url_is_taken_apart_and_a_proxys_prefix_survives(pasted, parts):
    assert parse_server_url(pasted) == ServerUrl(*parts)


@pytest.mark.parametrize(
    "pasted",
    [
        "",
        "localhost:8765",
        "127.0.0.1:8765",
        "apollo",
        "ftp://host/",
        "http://",
        "http://h:eight/",
        "http://[::1/",
        "/p/x",
    ],
)
def test_anything_else_is_refused_with_what_is_expected(pasted):
    with pytest.raises(StreamError, match="not a server's URL"):
        parse_server_url(pasted)


def test_a_password_in_a_url_is_refused_and_secrets_are_not_repeated():
    with pytest.raises(StreamError, match="no user name") as caught:
        parse_server_url("http://ada:hunter2@localhost:8765/")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(StreamError) as caught:
        parse_server_url("htp://ada:hunter2@localhost:8765/?key=s3cret")
    assert "hunter2" not in str(caught.value)
    assert "s3cret" not in str(caught.value)
