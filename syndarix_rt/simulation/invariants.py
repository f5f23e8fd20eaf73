"""The invariants: what is true of every possible stream of events of a project. :mod:`.checker` judges them."""

from __future__ import annotations

__all__ = ["INVARIANTS"]

INVARIANTS = {
    "I1": "an event's id is unique for its source",
    "I2": "time does not go back within a project and simulation, of real events within a source",
    "I3": "an event is well-formed and its payload fits its type",
    "I4": "a cause is an earlier event of the same project; only sprint_started and issue_created need none",
    "A1": "a run begins with its one agent_started",
    "A2": "a run ends once, or is still open when the stream ends",
    "A3": "nothing happens in a run after its end",
    "A4": "an agent has no more runs open than its concurrency, which is 1 unless it says otherwise",
    "A5": "a run's totals are the sums over its activities",
    "A6": "prefix and appended tokens are the input tokens; no more are cached than put in",
    "A7": "tries of a call count up from 1, and the backoff between them never shrinks",
    "A8": "a run takes as long as it says, and its calls take no longer",
    "S1": "an issue is created first, and once",
    "S2": "a closed issue is not updated, except that it is reopened; no simulated update comes twice",
    "S3": "an issue is closed once, and once more after each time it was reopened",
    "S4": "an issue closed as done had a pull request merged",
    "S5": "an issue is in one open sprint at most",
    "C1": "a branch is created once, and before commits go to it, each once",
    "C2": "a pull request has a commit on its branch",
    "C3": "a pull request is created once, then merged or closed once",
    "C4": "commits do not go to a merged branch",
    "C5": "a branch has one open pull request at most",
    "C6": "a branch or commit is the work of a run that is open",
    "P1": "a pipeline starts once, and ends once, as long after as it says, or still runs when the stream ends",
    "P2": "a pipeline checks a commit that was pushed",
    "P3": "a runner runs one pipeline at a time",
    "P4": "pipelines start in the order in which they were queued",
    "P5": "what requires a green pipeline is merged when the last pipeline of its head went well",
    "H1": "a gated pull request is merged after a human's approval",
    "H2": "an approval belongs to an open pull request or run",
    "H3": "an approval is asked for once and resolved once, as long after that as it says",
    "T1": "a project's sprints start before they are completed, and do not overlap",
    "T2": "a sprint counts the issues open at its start; in the end those closed in it, and those carried over",
}
"""Every invariant by its id; those of determinism (D1 to D3) need more than one stream and are not among them."""
