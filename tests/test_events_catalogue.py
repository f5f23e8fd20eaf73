"""The catalogue: the names that the outside relies on, and what their payloads must hold."""

import ast
import inspect
from datetime import UTC, datetime

import msgspec
import pytest
from event_strategies import data_of
from hypothesis import given, settings
from hypothesis import strategies as st

from syndarix_rt import Event
from syndarix_rt.errors import EventError
from syndarix_rt.events import CATALOGUE, CATEGORIES, CORE_TYPES, category_of, payloads

CORE = {
    "agent": "agent_started agent_activity agent_completed agent_error",
    "project": "issue_created issue_updated issue_closed",
    "git": "branch_created commit_pushed pr_created pr_merged",
    "workflow": "approval_required sprint_started sprint_completed",
    "pipeline": "pipeline_started pipeline_completed pipeline_failed",
}
EXTENSIONS = {"approval_resolved": "workflow", "pr_closed": "git"}
REQUIRED = {
    "agent_started": {"run_id", "agent_id", "role"},
    "agent_activity": {"run_id", "agent_id", "role"},
    "agent_completed": {"run_id", "agent_id", "role", "end_reason"},
    "agent_error": {"run_id", "agent_id", "role", "end_reason"},
    "issue_created": {"issue_id"},
    "issue_updated": {"issue_id"},
    "issue_closed": {"issue_id"},
    "branch_created": {"branch"},
    "commit_pushed": {"branch", "commit"},
    "pr_created": {"pr_id"},
    "pr_merged": {"pr_id"},
    "pr_closed": {"pr_id"},
    "approval_required": {"approval_id"},
    "approval_resolved": {"approval_id", "decision"},
    "sprint_started": {"sprint_id"},
    "sprint_completed": {"sprint_id"},
    "pipeline_started": {"pipeline_id"},
    "pipeline_completed": {"pipeline_id"},
    "pipeline_failed": {"pipeline_id"},
}


def make(event_type, data):
    return Event.new(event_type, data, project="p", id="i", time=datetime(2026, 1, 1, tzinfo=UTC))


def test_the_core_types_and_their_categories_are_those_of_the_contract():
    assert {t: category_of(t) for t in CORE_TYPES} == {t: c for c, line in CORE.items() for t in line.split()}
    assert len(CORE_TYPES) == 17
    assert tuple(CORE) == CATEGORIES


def test_our_extensions_are_flagged():
    assert {line.name: line.category for line in CATALOGUE.values() if line.extension} == EXTENSIONS


@pytest.mark.parametrize("event_type", CATALOGUE)
def test_a_payload_needs_the_keys_of_the_contract(event_type):
    fields = msgspec.structs.fields(CATALOGUE[event_type].payload)
    assert {f.encode_name for f in fields if f.required} == REQUIRED[event_type]


@pytest.mark.parametrize("event_type", CATALOGUE)
@settings(max_examples=20)
@given(data=st.data())
def test_a_payload_passes_untouched_and_without_a_required_key_it_is_refused(event_type, data):
    payload = data.draw(data_of(event_type))
    assert make(event_type, payload).data == payload
    for key in REQUIRED[event_type]:
        with pytest.raises(EventError, match=key) as caught:
            make(event_type, {k: v for k, v in payload.items() if k != key})
        assert caught.value.path == "$.data"


def test_a_payload_struct_may_be_given_and_absent_keys_stay_away():
    event = make("agent_activity", payloads.AgentActivity(run_id="r", agent_id="a", role="tester", input_tokens=5))
    assert event.data == {"run_id": "r", "agent_id": "a", "role": "tester", "gen_ai.usage.input_tokens": 5}


def test_activities_use_the_names_of_opentelemetry():
    names = {f.encode_name for f in msgspec.structs.fields(payloads.AgentActivity)}
    assert {
        "gen_ai.operation.name",
        "gen_ai.request.model",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.tool.name",
        "gen_ai.tool.call.id",
    } <= names


def test_a_custom_type_has_no_category_and_takes_any_object():
    event = make("lunch_served", {"menu": ["soup", {"warm": True}]})
    assert event.category is None
    assert event.data == {"menu": ["soup", {"warm": True}]}


def test_every_payload_says_which_types_it_is_of():
    for line in CATALOGUE.values():
        assert f"``{line.name}``" in line.payload.__doc__


def test_every_number_of_a_payload_has_its_unit_in_the_name_or_is_explained():
    counts = {"llm_calls", "tool_calls", "files_changed", "lines_added", "lines_deleted", "number", "issues_planned"}
    counts |= {"issues_carried_over"}
    for struct in [node for node in ast.parse(inspect.getsource(payloads)).body if isinstance(node, ast.ClassDef)]:
        for field, after in zip(struct.body, [*struct.body[1:], None], strict=True):
            if not isinstance(field, ast.AnnAssign):
                continue
            number = {n.id for n in ast.walk(field.annotation) if isinstance(n, ast.Name)} & {
                "int", "float", "Count", "Seconds", "Dollars",
            }  # fmt: skip
            name = field.target.id
            explained = isinstance(after, ast.Expr) or name.endswith(("_s", "_usd", "_tokens")) or name in counts
            assert explained or not number, f"{struct.name}.{name}"
