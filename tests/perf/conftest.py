import pathlib
from collections.abc import Callable

import pytest
from helpers import rows
from helpers.sets import Sets

from tracecore.perf.slice import commands
from tracecore.records import EpisodeResult


@pytest.fixture(autouse=True)
def plain_commands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Printed commands begin alike on every machine, but where their beginning is the matter."""
    if request.path.name != "test_commands.py":
        script, module = "python scripts/perf_harness.py", "python -m tracecore"
        monkeypatch.setattr(commands, "script_words", script.split)
        monkeypatch.setattr(commands, "module_words", module.split)


@pytest.fixture(scope="session")
def make_row() -> Callable[..., EpisodeResult]:
    return rows.make_row


@pytest.fixture
def sets(tmp_path: pathlib.Path, make_row: Callable[..., EpisodeResult]) -> Sets:
    """Writes complete sets of a made-up host, one folder each."""
    return Sets(tmp_path, make_row)
