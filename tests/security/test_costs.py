"""Agents that let the harness pay: what they send or are costs their host little, and does not take their trace with it."""

import pathlib
import sys

import pytest
from arena import artifact_of, let_loose, open_arena
from hostile import Hostile

from tracecore.records import Limits

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's"), pytest.mark.timeout(120)]
MANY = Hostile(
    "answers with a crowd of empty lists",
    """
    def act(self):
        return {"type": "answer", "args": {"text": [[]] * 340_000}}
    Agent.act = act
    """,
)


def test_a_crowd_of_values_is_an_invalid_action_and_the_trace_is_kept(tmp_path: pathlib.Path) -> None:
    with open_arena(tmp_path / "x", (MANY,)) as arena:
        row = let_loose(arena, (MANY,), limits=Limits())[MANY.name]
        artifact = artifact_of(arena, row)
        assert row.error == "invalid_action: action_too_large: it holds more than 10000 values"
        assert artifact["steps_used"] == len(artifact["action_trace"]) == 1
