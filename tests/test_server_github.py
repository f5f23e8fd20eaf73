"""GitHub's webhooks: payloads with the documented fields, signed as GitHub does, become valid events, once each."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid

import pytest
from serving import running

from syndarix_rt import validate
from syndarix_rt.adapters.github import is_signed
from syndarix_rt.events import CATALOGUE, Event

SECRET = "a secret of the tests"
URL = "https://github.example/acme/rocket"
REPOSITORY = {
    "id": 1296269, "name": "rocket", "full_name": "acme/rocket", "html_url": URL, "private": False,
    "default_branch": "main", "owner": {"login": "acme", "id": 1}, "pushed_at": "2026-11-20T10:00:30Z",
    "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-11-20T10:00:00Z",
}  # fmt: skip
FORK = REPOSITORY | {"full_name": "eve/rocket", "html_url": "https://github.example/eve/rocket"}
ADA = {"login": "ada", "id": 7, "type": "User"}
SHA, SHA2 = "6dcb09b5b57875f334f61aebed695e2e4193db5e", "0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c"


def issue(action, *, state="open", time="2026-11-20T10:00:00Z", reason=None):
    whole = {
        "id": 1, "node_id": "I_1", "number": 42, "title": "The rocket leaks", "state": state, "state_reason": reason,
        "user": ADA, "labels": [], "assignees": [], "milestone": None, "comments": 0, "body": "It leaks.",
        "created_at": "2026-11-20T10:00:00Z", "updated_at": time, "closed_at": time if state == "closed" else None,
        "html_url": f"{URL}/issues/42",
    }  # fmt: skip
    return "issues", {"action": action, "issue": whole, "repository": REPOSITORY, "sender": ADA}


def pull(action, *, merged=False, repo=REPOSITORY, time="2026-11-20T10:02:00Z", sha=SHA):
    whole = {
        "id": 2, "number": 43, "state": "closed" if action == "closed" else "open", "title": "Mend the leak",
        "body": "Tightens a bolt. Closes #42", "user": ADA, "draft": False, "merged": merged,
        "created_at": "2026-11-20T10:02:00Z", "updated_at": time, "merged_at": time if merged else None,
        "closed_at": time if action == "closed" else None, "merge_commit_sha": SHA2 if merged else None,
        "head": {"label": "acme:mend", "ref": "mend", "sha": sha, "user": ADA, "repo": repo},
        "base": {"label": "acme:main", "ref": "main", "sha": SHA2, "user": ADA, "repo": REPOSITORY},
        "additions": 10, "deletions": 2, "changed_files": 1, "commits": 1,
    }  # fmt: skip
    return "pull_request", {
        "action": action, "number": 43, "pull_request": whole, "repository": REPOSITORY, "sender": ADA,
    }  # fmt: skip


def push(*shas, branch="mend", ref=None, created=False, deleted=False, pushed_at=1_795_168_860):
    commits = [
        {
            "id": sha, "tree_id": SHA2, "distinct": True, "message": "Tighten a bolt\n\nIt was loose.",
            "timestamp": "2026-11-20T11:00:00+01:00", "url": f"{URL}/commit/{sha}",
            "author": {"name": "Ada", "email": "ada@example.org", "username": "ada"},
            "committer": {"name": "Ada", "email": "ada@example.org", "username": "ada"},
            "added": ["bolt.py"], "removed": [], "modified": ["rocket.py"],
        }
        for sha in shas
    ]  # fmt: skip
    return "push", {
        "ref": ref or f"refs/heads/{branch}", "before": "0" * 40 if created else SHA2, "after": SHA,
        "created": created, "deleted": deleted, "forced": False, "base_ref": None, "compare": f"{URL}/compare/a...b",
        "commits": commits, "head_commit": commits[-1] if commits else None,
        "repository": REPOSITORY | {"pushed_at": pushed_at}, "pusher": {"name": "ada", "email": "a@example.org"},
        "sender": ADA,
    }  # fmt: skip


def create(branch="mend", ref_type="branch"):
    return "create", {
        "ref": branch, "ref_type": ref_type, "master_branch": "main", "description": None, "pusher_type": "user",
        "repository": REPOSITORY, "sender": ADA,
    }  # fmt: skip


def workflow(action, conclusion=None, *, attempt=1, repo=REPOSITORY, started=90, time="2026-11-20T10:05:00Z"):
    started = f"2026-11-20T10:{started // 60:02}:{started % 60:02}Z"
    whole = {
        "id": 30433642, "name": "build", "head_branch": "mend", "head_sha": SHA, "path": ".github/workflows/build.yml",
        "run_number": 562, "run_attempt": attempt, "event": "push", "workflow_id": 159038,
        "status": "completed" if conclusion else action, "conclusion": conclusion, "pull_requests": [],
        "created_at": "2026-11-20T10:01:30Z", "updated_at": time, "run_started_at": started,
        "actor": ADA, "triggering_actor": ADA, "head_commit": {"id": SHA}, "repository": REPOSITORY,
        "head_repository": repo,
    }  # fmt: skip
    return "workflow_run", {
        "action": action, "workflow_run": whole, "workflow": {"id": 159038}, "repository": REPOSITORY, "sender": ADA,
    }  # fmt: skip


async def deliver(server, kind, payload, *, delivery=None, secret=SECRET, project="apollo", **headers):
    """Status and decoded answer."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    sent = {
        "x-github-event": kind, "x-github-delivery": delivery or str(uuid.uuid4()), "x-hub-signature-256": signature,
        "user-agent": "GitHub-Hookshot/044aadd", "content-type": "application/json",
    } | {name.replace("_", "-"): value for name, value in headers.items()}  # fmt: skip
    async with server.http.post(f"{server.url}/projects/{project}/github", data=body, headers=sent) as response:
        assert (int(response.headers.get("retry-after", 0)) > 0) is (response.status == 429), "what may come again"
        return response.status, await response.json(content_type=None)


async def stored(server, project="apollo"):
    entries = (await server.broker.read(f"project:{{{project}}}", 0, 1_000)).entries
    return [Event.decode(entry) for entry in entries]


async def events_of(*deliveries):
    async with running(token="k" * 48, github_secret=SECRET) as server:
        for kind, payload in deliveries:
            status, answered = await deliver(server, kind, payload)
            assert status == 202, answered
        return await stored(server)


def kinds(events):
    return [event.type for event in events]


async def test_the_life_of_a_change_is_a_valid_stream():
    events = await events_of(
        issue("opened"),
        issue("assigned", time="2026-11-20T10:00:10Z"),
        create(),
        push(SHA, created=True),
        workflow("requested"),
        workflow("in_progress"),
        pull("opened"),
        workflow("completed", "failure"),
        workflow("in_progress", attempt=2, started=310),
        workflow("completed", "success", attempt=2, started=310, time="2026-11-20T10:08:00Z"),
        push(SHA2, pushed_at=1_795_168_990),
        pull("synchronize", time="2026-11-20T10:03:10Z", sha=SHA2),
        pull("closed", merged=True, time="2026-11-20T10:10:00Z"),
        issue("closed", state="closed", time="2026-11-20T10:10:01Z", reason="completed"),
        push(branch="mend", deleted=True, pushed_at=1_795_169_460),
    )
    assert kinds(events) == [
        "issue_created", "issue_updated", "branch_created", "commit_pushed", "pipeline_started", "pr_created",
        "pipeline_failed", "pipeline_started", "pipeline_completed", "commit_pushed", "pr_updated", "pr_merged",
        "issue_closed", "branch_deleted",
    ]  # fmt: skip
    assert str(validate(events)) == "14 events, 0 violations"
    created, updated, _, commit, started, opened, failed, *_, merged, closed, _ = events
    assert created.data == {"issue_id": "42", "title": "The rocket leaks", "by": "ada", "state": "open"}
    assert updated.data["state"] == "assigned"
    assert commit.data == {
        "branch": "mend", "commit": SHA, "files_changed": 2, "message": "Tighten a bolt", "by": "ada",
    }  # fmt: skip
    assert commit.time.timestamp() == 1_795_168_860
    assert started.data["pipeline_id"] == "30433642-1"
    assert (failed.data["reason"], failed.data["duration_s"]) == ("tests", 210)
    assert (opened.data["pr_id"], opened.data["issue_id"], opened.data["commit"]) == ("43", "42", SHA)
    assert merged.data["lines_added"] == 10
    assert closed.data["state_reason"] == "completed"
    assert all(event.source.startswith(URL) for event in events)


@pytest.mark.parametrize(
    ("delivery", "kind", "data"),
    [
        (issue("reopened"), "issue_updated", {"state": "reopened"}),
        (issue("closed", state="closed", reason="not_planned"), "issue_closed", {"resolution": "wont_do"}),
        (pull("closed"), "pr_closed", {"branch": "mend"}),
        (pull("reopened"), "pr_reopened", {"pr_id": "43"}),
        (pull("labeled"), "pr_updated", {"action": "labeled"}),
        (workflow("completed", "cancelled"), "pipeline_failed", {"reason": "cancelled"}),
        (workflow("completed", "timed_out"), "pipeline_failed", {"reason": "timed_out"}),
        (workflow("completed", "skipped"), "pipeline_completed", {"conclusion": "skipped"}),
        (create(), "branch_created", {"branch": "mend"}),
    ],
)
async def test_a_delivery_is_an_event(delivery, kind, data):
    (event,) = await events_of(delivery)
    assert event.type == kind
    assert data.items() <= event.data.items()


@pytest.mark.parametrize(
    "delivery", [pull("opened", repo=FORK), pull("opened", repo=None), workflow("in_progress", repo=FORK)]
)
async def test_a_forks_branch_is_not_this_repositorys(delivery):
    (event,) = await events_of(delivery)
    assert "branch" not in event.data
    assert validate([event]).ok


@pytest.mark.parametrize(
    ("delivery", "why"),
    [
        (("ping", {"zen": "Keep it logically awesome.", "hook_id": 1}), "'ping' is no event that is read"),
        (issue("labeled", state="closed"), "labeled of a closed issue"),
        (issue("deleted"), "the issue is deleted"),
        (push(SHA, ref="refs/tags/v1"), "a push of a tag"),
        (push(), "a push without commits"),
        (create("v1", "tag"), "a new tag"),
        (workflow("requested"), "a workflow run is requested"),
    ],
)
async def test_what_is_ignored_says_why(delivery, why):
    async with running(github_secret=SECRET) as server:
        status, answered = await deliver(server, *delivery)
        assert (status, answered) == (202, {"events": 0, "duplicates": 0, "ignored": why})
        assert await stored(server) == []


async def test_a_delivery_that_comes_again_adds_nothing():
    async with running(github_secret=SECRET) as server:
        for again in (False, True):
            status, answered = await deliver(server, *push(SHA, SHA2, created=True), delivery="72d3162e-cc78-11e3")
            assert (status, answered["events"], answered["duplicates"]) == (202, 0 if again else 3, 3 if again else 0)
        assert kinds(await stored(server)) == ["branch_created", "commit_pushed", "commit_pushed"]


async def test_a_branch_is_created_once_whichever_delivery_comes_first():
    for first, second in ((create(), push(SHA, created=True)), (push(SHA, created=True), create())):
        assert sorted(kinds(await events_of(first, second))) == ["branch_created", "commit_pushed"]


async def test_a_wrong_signature_is_refused_and_nothing_is_stored():
    kind, payload = issue("opened")
    body = json.dumps(payload).encode()
    good = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    wrong = [
        "", "sha256=", good[:-1], good[:-1] + ("0" if good[-1] != "0" else "1"), good.removeprefix("sha256="),
        good.upper(), "sha1=" + good.removeprefix("sha256="), "é",
    ]  # fmt: skip
    async with running(token="k" * 48, github_secret=SECRET) as server:
        for signature in wrong:
            status, problem = await deliver(server, kind, body, x_hub_signature_256=signature)
            assert (status, problem["type"]) == (401, "urn:syndarix-rt:problem:wrong-signature"), signature
        assert (await deliver(server, kind, body, secret="another"))[0] == 401
        assert (await deliver(server, kind, body + b" ", x_hub_signature_256=good))[0] == 401
        assert await stored(server) == []
        assert await server.broker.projects() == []
        assert (await deliver(server, kind, body))[0] == 202


def test_githubs_own_example_of_a_signature_is_right():
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert is_signed(b"Hello, World!", "It's a Secret to Everybody", signature)


@pytest.mark.parametrize(
    ("kind", "payload", "headers", "status", "says"),
    [
        ("issues", b"{", {}, 400, "Not a payload of 'issues'"),
        ("issues", b"\xff", {}, 400, "Not a payload"),
        ("issues", b"[" * 100_000, {}, 400, "Not a payload"),
        ("issues", {"action": "opened", "repository": REPOSITORY}, {}, 400, "`issue`"),
        ("push", {**push(SHA)[1], "ref": "refs/heads/" + "x" * 300}, {}, 400, "$.data.branch"),
        (
            "issues",
            {**issue("opened")[1], "issue": issue("opened", time="2026-11-20T10:00:00")[1]["issue"]},
            {},
            400,
            "zone",
        ),
        (
            "issues",
            {**issue("opened")[1], "issue": issue("opened")[1]["issue"] | {"created_at": "0001-01-01T00:00:00+09:00"}},
            {},
            400,
            "years 1 to 9999",
        ),
        ("issues", b"payload=%7B%7D", {"content_type": "application/x-www-form-urlencoded"}, 415, "application/json"),
        ("issues", {}, {"x_github_delivery": "x" * 101}, 400, "X-GitHub-Delivery"),
        ("", {}, {}, 400, "X-GitHub-Event"),
        ("issues", {}, {"project": "a%20b"}, 400, "Not a project name"),
    ],
)
async def test_a_payload_that_is_none_is_refused(kind, payload, headers, status, says):
    async with running(github_secret=SECRET) as server:
        got, problem = await deliver(server, kind, payload, **headers)
        assert got == status
        assert says in problem["detail"]
        assert await stored(server) == []


async def test_without_a_secret_there_are_no_webhooks():
    async with running() as server:
        status, problem = await deliver(server, *issue("opened"))
        assert status == 404
        assert "--github-secret" in problem["detail"]


def test_every_event_has_a_catalogue_type_or_says_that_it_is_custom():
    assert "pr_updated" not in CATALOGUE
    assert "pr_reopened" not in CATALOGUE
    assert "branch_deleted" not in CATALOGUE


async def test_too_many_new_projects_are_refused_before_anything_is_stored():
    async with running(github_secret=SECRET, new_projects_per_h=1) as server:
        assert (await deliver(server, *create(), delivery="first", project="one"))[0] == 202
        known = {*server.broker._channels}
        for project in ("two", "three"):
            status, answer = await deliver(server, *push(SHA, created=True), delivery="again", project=project)
            assert (status, answer["type"]) == (429, "urn:syndarix-rt:problem:limit-projects")
        assert {*server.broker._channels} == known
        assert await server.broker.projects() == ["one"]
        assert (await deliver(server, *push(SHA), delivery="again", project="one"))[0] == 202, "what is there goes on"
