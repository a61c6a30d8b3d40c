"""What runs the episodes of a slice: this machine or a cluster, as the harness sees it."""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Protocol

from tracecore.perf.slice.plan import Plan
from tracecore.records import EpisodeResult, Job, JsonObject, Running

Look = Callable[[Sequence[Running]], None]  # called with what is running, as time goes by


class Engine(Protocol):
    """Where episodes run."""

    @property
    def slots(self) -> int:
        """How many episodes run at the same time."""
        ...

    @property
    def is_gone(self) -> bool:
        """Whether it was lost, so that the slice has to be finished elsewhere."""
        ...

    def host(self) -> JsonObject:
        """What the manifest's ``host`` block holds beside the facts of this machine."""
        ...

    def machine_class(self) -> str | None:
        """The class of the machines that run episodes; None for that of this machine."""
        ...

    def document(self) -> JsonObject | None:
        """The ``cluster`` block of the manifest; None where there is no cluster."""
        ...

    def preload(self) -> JsonObject:
        """By agent: the packages that are imported once for many episodes, and those that are not,
        with the reason.
        """
        ...

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
        """The same for second runs, whose artifacts lie on this machine at the end."""
        ...
