"""Who may what: every route with every credential, tokens with rights, and what ends with them."""

import asyncio
import json
import time
import warnings

import aiohttp
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import TIMEOUT_S, event, running

from syndarix_rt.broker.memory import MemoryBroker
from syndarix_rt.errors import SyndarixError
from syndarix_rt.server import create_app
from syndarix_rt.server.access import NEEDS
from syndarix_rt.server.tokens import RIGHTS, Grant, _signing_key, issue, verify

KEY = "k" * 48
EVENT = event(1).encode()
CHOICE = b'{"decision":"approved"}'
CLAIM = b'{"holder":"run"}'

# (method, path, body, the rights it asks for); None: open to all, and "key": the server's own key alone.
ROUTES = {
    "_healthz": ("GET", "/healthz", None, None),
    "_readyz": ("GET", "/readyz", None, None),
    "pages.static": ("GET", "/static/nope.js", None, None),
    "pages.index": ("GET", "/", None, ()),
    "pages.project_page": ("GET", "/p/apollo", None, ("subscribe",)),
    "credentials.ticket": ("POST", "/projects/apollo/ticket", None, ("subscribe",)),
    "credentials.revoke": ("POST", "/tokens/revoke", b'{"token":"x"}', "key"),
    "projects.list_projects": ("GET", "/projects", None, ()),
    "projects.position": ("GET", "/projects/apollo/position", None, ("subscribe",)),
    "projects.events": ("GET", "/projects/apollo/events", None, ("subscribe",)),
    "projects.approvals": ("GET", "/projects/apollo/approvals", None, ("subscribe",)),
    "projects.publish": ("POST", "/projects/apollo/events", EVENT, ("publish",)),
    "projects.publish_run": ("POST", "/projects/apollo/runs/run/events", EVENT, ("publish", "approve")),
    "projects.control": ("GET", "/projects/apollo/runs/run/control", None, ("publish",)),
    "projects.answer": ("POST", "/projects/apollo/runs/run/control", EVENT, ("publish",)),
    "projects.claim": ("PUT", "/projects/apollo/claim", CLAIM, ("publish",)),
    "projects.release": ("DELETE", "/projects/apollo/claim/run", None, ("publish",)),
    "projects.reset": ("DELETE", "/projects/apollo/events", None, ("publish",)),
    "projects.decide": ("POST", "/projects/apollo/approvals/a", CHOICE, ("approve",)),
    "metrics.exposition": ("GET", "/metrics", None, ("subscribe",)),
    "otlp.traces": ("POST", "/v1/traces", b"{}", ("publish",)),
    "github.deliver": ("POST", "/projects/apollo/github", b"{}", None),
    "asyncapi.document": ("GET", "/asyncapi.json", None, ()),
    "openapi.document": ("GET", "/openapi.json", None, ()),
    "pages.docs": ("GET", "/docs", None, ()),
    "chat.chat_socket": ("WS", "/projects/apollo/chat", "syndarix.chat.v1", ("chat",)),
    "debug.debug_socket": ("WS", "/projects/apollo/debug", "syndarix.debug.v1", ("debug",)),
}
EVERYTHING = [f"{right}:*" for right in RIGHTS]


def token(*rights, key=KEY, name="Ada", life_s=60):
    return issue(key, rights, name=name, life_s=life_s)


def forged(*, key=None, algorithm="HS256", **claims):
    now_s = int(time.time())
    whole = {
        "aud": "syndarix-rt", "sub": "Ada", "scope": " ".join(EVERYTHING), "iat": now_s, "exp": now_s + 60, "jti": "j",
    } | claims  # fmt: skip
    key = _signing_key(KEY) if key is None else key
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jwt.warnings.InsecureKeyLengthWarning)
        return jwt.encode({k: v for k, v in whole.items() if v is not ...}, key, algorithm=algorithm)


async def revoke(server, secret):
    body = json.dumps({"token": secret}).encode()
    return await server.post("/tokens/revoke", body, headers={"authorization": f"Bearer {KEY}"})


async def asked(server, route, secret):
    """401, 403, or 0 if it came in (whatever it was answered then)."""
    method, path, body, _ = ROUTES[route]
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    if method == "WS":
        async with server.http.ws_connect(server.url + path, protocols=(body,), headers=headers) as socket:
            await socket.send_json({"jsonrpc": "2.0", "method": "ping", "id": 1})  # who came in is answered
            message = await socket.receive(TIMEOUT_S)
            return {4401: 401, 4403: 403}[socket.close_code] if message.type == aiohttp.WSMsgType.CLOSE else 0
    headers |= {"content-type": "application/json"} if body else {}
    headers |= {"syndarix-project": "apollo"} if route == "otlp.traces" else {}
    async with server.http.request(
        method, server.url + path, data=body, headers=headers, allow_redirects=False
    ) as response:
        return response.status if response.status in (401, 403) else 0


def test_every_route_stands_in_the_table():
    app = create_app(MemoryBroker())
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert endpoints == set(ROUTES)
    assert {name: needs for name, (*_, needs) in ROUTES.items() if needs not in (None, "key")} == NEEDS


async def test_every_route_asks_every_credential_for_its_rights():
    revoked = token(*EVERYTHING)
    credentials = {
        "none": (None, None),
        "wrong": ("x" * 48, None),
        "the server's key": (KEY, set(RIGHTS)),
        "everything": (token(*EVERYTHING), set(RIGHTS)),
        "everything elsewhere": (token(*[f"{right}:zeus" for right in RIGHTS]), set()),
        "of another server": (token(*EVERYTHING, key="o" * 48), None),
        "revoked": (revoked, None),
        "over": (forged(exp=int(time.time()) - 1), None),
        **{right: (token(f"{right}:apo*"), {right}) for right in RIGHTS},
        "a run": (token("publish:apollo", "approve:apollo"), {"publish", "approve"}),
    }
    wrong = []
    async with running(token=KEY, github_secret="s3cret") as server:
        await server.broker.claim("project:{apollo}", "run", 60)
        assert (await revoke(server, revoked))[0] == 200
        for name, (secret, rights) in credentials.items():
            for route, (*_, needs) in ROUTES.items():
                if needs is None:
                    expected = 0
                elif rights is None:
                    expected = 401
                elif needs == "key":
                    expected = 0 if name == "the server's key" else 403
                else:
                    expected = 0 if rights >= set(needs) else 403
                if route == "metrics.exposition" and rights and name != "the server's key":
                    expected = 0 if name == "everything" else 403  # of all projects
                if route == "projects.answer" and not expected:
                    continue  # takes answers only: its own 403
                if route == "github.deliver":
                    expected = 401  # no credential is a signature
                if (got := await asked(server, route, secret)) != expected:
                    wrong.append((name, route, got, expected))
    assert not wrong


FORGERIES = [
    {"key": b"another-key-of-thirty-two-bytes!"},
    {"key": KEY.encode()},
    {"exp": ...},
    {"jti": ...},
    {"jti": ""},
    {"jti": "j" * 65},
    {"sub": ...},
    {"aud": "other"},
    {"aud": ...},
    {"iat": 2_000_000_000_000},
    {"sub": "owner"},
    {"sub": "anyone"},
    {"sub": "a\nb"},
    {"scope": ["subscribe:*"]},
    {"algorithm": "HS512"},
]
NONE_OF_OURS = [
    jwt.encode({"sub": "Ada", "scope": "subscribe:*", "exp": 2_000_000_000_000}, None, algorithm="none"),
    "a.b.c",
    "..",
    "x" * 5000,
    "é.é.é",
]


@pytest.mark.parametrize("changes", FORGERIES)
def test_what_differs_in_one_thing_from_a_token_of_ours_is_none(changes):
    assert verify(KEY, forged()).name == "Ada"
    assert verify(KEY, forged(**changes)) is None


@pytest.mark.parametrize("bad", NONE_OF_OURS)
def test_what_is_no_token_of_ours_is_none(bad):
    assert verify(KEY, bad) is None


def test_a_token_says_who_may_what_and_how_long():
    grant = verify(KEY, token("subscribe:demo_*", "publish:apollo", name="Ada Lovelace", life_s=60))
    assert grant.name == "Ada Lovelace"
    assert 50 < grant.expires_s - time.time() <= 60
    assert grant.may("subscribe", "demo_small")
    assert not grant.may("subscribe", "demo")
    assert not grant.may("publish", "apollo2")
    assert not grant.may("approve", "apollo")


@given(st.text("ab*", min_size=1, max_size=12), st.text("ab", max_size=12))
def test_a_glob_matches_as_the_shell_does(glob, project):
    from fnmatch import fnmatchcase  # noqa: PLC0415 - the reference

    assert Grant("x", frozenset({("chat", glob)})).may("chat", project) == fnmatchcase(project, glob)


@pytest.mark.parametrize(
    ("rights", "more", "says"),
    [
        (["subscribe"], {}, "not a right"),
        (["own:apollo"], {}, "not a right"),
        (["publish:a b"], {}, "not a right"),
        ([], {}, "needs a right"),
        (["chat:*"], {"name": "owner"}, "not a name"),
        (["chat:*"], {"name": "all"}, "not a name"),
        (["chat:*"], {"key": "short"}, "only 5 characters"),
        ([f"chat:p{n}" for n in range(400)], {}, "use globs"),
    ],
)
def test_a_token_that_would_not_do_is_not_made(rights, more, says):
    with pytest.raises(SyndarixError, match=says):
        token(*rights, **more)


async def test_only_projects_that_may_be_subscribed_to_are_listed():
    async with running(token=KEY) as server:
        for project in ("apollo", "zeus"):
            await server.publish(1, project=project)
        headers = {"authorization": f"Bearer {token('subscribe:apo*', 'publish:zeus')}"}
        _, _, listed = await server.get("/projects", headers=headers)
        assert [line["project"] for line in listed["projects"]] == ["apollo"]


async def test_a_decision_is_by_the_tokens_subject():
    async with running(token=KEY) as server:
        asks = event(
            1, type="approval_required", data={"approval_id": "a", "title": "t", "run_id": "r", "kind": "merge"}
        )
        owner = {"authorization": f"Bearer {KEY}"}
        assert (await server.post("/projects/apollo/events", asks.encode(), headers=owner))[0] == 202
        headers = {"authorization": f"Bearer {token('approve:apollo', name='Ada')}"}
        body = json.dumps({"decision": "approved", "by": "Grace"}).encode()
        status, _, decided = await server.post("/projects/apollo/approvals/a", body, headers=headers)
        assert (status, decided["by"]) == (200, "Ada")


async def test_a_token_for_one_project_does_not_reach_another_projects_run():
    async with running(token=KEY) as server:
        await server.broker.claim("project:{zeus}", "secret-run", 60)
        headers = {"authorization": f"Bearer {token('publish:apollo')}"}
        for ask in (server.get, lambda path, **more: server.post(path, EVENT, **more)):
            status, _, problem = await ask("/projects/apollo/runs/secret-run/control", headers=headers)
            assert (status, problem["type"]) == (404, "urn:syndarix-rt:problem:unknown-run")


async def test_a_stream_and_a_socket_end_with_their_token():
    async with running(token=KEY) as server:
        headers = {"authorization": f"Bearer {token('subscribe:*', 'chat:*', life_s=5)}"}
        chat = f"{server.url}/projects/apollo/chat"
        async with (
            server.stream(headers=headers) as stream,
            server.http.ws_connect(chat, protocols=["syndarix.chat.v1"], headers=headers) as socket,
        ):
            await server.publish(1, 3)
            async with asyncio.timeout(TIMEOUT_S):
                ending = asyncio.create_task(stream.end())
                async for _ in socket:
                    pass
                frames = await ending
            assert [frame.event for frame in frames][-1] == "auth-expiring"
            assert stream.decoder.last_event_id.endswith(".3")
            assert socket.close_code == 4401
        async with server.http.get(f"{server.url}/projects/apollo/events", headers=headers) as response:
            assert response.status == 401


async def test_a_token_is_traded_for_a_cookie_of_its_life_and_rides_in_no_other_address():
    async with running(token=KEY) as server:
        secret = token("subscribe:apollo", life_s=60)
        assert (await server.get("/projects", params={"key": secret}))[0] == 401
        status, headers, _ = await server.get("/p/apollo", params={"key": secret})
        assert (status, headers["location"]) == (303, "/p/apollo")
        cookie, _, attributes = headers["set-cookie"].partition(";")
        assert "HttpOnly" in attributes
        assert 50 < int(attributes.partition("Max-Age=")[2].partition(";")[0]) <= 60
        assert (await server.get("/projects", headers={"cookie": cookie}))[0] == 200
        # A link with another key must not take the place of the cookie that is there.
        status, headers, _ = await server.get("/p/apollo", params={"key": "x"}, headers={"cookie": cookie})
        assert status == 303
        assert "set-cookie" not in headers
