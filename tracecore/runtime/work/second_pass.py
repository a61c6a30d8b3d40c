"""An episode that runs once more behind its own artifact, in the same two processes, to have its
work counted.

The first pass is the episode: what it leaves is what any run leaves, and it fills every cache. The
second leaves counts.
"""

import os
from typing import Any

from tracecore.clock import monotonic_s
from tracecore.record import replace
from tracecore.records import Job, JsonObject, Outcome
from tracecore.runtime.agent.client import ProcessAgent
from tracecore.runtime.agent.process import AgentLink
from tracecore.runtime.endings import End
from tracecore.runtime.episode import run_episode
from tracecore.runtime.work.counter import WorkCounter, page_faults


def run_counted(job: Job, link: AgentLink) -> tuple[Outcome, JsonObject | None]:
    """Run an episode with its agent behind ``link``, then once more under counting.

    Returns:
        The outcome of the first pass, and its work; ``None`` if the second pass does not come to
        the same, or no time is left for it.
    """
    agent = _AgentInTwoPasses(job, link)
    deadline_s = monotonic_s() + job.settings.timeout_s
    try:
        first = run_episode(job, lambda _job: agent)
        sent = {"messages": agent.messages, "bytes_written": agent.bytes_sent + first.stable_bytes}
        counts = _count_second_pass(job, agent, first, deadline_s)
    finally:
        ProcessAgent.close(agent)
    return first, counts and {**counts, **sent}


def _count_second_pass(
    job: Job, agent: "_AgentInTwoPasses", first: Outcome, deadline_s: float
) -> JsonObject | None:
    faults = page_faults()
    left_s = deadline_s - monotonic_s()
    if left_s <= 0:
        return None
    again = replace(job, settings=replace(job.settings, timeout_s=left_s))
    folder = os.path.dirname(job.agent.path)
    counter = WorkCounter(((job.task.folder, "task"), (folder, "agent")))
    try:
        agent.count(is_beginning=True, deadline_s=deadline_s)
        counter.start()
        try:
            second = run_episode(again, lambda _job: agent)
        finally:
            counter.stop()
        of_agent = agent.count(is_beginning=False, deadline_s=deadline_s)
    except End:
        return None
    if second.head["trace_hash"] != first.head["trace_hash"] or not _are_counts(of_agent):
        return None
    of_episode = {**counter.as_json(), "page_faults": faults}
    both = {"episode": of_episode, "agent": of_agent}
    functions = {name: counts.pop("functions") for name, counts in both.items()}
    return {**both, "functions": functions}


def _are_counts(value: Any) -> bool:
    """Whether this is what an agent's process gives, which is not trusted."""
    return (
        isinstance(value, dict)
        and value.keys() == {"lines", "calls", "functions", "page_faults"}
        and all(type(value[name]) is int for name in ("lines", "calls", "page_faults"))
        and isinstance(value["functions"], dict)
        and all(
            isinstance(counts, list) and [type(count) for count in counts] == [int, int]
            for counts in value["functions"].values()
        )
    )


class _AgentInTwoPasses(ProcessAgent):
    """An agent whose process stays for the second pass, and what the episode has sent it."""

    messages = bytes_sent = 0

    def close(self) -> str | None:
        """Keep it; what it has printed so far."""
        return self.printed()

    def _ask(self, call: str, value: bytes, deadline_s: float) -> Any:
        self.messages += 2
        self.bytes_sent += len(value)
        return super()._ask(call, value, deadline_s)
