"""How an episode can end: the reasons, and what is raised to end one."""

from typing import Final

from tracecore.confinement.witness import PHRASES
from tracecore.records import JsonObject

# Of an attempt, where what follows is a path.
FILE_OPS: Final = frozenset(
    ("open", "write", "load", "list", "enter", "change", "create", "link", "remove", "rename")
)

FAILURE_TYPES: Final = frozenset(
    {
        "budget_exhausted",
        "invalid_action",
        "sandbox_violation",
        "logic_failure",
        "timeout",
        "non_termination",
    }
)

# Every reason the runtime itself gives, and the failure type that goes with it. A validator may
# give its own reasons.
FAILURE_TYPE_OF: Final[dict[str, str | None]] = {
    "success": None,
    "steps_exhausted": "budget_exhausted",
    "tool_calls_exhausted": "budget_exhausted",
    "invalid_action": "invalid_action",
    "action_exception": "invalid_action",
    "sandbox_violation": "sandbox_violation",
    "timeout": "timeout",
    "agent_exception": "logic_failure",
    "agent_crashed": "logic_failure",
    "task_exception": "logic_failure",
    "validator_exception": "logic_failure",
    "episode_crashed": "logic_failure",
    "model_call_unrecorded": "logic_failure",
    "logic_failure": "logic_failure",
}


class End(Exception):
    """The episode is over.

    Attributes:
        reason: The termination reason.
        words: What happened; ``None`` on success.
        failure_type: Where it is not the one that belongs to the reason.
        traceback: Of the exception of agent or task code behind it.
    """

    def __init__(
        self,
        reason: str,
        words: str | None,
        failure_type: str | None = None,
        traceback: str | None = None,
    ) -> None:
        self.reason, self.words, self.traceback = reason, words, traceback
        self.failure_type = failure_type or FAILURE_TYPE_OF.get(reason, "logic_failure")
        super().__init__(reason)


class AgentViolation(End):
    """The agent tried what no agent may.

    Attributes:
        attempt: What it was: ``open /etc/passwd``.
    """

    def __init__(self, attempt: str) -> None:
        self.attempt = attempt
        super().__init__("sandbox_violation", f"{attempt}: agents may not")

    def audit_entry(self) -> JsonObject:
        """The attempt as a step's ``io_audit`` has it."""
        op, _, target = self.attempt.partition(" ")
        if op == "connect":
            return {"type": "net", "host": target}
        is_path = target.startswith("/") or self.attempt not in PHRASES
        if is_path and op in FILE_OPS:
            return {"type": "fs", "op": op, "path": target}
        return {"type": "process", "op": op, "target": target}


class InvalidAction(Exception):
    """What the agent gave in answer to an observation is no action.

    Attributes:
        reason: One of the invalid action reasons.
        words: What is wrong with it.
        text: The repr of what it gave.
    """

    def __init__(self, reason: str, words: str, text: str) -> None:
        self.reason, self.words, self.text = reason, words, text
        super().__init__(reason)
