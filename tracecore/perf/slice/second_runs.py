"""Whether episodes do the same thing twice: which ones run a second time, and what their second
artifacts hold.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final

from tracecore.errors import as_output_error, describe
from tracecore.perf.slice.cleanup import read_artifact, second_runs_path
from tracecore.record import field, mutable_record
from tracecore.records import EpisodeResult, JsonObject
from tracecore.runtime.replay import Difference, first_difference

# They end by the clock or by a death outside the episode, not by its inputs: a second run need not
# agree.
NOT_REPEATABLE: Final = frozenset({"timeout", "episode_crashed"})
DIFFERENCES_SHOWN: Final = 20
NOT_COUNTED: Final = (
    "its agent may call models, or its second pass was another episode or had no time left"
)


@mutable_record
class Determinism:
    """The account of the second runs."""

    requested: int = 0  # episodes that were to run twice, of those that can
    checked: int = 0
    differences: list[JsonObject] = field(default_factory=list)
    work: list[JsonObject] = field(default_factory=list)  # the summary's, by episode

    def document(self) -> JsonObject:
        """The ``determinism`` block of the summary.

        ``differing`` is null unless all that was requested was checked, or something differs: a
        check that was not made is no data, and never reads as "nothing differs".
        """
        differing = len(self.differences)
        is_known = differing > 0 or (self.requested > 0 and self.checked >= self.requested)
        return {
            "requested": self.requested,
            "checked": self.checked,
            "differing": differing if is_known else None,
            "differences": self.differences[:DIFFERENCES_SHOWN],
        }


def choose_episodes(
    rows: Iterable[EpisodeResult], count: int, *, episodes: int, scenario_rows: int
) -> list[EpisodeResult]:
    """Which episodes run a second time: equally many of each scenario row, spread over the slice.

    Args:
        rows: The slice's, by episode index.
        count: How many are wanted; fewer come back where fewer can be repeated.
        episodes: Of the whole slice.
        scenario_rows: How many rows the scenario has.
    """
    wanted = {
        place: _targets(place, count, episodes, scenario_rows)
        for place in range(min(scenario_rows, episodes))
    }
    chosen = []
    for row in rows:
        targets = wanted[row.episode_index % scenario_rows]
        # A wanted one that cannot be repeated hands its turn on to the next of its scenario row.
        if (
            targets
            and row.episode_index >= targets[0]
            and row.termination_reason not in NOT_REPEATABLE
        ):
            targets.pop(0)
            chosen.append(row)
    return chosen


def _targets(place: int, count: int, episodes: int, scenario_rows: int) -> list[int]:
    """The wanted episode indices of one scenario row, ascending."""
    own = -(-(episodes - place) // scenario_rows)
    picks = min(own, count // scenario_rows + (place < count % scenario_rows))
    return [place + scenario_rows * (own * pick // picks) for pick in range(picks)]


@contextlib.contextmanager
def second_runs_folder(output_dir: str, stamp: str) -> Iterator[str]:
    """A folder for the artifacts of the second runs, gone with everything in it when the block
    ends.

    Raises:
        OutputError: It could not be made.
    """
    # Of the slice's own name, so that one which a killed harness left behind is cleared when the
    # slice is resumed.
    folder = os.path.abspath(second_runs_path(output_dir, stamp))
    shutil.rmtree(folder, ignore_errors=True)
    with as_output_error(folder):
        os.mkdir(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def compare_runs(
    chosen: Iterable[EpisodeResult],
    second_rows: Iterable[EpisodeResult],
    *,
    requested: int,
    runs_dir: str,
    second_runs_dir: str,
) -> Determinism:
    """Hold each second run against the first of the same episode.

    Args:
        chosen: The first runs.
        second_rows: The second ones, in any order; what is missing at the end was not checked.
        requested: How many were to be checked.
        runs_dir: Where the artifacts of the first runs lie, as far as they were kept.
        second_runs_dir: Where those of the second lie.
    """
    first_rows = {row.episode_index: row for row in chosen}
    result = Determinism(requested)
    for second in sorted(second_rows, key=attrgetter("episode_index")):
        first = first_rows[second.episode_index]
        result.checked += 1
        if first.artifact_hash != second.artifact_hash:
            # of one that was not kept, the path is that of the folder, in which no artifact stands
            old = read_artifact(os.path.join(runs_dir, first.artifact or ""))
            new = read_artifact(os.path.join(second_runs_dir, second.artifact or ""))
            place = first_difference(old, new) if old is not None and new is not None else None
            result.differences.append(_difference(first, second, place))
        result.work.append(_work(second))
    return result


def _work(row: EpisodeResult) -> JsonObject:
    """What was counted of an episode, under the scenario row that it belongs to; null where it
    could not be.
    """
    return {
        "agent": row.agent,
        "task_ref": row.task_ref,
        "seed": row.seed - row.episode_index,
        "episode_index": row.episode_index,
        "counts": row.work,
        **({} if row.work else {"why": NOT_COUNTED}),
    }


def _difference(
    first: EpisodeResult, second: EpisodeResult, place: Difference | None
) -> JsonObject:
    """One of the ``differences``; the place is null where the first artifact
    was not kept.
    """
    return {
        "episode": first.episode_index + 1,
        "episode_index": first.episode_index,
        "run_id": first.run_id,
        "agent": first.agent,
        "task_ref": first.task_ref,
        "seed": first.seed,
        "step": place.step if place else None,
        "field": place.field if place else None,
        "first": describe(place.old) if place else None,
        "second": describe(place.new) if place else None,
        "artifact_hashes": [first.artifact_hash, second.artifact_hash],
        "same_behaviour": first.trace_hash == second.trace_hash,
    }
