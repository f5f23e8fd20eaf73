"""What a simulated agent answers: facts from its state in the run, as `Inspection` has it; nothing is made up.

So each fact of an answer is one that ``run.inspect`` shows at the same place of the run. The words around the facts
are chosen by the run's seed and the question: the same question at the same place gets the same answer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from syndarix_rt.playback.inspection import Inspection

__all__ = ["TOPICS", "answer"]

_Facts = Callable[[Inspection, dict[str, Any]], str]


def answer(known: Inspection, agent_id: str, question: str, seed: str) -> str:
    """The answer of an agent.

    Args:
        known: the project, at the place where it is asked.
        agent_id: who answers; it has begun to work in the run.
        question: what it was asked; looked at for the words that `TOPICS` names.
        seed: the simulation's id.
    """
    agent = known.look(f"agent:{agent_id}")
    if agent is None:
        return "I have not begun to work yet."
    asked = set(re.findall(r"[a-z]+", question.lower()))
    topics = [facts for words, facts in TOPICS if asked & words][:3] or [_work]
    digest = hashlib.sha256(f"{seed}\n{agent_id}\n{question}".encode(errors="replace")).digest()
    opening = _OPENINGS[digest[0] % len(_OPENINGS)]
    return opening + " ".join(facts(known, agent) for facts in topics)


_OPENINGS = ("", "", "Sure. ", "Let me see. ", "Here is what I know: ")


def _work(known: Inspection, agent: dict[str, Any]) -> str:
    issue = _issue(known, agent)
    on = "" if issue is None else f" on {issue['issue_id']}" + (f" ({issue['title']})" if "title" in issue else "")
    if agent["state"] == "working":
        return f"I am working{on} as {agent['role']}, since {_time(agent['since'])}, in {agent['run_id']}."
    how = f"; my last run, {agent['run_id']}{on}, ended as {agent['ended']}" if "ended" in agent else ""
    return f"I am idle since {_time(agent['since'])}{how}."


def _tool(_: Inspection, agent: dict[str, Any]) -> str:
    last = agent.get("last_tool")
    if last is None:
        return "I have called no tool in this run yet."
    took = f" and took {last['duration_s']:g} s" if "duration_s" in last else ""
    return (
        f"My last tool call was {last['gen_ai.tool.name']} at {_time(last['time'])}: {last.get('status', 'ok')}{took}."
    )


def _tokens(_: Inspection, agent: dict[str, Any]) -> str:
    used = f"{agent['input_tokens']:,} input and {agent['output_tokens']:,} output tokens"
    return f"So far I have used {used} in {agent['llm_calls']:,} LLM calls."


def _cost(_: Inspection, agent: dict[str, Any]) -> str:
    return f"So far I have cost ${agent['cost_usd']:.6f} in {_many(agent['runs'], 'run')}."


def _pipeline(known: Inspection, agent: dict[str, Any]) -> str:
    issue_id = agent.get("issue_id")
    for mine in (True, False):
        for pipeline in known.newest("pipeline"):
            if pipeline["state"] == "failed" and (not mine or (issue_id and pipeline.get("issue_id") == issue_id)):
                whose = "of my issue" if mine else f"of {pipeline.get('issue_id', 'the project')}, not mine,"
                reason = pipeline.get("reason", "of a reason that it does not tell")
                took = f" after {pipeline['duration_s']:g} s" if "duration_s" in pipeline else ""
                return f"{pipeline['pipeline_id']} {whose} failed because of {reason}{took}."
    return "No pipeline has failed that I know of."


def _waiting(known: Inspection, agent: dict[str, Any]) -> str:
    issue_id = agent.get("issue_id")
    waits = [
        f"{approval['approval_id']} waits for a person's decision"
        for approval in known.newest("approval")
        if approval["state"] == "pending" and issue_id and approval.get("issue_id") == issue_id
    ]
    waits += [
        f"{pipeline['pipeline_id']} is still running"
        for pipeline in known.newest("pipeline")
        if pipeline["state"] == "running" and issue_id and pipeline.get("issue_id") == issue_id
    ]
    if waits:
        return f"On {issue_id}: {'; '.join(waits)}."
    if agent["state"] != "working":
        return "I wait for work."
    last = agent.get("last", {})
    if "backoff_s" in last:
        return f"I try again after {last['backoff_s']:g} s, for the last call failed: {last.get('error', 'error')}."
    return "For nothing; I am working."


def _change(known: Inspection, agent: dict[str, Any]) -> str:
    issue_id = agent.get("issue_id")
    for pr in known.newest("pr"):
        if issue_id and pr.get("issue_id") == issue_id:
            return f"{pr['pr_id']} for {issue_id} is {pr['state']}, from {pr.get('branch', 'a branch')}."
    return f"There is no pull request for {issue_id or 'me'} yet."


def _errors(known: Inspection, agent: dict[str, Any]) -> str:
    last = agent.get("last_error")
    text = "No call of this run has failed." if last is None else (
        f"My last failed call was {last.get('gen_ai.tool.name') or last.get('gen_ai.operation.name', 'one')} "
        f"at {_time(last['time'])}: {last.get('error', 'error')}."
    )  # fmt: skip
    faults = ", ".join(f"{fault['fault_id']} ({fault.get('kind')})" for fault in known.look("faults")["faults"])
    return text + (f" There is trouble around: {faults}." if faults else "")


def _runs(_: Inspection, agent: dict[str, Any]) -> str:
    ended = f"; the last one that ended did so as {agent['ended']}" if "ended" in agent else ""
    return f"I have begun {_many(agent['runs'], 'run')}{ended}."


def _project(known: Inspection, _: dict[str, Any]) -> str:
    found = known.look("project")
    over = found["not_over"]
    text = f"In {found['project']} {over['issues']} issues and {over['prs']} pull requests are open"
    return f"{text}, {over['pipelines']} pipelines run and {over['approvals']} approvals wait."


def _sprint(known: Inspection, _: dict[str, Any]) -> str:
    sprint = known.look("project")["sprint"]
    if sprint is None:
        return "No sprint is running."
    return f"We are in {sprint['sprint_id']}, which began at {_time(sprint['since'])}."


TOPICS: tuple[tuple[frozenset[str], _Facts], ...] = (
    (frozenset({"pipeline", "pipelines", "build", "ci", "fail", "failed"}), _pipeline),
    (frozenset({"wait", "waits", "waiting", "blocked", "blocks", "approval"}), _waiting),
    (frozenset({"tool", "tools", "call", "called"}), _tool),
    (frozenset({"token", "tokens"}), _tokens),
    (frozenset({"cost", "costs", "spent", "money", "dollars"}), _cost),
    (frozenset({"pr", "branch", "pull", "request", "merge", "merged"}), _change),
    (frozenset({"error", "errors", "wrong", "trouble", "problem", "problems"}), _errors),
    (frozenset({"runs", "often", "finished", "completed"}), _runs),
    (frozenset({"project", "backlog", "everybody", "open"}), _project),
    (frozenset({"sprint"}), _sprint),
    (frozenset({"doing", "working", "work", "issue", "task", "status", "who", "hello", "hi"}), _work),
)
"""Words of a question and what they ask for, at most three of them; without any, what the agent is working on."""


def _issue(known: Inspection, agent: dict[str, Any]) -> dict[str, Any] | None:
    issue_id = agent.get("issue_id")
    return None if issue_id is None else known.look(f"issue:{issue_id}") or {"issue_id": issue_id}


def _time(moment: Any) -> str:
    return f"{moment:%H:%M:%S}"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
