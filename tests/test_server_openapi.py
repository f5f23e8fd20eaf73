"""The OpenAPI document: complete, well formed, and true of what the server takes and answers; and its page."""

from __future__ import annotations

import json
import re
from urllib.parse import urljoin

import jsonschema
import pytest
import schemathesis
from command_line import Command
from hypothesis import HealthCheck, settings
from schemathesis import checks
from schemathesis.config import SchemathesisConfig
from serving import event, running

from syndarix_rt.broker import MemoryBroker
from syndarix_rt.server import Settings, create_app
from syndarix_rt.server.access import NEEDS
from syndarix_rt.server.openapi import ROUTES, describe

KEY = "k3y-of-the-tests"
APP = create_app(MemoryBroker(), Settings(token=KEY))
DOCUMENT = describe(APP)


def operations():
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def test_every_route_of_the_app_is_described_and_nothing_else():
    routes = {
        ("GET" if rule.websocket else method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in APP.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for method, path, _ in operations()} == routes
    assert ROUTES.keys() == {rule.endpoint for rule in APP.url_map.iter_rules()}


def test_it_is_well_formed():
    """What the official schema of OpenAPI 3.1 asks of a document like ours; each schema in it is one of JSON Schema."""
    for name, schema in DOCUMENT["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema.get("description"), name
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids))
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for method, path, operation in operations():
        assert operation["summary"], path
        assert {*operation["tags"]} <= tags
        in_path = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
        assert in_path == {*re.findall(r"\{(\w+)\}", path)}
        assert all(answer["description"] for answer in operation["responses"].values()), (method, path)
    references = {*re.findall(r"'\$ref': '([^']+)'", repr(DOCUMENT))}
    assert len(references) > 10
    for reference in references:
        found = DOCUMENT
        for word in reference.removeprefix("#/").split("/"):
            found = found[word]


def test_it_names_the_rights_that_are_asked_for():
    by_id = {operation["operationId"]: operation for _, _, operation in operations()}
    for endpoint in ROUTES:
        operation = by_id[endpoint.replace(".", "-").strip("_")]
        if operation.get("security") != []:
            assert tuple(operation["x-rights"]) == NEEDS.get(endpoint, ("owner",))


@pytest.mark.parametrize("prefix", ["", "/rt"])
async def test_its_paths_begin_where_it_is(prefix):
    async with running(root_path=prefix) as server:
        where = f"{server.url}{prefix}/openapi.json"
        async with server.http.get(where) as answer:
            [named] = (await answer.json())["servers"]
        async with server.http.get(urljoin(where, named["url"]).rstrip("/") + "/projects") as answer:
            assert answer.status == 200


async def test_what_is_open_and_what_wants_the_key_is_as_described():
    async with running(token=KEY) as server:
        for method, path, operation in operations():
            url = re.sub(r"\{name\}", "style.css", path)
            url = re.sub(r"\{\w+\}", "x", url)
            async with server.http.request(method, server.url + url) as answer:
                wants_key = "security" not in operation
                assert (answer.status == 401) == wants_key, (method, path, answer.status)


# ---- true: schemathesis sends what the document allows and what it forbids, and holds the answers against it ---------

STREAMS = ["/projects/{project}/chat", "/projects/{project}/debug"]
CONFIG = SchemathesisConfig.from_dict(
    {
        "checks": {"negative_data_rejection": {"expected-statuses": ["4xx"]}},
        "generation": {"allow-extra-parameters": False},  # they are passed over, as everywhere on the web
    }
)


@schemathesis.serializer("application/x-ndjson", "application/x-protobuf")
def lines(_, value):
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


SCHEMA = schemathesis.openapi.from_dict(
    DOCUMENT | {"security": []}, config=CONFIG
)  # credentials are none of its business
ANSWERS = [
    checks.not_a_server_error,
    *(
        check
        for check in checks.CHECKS.get_all()
        if check.__name__
        in (
            "status_code_conformance",
            "content_type_conformance",
            "response_headers_conformance",
            "response_schema_conformance",
            "negative_data_rejection",
            "unsupported_method",
        )
    ),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Command("serve", "--port", "0", "--token", KEY, "--redis-url", "memory://") as command:
        yield command.url().partition("/?")[0]


@SCHEMA.exclude(path=STREAMS).exclude(operation_id="projects-control").parametrize()
@settings(max_examples=10, derandomize=True, suppress_health_check=[*HealthCheck], deadline=None)
def test_the_server_does_what_the_document_says(case, server):
    headers = {"authorization": f"Bearer {KEY}"}
    if case.operation.definition.raw["operationId"] == "projects-events":
        headers["accept"] = "application/json"  # the same route's stream has tests of its own, and no end
    case.call_and_validate(base_url=server, headers=headers, checks=ANSWERS, timeout=60)


# ---- the page --------------------------------------------------------------------------------------------------------


@pytest.mark.browser
async def test_the_page_shows_every_route_and_filters_them(browser):
    async with running(token=KEY, root_path="/rt") as server:
        await server.publish(1)
        page = await browser.new_page()
        console = []
        page.on("console", lambda message: console.append(message.text))
        page.on("pageerror", lambda error: console.append(str(error)))
        await page.goto(f"{server.url}/rt/docs?key={KEY}")
        assert page.url == f"{server.url}/rt/docs"
        await page.wait_for_selector(".route")
        shown = await page.locator(".route > summary .path").all_inner_texts()
        assert sorted(shown) == sorted(path for _, path, _ in operations())
        assert await page.locator("#contents li").count() == len(shown)
        route = page.locator("#projects-publish")
        await route.locator("summary").first.click()
        for text in ("Idempotency-Key", "Event | array of Event", f"{server.url}/rt/projects/apollo/events", "publish"):
            assert text in await route.inner_text()
        await route.locator(".shape summary", has_text="Event").click()
        assert "specversion" in await route.inner_text()
        await page.fill("#filter", "ws chat")
        assert await page.locator(".route:visible .path").all_inner_texts() == ["/projects/{project}/chat"]
        assert console == []
        await page.context.close()


async def test_the_example_of_the_page_can_be_published():
    """As `docs.js` has it, but for the time."""
    async with running() as server:
        body = event(1, type="deploy_finished", data={}).encode()
        assert (await server.post("/projects/apollo/events", body))[0] == 202
