"""The episodes of a slice: every agent and task of its scenario found, and jobs made on demand."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from tracecore.confinement.readable import is_below, is_of_task, secret_folders
from tracecore.errors import InputError, ScenarioError
from tracecore.perf.slice.scenario import MAX_SEED, Mistake, ScenarioRow
from tracecore.record import record
from tracecore.records import AgentSource, Allowance, Job, JsonObject, Settings, TaskSource
from tracecore.runtime.task.catalog import AGENT_REFERENCE, TASK_REFERENCE

Source = TypeVar("Source", AgentSource, TaskSource)

_ADDRESS: Final = re.compile(
    r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})"
)
_PORT_MOST: Final = 65_535


@record
class Finders:
    """What references mean."""

    agent: Callable[[str], AgentSource]  # from an agent's reference to its file
    task: Callable[[str], TaskSource]  # from a task's reference to its folder


@record
class Plan:
    """Every episode of a slice, made on demand: a million of them take no more memory than one.

    Episode ``index`` (0-based) takes row ``index`` modulo the number of rows; its seed is the row's
    plus ``index``.
    """

    rows: tuple[ScenarioRow, ...]
    sources: tuple[tuple[AgentSource, TaskSource], ...]  # of each row
    allowances: tuple[Allowance, ...]  # of each row, with absolute paths
    episodes: int
    settings: Settings
    # makes the run ids: the same slice and index give the same id, another slice another
    slice_id: str

    def job(self, index: int) -> Job:
        """Episode ``index``.

        Raises:
            IndexError: The slice has no such episode.
        """
        if not 0 <= index < self.episodes:
            raise IndexError(f"episode {index} of a slice of {self.episodes}")
        place = index % len(self.rows)
        agent, task = self.sources[place]
        return Job(
            index=index,
            run_id=hashlib.sha256(f"{self.slice_id}:{index}".encode("ascii")).hexdigest()[:32],
            agent=agent,
            task=task,
            seed=self.rows[place].seed + index,
            settings=self.settings,
            allow=self.allowances[place],
            model_limits=self.rows[place].models,
            preload=self.rows[place].preload,
        )

    def jobs(self, indices: Iterable[int] | None = None) -> Iterator[Job]:
        """The episodes of ``indices``, in that order; without them, of the whole slice."""
        return map(self.job, range(self.episodes) if indices is None else indices)

    def scenario_document(self) -> list[JsonObject]:
        """The rows as the manifest has them: what was run, and the hashes of what it was."""
        return [
            {
                "agent": agent.ref,
                "task_ref": task.ref,
                "seed": row.seed,
                "agent_hash": agent.sha256,
                "task_hash": task.sha256,
                **_conditions(row, allow),
            }
            for row, (agent, task), allow in zip(
                self.rows, self.sources, self.allowances, strict=True
            )
        ]


def _conditions(row: ScenarioRow, allow: Allowance) -> JsonObject:
    """What else a row asks for, where it does."""
    preload = None if row.preload else False
    asked = {"allow": allow.as_json(), "preload": preload, "models": row.models.as_json()}
    return {name: value for name, value in asked.items() if value is not None}


def plan(
    rows: tuple[ScenarioRow, ...],
    episodes: int,
    settings: Settings,
    find: Finders,
    *,
    slice_id: str,
    scenario: str = "the default scenario",
) -> Plan:
    """Find every agent and task of the scenario, each once, before anything runs.

    Args:
        rows: The scenario; at least one row.
        episodes: How many episodes the slice has; at least 1.
        settings: What all episodes share.
        find: What references mean.
        slice_id: 16 hex digits that no other slice has.
        scenario: What errors call the scenario: its file, usually.

    Raises:
        ScenarioError: A reference means nothing, a file that it leads to is wrong, a seed plus its
            episode's index does not fit into 64 bits, or something may not be allowed; all of these
            at once, each with its row.
    """
    mistakes: list[Mistake] = [
        mistake
        for place, row in enumerate(rows)
        for mistake in _check_last_seed(place, row.seed, len(rows), episodes)
    ]
    agents = _find_all(find.agent, [row.agent for row in rows], "agent", mistakes)
    tasks = _find_all(find.task, [row.task_ref for row in rows], "task_ref", mistakes)
    secret = secret_folders((), settings.runs_dir, *(task.folder for task in tasks.values()))
    allowances = []
    for place, row in enumerate(rows):
        allowance, wrong = resolve_allowance(row.allow, secret)
        allowances.append(allowance)
        mistakes += [
            (f"scenario[{place}].allow.{where}", found, expected)
            for where, found, expected in wrong
        ]
    if mistakes:
        raise ScenarioError.of_all(scenario, mistakes)
    sources = tuple((agents[row.agent], tasks[row.task_ref]) for row in rows)
    return Plan(
        rows=rows,
        sources=sources,
        allowances=tuple(allowances),
        episodes=episodes,
        settings=settings,
        slice_id=slice_id,
    )


def _find_all(
    find: Callable[[str], Source], refs: list[str], field: str, mistakes: list[Mistake]
) -> dict[str, Source]:
    """What each reference means; one that means nothing is a mistake of the first row that holds
    it.
    """
    found: dict[str, Source] = {}
    for ref in dict.fromkeys(refs):
        try:
            found[ref] = find(ref)
        except InputError as error:
            where = f"scenario[{refs.index(ref)}].{field}"
            if error.path not in {AGENT_REFERENCE, TASK_REFERENCE}:  # it names a file of its own
                where += f": {error.path}" + (f": {error.field}" if error.field else "")
            mistakes.append((where, error.found, error.expected))
    return found


def resolve_allowance(allow: Allowance, secret: tuple[str, ...]) -> tuple[Allowance, list[Mistake]]:
    """What is allowed beside the usual, as the agent gets it: paths absolute, hosts in lower case;
    and what may not be, by ``read[0]`` or ``network[0]``.

    Args:
        allow: As written.
        secret: Folders that no agent may read.
    """
    mistakes: list[Mistake] = []
    paths = tuple(os.path.abspath(path) for path in allow.read)
    closed = [*secret, *map(os.path.realpath, secret)]
    for place, path in enumerate(paths):
        where, written = f"read[{place}]", allow.read[place]
        if not os.path.exists(path):
            mistakes.append((where, written, "a file or folder that exists"))
        elif is_below(os.path.realpath(path), closed) or is_of_task(path):
            expected = "no folder of tasks or runs: those are closed to every agent"
            mistakes.append((where, written, expected))
    for place, address in enumerate(allow.network):
        match = _ADDRESS.fullmatch(address)
        if match is None or not 0 < int(match["port"]) <= _PORT_MOST:
            expected = "a host and a port, such as api.example.org:443"
            mistakes.append((f"network[{place}]", address, expected))
    return Allowance(paths, tuple(map(str.lower, allow.network))), mistakes


def _check_last_seed(place: int, seed: int, row_count: int, episodes: int) -> list[Mistake]:
    last_index = episodes - 1 - (episodes - 1 - place) % row_count
    if last_index < place or seed + last_index <= MAX_SEED:
        return []
    expected = (
        f"at most {MAX_SEED - last_index}: episode {last_index} adds its index, and seeds have"
        " 64 bits"
    )
    return [(f"scenario[{place}].seed", seed, expected)]
