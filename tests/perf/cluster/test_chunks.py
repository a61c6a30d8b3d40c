"""How a plan is cut: everything once, in chunks that grow while episodes are short and shrink
towards the end.
"""

import pytest

from tracecore.perf.cluster.chunks import CHUNK_S, EPISODES_MOST, LEAST_S, Chunks, Share
from tracecore.records import AgentSource, Job, Settings, TaskSource


def jobs(count: int) -> list[Job]:
    agent, task = AgentSource("a.py", "/a.py", "sha256:0"), TaskSource("t@1", "/t", "sha256:1")
    return [
        Job(index, f"{index:032x}", agent, task, index, Settings("/runs")) for index in range(count)
    ]


def drain(count: int, episode_s: float, *, slots: int, nodes: int) -> list[list[int]]:
    """Every chunk, in a cluster whose episodes all take that long."""
    chunks = Chunks(iter(jobs(count)), count)
    found = []
    while not chunks.is_empty:
        share = chunks.take(slots, nodes)
        found.append([job.index for job in share.jobs])
        chunks.learn(len(share.jobs), len(share.jobs) * episode_s)
    return found


@pytest.mark.parametrize("episode_s", [0.0, 0.01, 120.0])
@pytest.mark.parametrize("count", [1, 7, 3000])
def test_every_episode_is_handed_out_once_and_in_order(count: int, episode_s: float) -> None:
    found = drain(count, episode_s, slots=3, nodes=2)
    assert [index for chunk in found for index in chunk] == list(range(count))


def test_short_episodes_go_out_together_and_the_last_ones_in_smaller_chunks() -> None:
    sizes = [len(chunk) for chunk in drain(8000, 0.05, slots=4, nodes=2)]
    assert sizes[:2] == [4, 16]  # what is known of the first need not hold for all
    assert max(sizes) == int(CHUNK_S * 4 / 0.05)
    assert min(sizes[len(sizes) // 2 : -1]) == int(LEAST_S * 4 / 0.05)
    assert max(map(len, drain(60_000, 1e-9, slots=4, nodes=2))) == EPISODES_MOST


def test_long_episodes_go_out_as_many_as_a_node_has_slots() -> None:
    assert {len(chunk) for chunk in drain(96, 120.0, slots=4, nodes=2)} == {4}


def test_what_went_down_with_its_node_is_handed_out_again_before_all_others() -> None:
    chunks = Chunks(iter(jobs(8)), 8)
    first = chunks.take(4, 1)
    chunks.put_back(*(Share((job,), 2) for job in first.jobs), Share(()))
    again = [chunks.take(4, 1) for _ in range(4)]
    assert [[job.index for job in share.jobs] for share in again] == [[0], [1], [2], [3]]
    assert {share.attempt for share in again} == {2}
    assert [job.index for job in chunks.take(4, 1).jobs] == [4, 5, 6, 7]
    assert chunks.is_empty
