import pathlib
import sys
from collections.abc import Iterator

import pytest
from arena import OFF_TOGETHER, Arena, artifact_of, let_loose, open_arena
from hostile import HOSTILE, Hostile

from tracecore.confinement.layers import LAYERS
from tracecore.records import EpisodeResult, Limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")
# The session is part of how a process starts.
HOOK_ALONE = ",".join(layer for layer in LAYERS if layer not in {"audit_hook", "own_session"})


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with open_arena(tmp_path_factory.mktemp("arena") / "x", HOSTILE) as arena:
        yield arena


@pytest.fixture(scope="module")
def rows(arena: Arena) -> dict[str, EpisodeResult]:
    return let_loose(arena, HOSTILE, limits=Limits())


def test_there_are_many_of_them() -> None:
    assert len({agent.name for agent in HOSTILE}) == len(HOSTILE) >= 60


@pytest.mark.parametrize("agent", HOSTILE, ids=lambda agent: agent.name)
def test_an_agent_that(agent: Hostile, arena: Arena, rows: dict[str, EpisodeResult]) -> None:
    row = rows[agent.name]
    assert not row.success
    if agent.attempt is not None:
        assert row.termination_reason == row.failure_type == "sandbox_violation"
        assert str(row.error).startswith("sandbox_violation: " + arena.words(agent.attempt))


def test_nothing_outside_was_touched(arena: Arena, rows: dict[str, EpisodeResult]) -> None:
    assert rows
    assert arena.damage() == []


def test_an_attempt_is_in_the_trace_and_its_audit(
    arena: Arena, rows: dict[str, EpisodeResult]
) -> None:
    audits = {
        "reads the users": {"type": "fs", "op": "open", "path": "/etc/passwd"},
        "connects": {"type": "net", "host": f"127.0.0.1:{arena.port}"},
        "runs a program": {"type": "process", "op": "exec", "target": "true"},
    }
    for name, wanted in audits.items():
        (entry,) = artifact_of(arena, rows[name])["action_trace"]
        assert entry["io_audit"] == [wanted]
        assert (
            entry["telemetry"]["action_metrics"]["error"]
            == artifact_of(arena, rows[name])["failure_reason"]
        )


def test_the_same_attempt_has_the_same_hash_each_time(
    arena: Arena, rows: dict[str, EpisodeResult]
) -> None:
    some = range(0, len(HOSTILE), 6)
    again = let_loose(arena, HOSTILE, limits=Limits(), round_number=1, places=some)
    told = [
        HOSTILE[place].name
        for place in some
        if HOSTILE[place].attempt is not None and HOSTILE[place].name != "answers before it tries"
    ]
    assert {name: rows[name].artifact_hash for name in told} == {
        name: again[name].artifact_hash for name in told
    }


def test_every_layer_is_taken_off() -> None:
    off = [layer for layers in OFF_TOGETHER.values() for layer in layers]
    assert sorted([*off, "own_session"]) == sorted(LAYERS)


@pytest.mark.parametrize("off", OFF_TOGETHER)
@pytest.mark.slow
def test_without_some_layers_the_others_hold(off: str, arena: Arena) -> None:
    limits = Limits(layers_off=",".join(OFF_TOGETHER[off]))
    place = [*OFF_TOGETHER].index(off) + 2
    rows = let_loose(arena, HOSTILE, limits=limits, round_number=place)
    assert [name for name, row in rows.items() if row.success] == []
    assert arena.damage() == []


@pytest.mark.slow
def test_the_hook_alone_names_what_python_raises_an_event_for(arena: Arena) -> None:
    seen = tuple(agent for agent in HOSTILE if agent.attempt and "system call" not in agent.attempt)
    with open_arena(arena.root.parent / "alone", seen) as other:
        rows = let_loose(other, seen, limits=Limits(layers_off=HOOK_ALONE), round_number=30)
        wrong = {
            agent.name: rows[agent.name].error
            for agent in seen
            if not str(rows[agent.name].error).startswith("sandbox_violation: ")
        }
        assert wrong == {}
        assert other.damage() == []


@pytest.mark.slow
def test_agents_that_are_spawned_are_confined_too(arena: Arena) -> None:
    picked = HOSTILE[::8]
    with open_arena(pathlib.Path(arena.root.parent) / "spawned", picked) as other:
        rows = let_loose(other, picked, limits=Limits(), method="spawn")
        wrong = {
            agent.name: rows[agent.name].error
            for agent in picked
            if agent.attempt is not None
            and not str(rows[agent.name].error).startswith("sandbox_violation: ")
        }
        assert wrong == {}
        assert [name for name, row in rows.items() if row.success] == []
        assert other.damage() == []


def test_an_agent_of_which_nothing_is_confined_still_finds_no_hidden_state_in_its_memory(
    tmp_path: pathlib.Path,
) -> None:
    grep = next(agent for agent in HOSTILE if agent.name == "greps its memory")
    code = grep.code.replace("return grep()[:0] or 'nothing'", FIND_CANARY)
    table = (Hostile("greps", code),)
    with open_arena(tmp_path / "x", table) as arena:
        rows = let_loose(arena, table, limits=Limits(confinement="off"))
        (entry,) = artifact_of(arena, rows["greps"])["action_trace"]
        bytes_read, canaries = entry["action"]["args"]["text"].split()
        assert int(bytes_read) > 5_000_000
        assert canaries == "0"
        assert not rows["greps"].success


FIND_CANARY = """
    import re
    data = grep()
    return "%d %d" % (len(data), len(re.findall(b"canary-[0-9a-f]{16}", data)))
"""
