"""An agent that may call models: its calls are taken from the gateway, step by step."""

from typing import Any

from tracecore.gateway.client import GatewayError, SessionLine, environment_of
from tracecore.record import mutable_record
from tracecore.records import GatewayAddress, Job, JsonObject
from tracecore.runtime.agent.client import ProcessAgent
from tracecore.runtime.agent.process import AgentLink
from tracecore.runtime.endings import End

UNRECORDED = "model_call_unrecorded"


@mutable_record
class ModelUse:
    """What an episode has used of models, as its row has it."""

    model_calls: int = 0
    model_bytes: int = 0
    model_wait_s: float = 0.0


class AgentWithModels:
    """An agent and its session with the gateway, as one agent.

    Args:
        job: Of the episode.
        address: Of the gateway.
        link: To the agent.
        use: Kept up with what has been used.

    Raises:
        End: The episode was not recorded, or the gateway is gone.
    """

    def __init__(self, job: Job, address: GatewayAddress, link: AgentLink, use: ModelUse) -> None:
        self._use = use
        episode = {"agent": job.agent.ref, "task_ref": job.task.ref, "seed": job.seed}
        try:
            self._session = SessionLine(address, episode, job.model_limits)
        except GatewayError as error:
            raise End(UNRECORDED, str(error)) from error
        environment = environment_of(address.models, link.door, self._session.token)
        self._agent = ProcessAgent(job, link, environment)

    def reset(self, task_spec: JsonObject, deadline_s: float) -> None:
        """Hand the agent the task; calls that it makes meanwhile stand in its first step."""
        try:
            self._agent.reset(task_spec, deadline_s)
        except End:
            self._take()
            raise

    def step(self, observation: bytes, deadline_s: float) -> tuple[JsonObject, Any]:
        """The agent's action; the calls of this step where it offers no ``llm_trace`` of its own.

        Raises:
            InvalidAction: It gave no action.
        """
        try:
            action, offered = self._agent.step(observation, deadline_s)
        except End:
            self._take()  # what the gateway refused is why it failed
            raise
        entries = self._take()
        return action, entries if offered is None and entries else offered

    def close(self) -> str | None:
        """Let go of the agent, and have its calls kept. Gives what it printed."""
        try:
            return self._agent.close()
        finally:
            try:
                self._session.close()
            except GatewayError as error:
                raise End("logic_failure", f"its model calls are not kept: {error}") from error

    def _take(self) -> list[JsonObject]:
        try:
            new = self._session.take()
        except GatewayError as error:
            raise End("logic_failure", str(error)) from error
        self._use.model_calls, self._use.model_bytes = new["calls"], new["bytes"]
        self._use.model_wait_s = new["wait_s"]
        if new["failure"]:
            raise End(UNRECORDED, new["failure"])
        entries: list[JsonObject] = new["entries"]
        return entries
