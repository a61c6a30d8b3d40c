"""What runs the episodes of a slice: this machine or a cluster, as the harness sees it."""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final, Protocol

from tracecore import processes
from tracecore.perf.slice.plan import Plan
from tracecore.records import EpisodeResult, Job, JsonObject, Running

Look = Callable[[Sequence[Running]], None]  # called with what is running, as time goes by

# Behind the time limit of an episode, for its own process to write down that the agent was too
# slow; then its worker kills it. A spawned process counts its time from when it is up, and needs a
# while for that on a busy machine.
GRACE_S: Final = {processes.FORK: 1.0, processes.SPAWN: 5.0}


def limit_behind_timeout(method: str) -> Callable[[Job], float]:
    """How many seconds the process of a job has before it is killed."""
    return lambda job: job.settings.timeout_s + GRACE_S[method]


class Engine(Protocol):
    """Where episodes run; what a subclass does not say is so on this machine."""

    is_gone: bool = False  # it was lost, and the slice has to be finished elsewhere

    @property
    def slots(self) -> int:
        """How many episodes run at the same time."""

    def host(self) -> JsonObject:
        """What the manifest's ``host`` block holds beside the facts of this machine."""
        return {}

    def machine_class(self) -> str | None:
        """The class of the machines that run episodes; None for that of this machine."""
        return None

    def document(self) -> JsonObject | None:
        """The ``cluster`` block of the manifest; None where there is no cluster."""
        return None

    def preload(self) -> JsonObject:
        """By agent: the packages that are imported once for many episodes, and those that are not,
        with the reason.
        """
        return {}

    def episodes(
        self, plan: Plan, jobs: Iterator[Job], count: int, look: Look | None = None
    ) -> Generator[EpisodeResult, None, None]:
        """The rows of ``count`` jobs of a plan as they end, until all have or an interruption
        asks for an end.

        Raises:
            EngineError: No worker is left.
            OutputError: An artifact could not be written.
        """
        ...

    def episodes_again(
        self, plan: Plan, jobs: Iterator[Job], count: int
    ) -> Generator[EpisodeResult, None, None]:
        """The same for second runs, on new workers, whose artifacts lie here at the end."""
        return self.episodes(plan, jobs, count)
