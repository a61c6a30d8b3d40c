"""A slice as a node of a cluster knows it: all that its episodes share, as JSON on the way and as
jobs there.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from tracecore.record import as_dict, record, replace
from tracecore.records import AgentSource, Allowance, Job, JsonObject, Limits, Settings, TaskSource


@record
class NodeSlice:
    """What all episodes of a slice share."""

    slice_id: str
    settings: Settings  # its runs_dir is the node's
    method: str  # fork or spawn
    artifacts: str  # return, node or shared
    pairs: tuple[tuple[AgentSource, TaskSource], ...]  # of each scenario row
    allowances: tuple[Allowance, ...]  # of each scenario row
    secret: tuple[str, ...] = ()  # folders that no agent may read
    token: str | None = None  # a file that a shared runs folder holds

    def as_json(self) -> JsonObject:
        """For :meth:`from_json`."""
        return as_dict(self)

    @staticmethod
    def from_json(document: JsonObject) -> "NodeSlice":
        """What :meth:`as_json` gave, and JSON has carried."""
        settings = document["settings"]
        return NodeSlice(
            **{
                **document,
                "settings": Settings(**{**settings, "limits": Limits(**settings["limits"])}),
                "pairs": tuple(
                    (AgentSource(**agent), TaskSource(**task)) for agent, task in document["pairs"]
                ),
                "allowances": tuple(
                    Allowance(tuple(a["read"]), tuple(a["network"])) for a in document["allowances"]
                ),
                "secret": tuple(document["secret"]),
            }
        )

    def placed(
        self,
        pairs: tuple[tuple[AgentSource, TaskSource], ...],
        runs_dir: str,
        secret: tuple[str, ...],
    ) -> "NodeSlice":
        """The same slice with its files where they lie on a node."""
        return replace(
            self, pairs=pairs, secret=secret, settings=replace(self.settings, runs_dir=runs_dir)
        )

    def jobs(self, chunk: Sequence[Sequence[Any]]) -> Iterator[Job]:
        """The jobs of what :func:`chunk_of` made."""
        for index, run_id, seed in chunk:
            place = index % len(self.pairs)
            agent, task = self.pairs[place]
            yield Job(index, run_id, agent, task, seed, self.settings, self.allowances[place])


def chunk_of(jobs: Sequence[Job]) -> list[list[Any]]:
    """What differs between the jobs of a slice, as JSON."""
    return [[job.index, job.run_id, job.seed] for job in jobs]
