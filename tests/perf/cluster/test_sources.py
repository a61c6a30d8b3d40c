"""Agents and tasks that travel arrive as they were, or are refused."""

import os
import pathlib

import pytest
from helpers.faults import PLAIN_TASK

from tracecore.errors import InputError
from tracecore.perf.cluster.sources import imported_beside, lay_out_sources, pack_sources
from tracecore.record import replace
from tracecore.records import AgentSource, TaskSource
from tracecore.runtime.task.catalog import find_agent, find_task


@pytest.fixture
def pair(tmp_path: pathlib.Path) -> tuple[AgentSource, TaskSource]:
    folder = tmp_path / "agents"
    (folder / "pack" / "deep").mkdir(parents=True)
    (folder / "agent.py").write_text("import beside, json\nfrom pack.deep import x\n")
    (folder / "beside.py").write_text("def late():\n    import further\n")
    (folder / "further.py").write_text("import agent\n")
    (folder / "unrelated.py").write_text("")
    (folder / "pack" / "__init__.py").write_text("")
    (folder / "pack" / "deep" / "__init__.py").write_text("x = 1\n")
    return find_agent(str(folder / "agent.py")), find_task("plain@1", [str(PLAIN_TASK.parent)])


def test_all_that_they_need_arrives_once_and_hashes_as_it_did(
    pair: tuple[AgentSource, TaskSource], tmp_path: pathlib.Path
) -> None:
    assert pack_sources([pair, pair, pair]) == pack_sources([pair])
    there = tmp_path / "there"
    (agent, task), other = lay_out_sources(pack_sources([pair, pair]), str(there), [pair, pair])
    assert other == (agent, task)
    for arrived, sent in zip((agent, task), pair, strict=True):
        assert (arrived.ref, arrived.sha256) == (sent.ref, sent.sha256)
    assert pathlib.Path(agent.path).read_bytes() == pathlib.Path(pair[0].path).read_bytes()
    assert os.path.basename(task.folder) == "plain"
    root = pathlib.Path(agent.path).parent
    beside = sorted(str(path.relative_to(root)) for path in there.glob("agents/0/**/*.py"))
    files = ["agent.py", "beside.py", "further.py", "pack/__init__.py", "pack/deep/__init__.py"]
    assert beside == files


def test_a_parcel_that_was_changed_on_the_way_is_refused(
    pair: tuple[AgentSource, TaskSource], tmp_path: pathlib.Path
) -> None:
    parcel = pack_sources([pair])
    with pytest.raises(InputError, match="as it was sent"):
        lay_out_sources(parcel[:-1] + b"?", str(tmp_path / "there"), [pair])
    climbing = parcel.replace(b"agents/0/beside.py", b"../../../beside.py")
    with pytest.raises(InputError):
        lay_out_sources(climbing, str(tmp_path / "there"), [pair])
    assert not (tmp_path / "beside.py").exists()


@pytest.mark.parametrize("changed", ["agent", "task"])
def test_what_has_changed_since_the_plan_is_refused(
    pair: tuple[AgentSource, TaskSource], tmp_path: pathlib.Path, changed: str
) -> None:
    other = "sha256:" + "0" * 64
    expected = (
        (replace(pair[0], sha256=other), pair[1])
        if changed == "agent"
        else (pair[0], replace(pair[1], sha256=other))
    )
    with pytest.raises(InputError, match="as it was when the slice was planned"):
        lay_out_sources(pack_sources([pair]), str(tmp_path / "there"), [expected])


def test_an_agent_that_is_no_python_takes_nothing_along(tmp_path: pathlib.Path) -> None:
    (tmp_path / "bad.py").write_text("import (")
    assert imported_beside(str(tmp_path / "bad.py")) == []
