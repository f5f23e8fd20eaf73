"""What a span's attributes say: of an LLM call, a tool call, an agent, or something else of generative AI.

Two vocabularies are read: the OpenTelemetry semantic conventions for generative AI (v1.41 and its successors in
semantic-conventions-genai, with names of before where they changed), and OpenInference.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from syndarix_rt.events import as_id, as_text
from syndarix_rt.events.payloads import LLM_OPERATIONS

__all__ = ["KNOWN", "RESOURCE_KNOWN", "Reading", "read_span"]

_OPERATION = "gen_ai.operation.name"
_KIND = "openinference.span.kind"

_KINDS = {
    "LLM": "chat",
    "TOOL": "execute_tool",
    "AGENT": "invoke_agent",
    "EMBEDDING": "embeddings",
    "RETRIEVER": "retrieval",
    "RERANKER": "rerank",
}
"""OpenInference's kinds of spans as operations. A ``CHAIN`` and the rest are frames around these, and say nothing."""

AGENT_OPERATIONS = ("invoke_agent", "invoke_workflow")

# What becomes of attributes: the key in a payload, and the names that it is looked for under, the newest first.
_TEXTS = {
    "gen_ai.request.model": ("gen_ai.request.model", "llm.request.model_name", "llm.model_name"),
    "gen_ai.response.model": ("gen_ai.response.model", "llm.response.model_name"),
    "gen_ai.provider.name": ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"),
    "gen_ai.agent.name": ("gen_ai.agent.name", "agent.name"),
    "gen_ai.conversation.id": ("gen_ai.conversation.id", "session.id"),
}
_COUNTS = {
    "gen_ai.usage.input_tokens": (
        "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt",
    ),
    "gen_ai.usage.output_tokens": (
        "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion",
    ),
    "cached_tokens": ("gen_ai.usage.cache_read.input_tokens", "llm.token_count.prompt_details.cache_read"),
    "gen_ai.usage.cache_creation.input_tokens": (
        "gen_ai.usage.cache_creation.input_tokens", "llm.token_count.prompt_details.cache_write",
    ),
    "gen_ai.usage.reasoning.output_tokens": (
        "gen_ai.usage.reasoning.output_tokens", "llm.token_count.completion_details.reasoning",
    ),
}  # fmt: skip
_COSTS = ("llm.cost.total", "gen_ai.usage.cost")
_TOOL_NAMES = ("gen_ai.tool.name", "tool.name")
_CALL_IDS = ("gen_ai.tool.call.id", "tool_call.id", "tool.id")
_FINISH = "gen_ai.response.finish_reasons"
_AGENTS = ("syndarix.agent", "gen_ai.agent.id", "gen_ai.agent.name", "agent.name")
_OURS = ("syndarix.agent", "syndarix.role", "syndarix.issue")

KNOWN = frozenset(
    {_OPERATION, _KIND, _FINISH, "error.type", *_COSTS, *_TOOL_NAMES, *_CALL_IDS, *_AGENTS, *_OURS}
    | {name for names in (*_TEXTS.values(), *_COUNTS.values()) for name in names}
)
"""The attributes of spans that are read."""

RESOURCE_KNOWN = frozenset(
    {"service.name", "syndarix.project", "openinference.project.name", *_OURS},
)
"""The attributes of resources that are read."""


class Reading(NamedTuple):
    """What a span is about."""

    operation: str
    """``chat``, ``execute_tool``, ``invoke_agent`` …"""
    data: dict[str, Any]
    """Its part of an ``agent_activity``."""

    @property
    def is_agent(self) -> bool:
        """Whether it spans the work of an agent."""
        return self.operation in AGENT_OPERATIONS

    @property
    def counts_as(self) -> str | None:
        """The total that it adds one to."""
        if self.operation in LLM_OPERATIONS:
            return "llm_calls"
        return "tool_calls" if self.operation == "execute_tool" else None


def read_span(attributes: dict[str, Any], error: str | None) -> Reading | None:
    """What a span says; None of one that has nothing to do with generative AI.

    Args:
        attributes: those of `KNOWN`.
        error: the text of its status, if that is an error.
    """
    operation = attributes.get(_OPERATION)
    if not isinstance(operation, str) or not operation:
        operation = _KINDS.get(str(attributes.get(_KIND)).upper())
        if operation is None:
            return None
    data: dict[str, Any] = {_OPERATION: as_text(operation, longest=100)}
    for key, names in _TEXTS.items():
        if text := _text(attributes, names):
            data[key] = text
    if operation == "execute_tool" and (tool := _text(attributes, _TOOL_NAMES)):
        data["gen_ai.tool.name"] = tool
    if call_id := _text(attributes, _CALL_IDS):
        data["gen_ai.tool.call.id"] = as_id(call_id)
    if operation not in AGENT_OPERATIONS:  # theirs are sums over calls that come by themselves
        _add_usage(data, attributes)
    if isinstance(reasons := attributes.get(_FINISH), list):
        data[_FINISH] = [str(reason)[:100] for reason in reasons[:10]]
    if error is not None or "error.type" in attributes:
        data["status"] = "error"
        data["error"] = as_text(attributes.get("error.type") or error or "error")
    return Reading(operation, data)


def agent_of(attributes: dict[str, Any], resource: dict[str, Any]) -> tuple[str, str, str | None]:
    """Who works, as what, on which issue: of a span, or else of its process."""
    service = str(resource.get("service.name") or "agent").removeprefix("unknown_service:")
    name = _text(attributes, _AGENTS) or _text(resource, ("syndarix.agent",)) or service
    role = _text(attributes, ("syndarix.role",)) or _text(resource, ("syndarix.role",))
    role = role or _text(attributes, ("gen_ai.agent.name", "agent.name")) or name
    issue = _text(attributes, ("syndarix.issue",)) or _text(resource, ("syndarix.issue",))
    return as_id(name, otherwise="agent"), role, as_id(issue) if issue else None


def _add_usage(data: dict[str, Any], attributes: dict[str, Any]) -> None:
    for key, names in _COUNTS.items():
        count = next((count for name in names if (count := _count(attributes.get(name))) is not None), None)
        if count is not None:
            data[key] = count
    if data.get("cached_tokens", 0) > data.get("gen_ai.usage.input_tokens", 0):
        # This provider counts the cached ones beside the input; a payload's are among them.
        data["gen_ai.usage.cache_read.input_tokens"] = data.pop("cached_tokens")
    for name in _COSTS:
        cost = attributes.get(name)
        if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost < 1e9:  # noqa: PLR2004 - not inf
            data["cost_usd"] = float(cost)
            break


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < 2**53 and value == int(value) else None


def _text(attributes: dict[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str) and value:
            return as_text(value, longest=255)
    return None
