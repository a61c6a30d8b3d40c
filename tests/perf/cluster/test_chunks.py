"""How a plan is cut: everything once, in chunks that grow while episodes are short and shrink
towards the end.
"""

import pytest

from tracecore.perf.cluster.chunks import CHUNK_S, EPISODES_MOST, Chunks
from tracecore.records import AgentSource, Job, Settings, TaskSource


def jobs(count: int) -> list[Job]:
    agent, task = AgentSource("a.py", "/a.py", "sha256:0"), TaskSource("t@1", "/t", "sha256:1")
    return [
        Job(index, f"{index:032x}", agent, task, index, Settings("/runs")) for index in range(count)
    ]


def drain(chunks: Chunks, episode_s: float) -> list[list[int]]:
    """Every chunk, in a cluster whose episodes all take that long."""
    found = []
    while chunk := chunks.take("a", is_only=True):
        found.append([job.index for job in chunk.jobs])
        chunks.learn(len(chunk.jobs), len(chunk.jobs) * episode_s)
    return found


@pytest.mark.parametrize("episode_s", [0.0, 0.01, 120.0])
@pytest.mark.parametrize("count", [1, 7, 3000])
def test_every_episode_is_handed_out_once_and_in_order(count: int, episode_s: float) -> None:
    chunks = Chunks(iter(jobs(count)), count, slots=3)
    found = drain(chunks, episode_s)
    assert [index for chunk in found for index in chunk] == list(range(count))
    assert chunks.is_empty


def test_short_episodes_go_out_together_and_the_last_ones_in_small_chunks() -> None:
    sizes = [len(chunk) for chunk in drain(Chunks(iter(jobs(20_000)), 20_000, slots=4), 0.01)]
    assert sizes[0] == 1
    assert max(sizes) == int(CHUNK_S / 0.01)
    assert sizes[-1] == 1
    assert (
        max(len(chunk) for chunk in drain(Chunks(iter(jobs(20_000)), 20_000, slots=4), 1e-9))
        == EPISODES_MOST
    )


def test_long_episodes_go_out_one_at_a_time_and_none_waits_behind_another() -> None:
    chunks = Chunks(iter(jobs(100)), 100, slots=4)
    assert chunks.ahead == 0  # nothing is known of them yet
    assert {len(chunk) for chunk in drain(chunks, 120.0)} == {1}
    assert chunks.ahead == 0
    chunks.learn(1, 0.0)
    for _ in range(40):
        chunks.learn(1, 0.01)
    assert chunks.ahead == 1


def test_what_went_down_with_its_node_is_tried_elsewhere_one_by_one() -> None:
    chunks = Chunks(iter(jobs(8)), 8, slots=1)
    chunks.learn(4, 0.01)
    chunk = chunks.take("a", is_only=False)
    assert chunk is not None
    assert len(chunk.jobs) == 4
    chunks.put_back(*chunk.parts("a"))

    again = [chunks.take("b", is_only=False) for _ in range(4)]
    assert [[job.index for job in one.jobs] for one in again if one] == [[0], [1], [2], [3]]
    assert {one.attempt for one in again if one} == {2}


def test_a_node_gets_back_what_it_lost_only_where_it_is_the_last() -> None:
    chunks = Chunks(iter(jobs(1)), 1, slots=1)
    chunk = chunks.take("a", is_only=False)
    assert chunk is not None
    chunks.put_back(*chunk.parts("a"))
    assert chunks.take("a", is_only=False) is None
    assert not chunks.is_empty
    assert chunks.take("a", is_only=True) is not None
    assert chunks.is_empty
