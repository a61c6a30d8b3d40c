import pathlib

import pytest

from tracecore.errors import InputError
from tracecore.perf.resume import reopen_journal, what_decides
from tracecore.perf.slice.journal import create_journal
from tracecore.perf.slice.plan import Finders, Plan, plan
from tracecore.perf.slice.scenario import ScenarioRow
from tracecore.record import replace
from tracecore.records import AgentSource, Limits, Settings, TaskSource

SETTINGS = Settings(runs_dir="/runs")
SETTING_CHANGES = {
    "timeout_s": {"timeout_s": 5.0},
    "strict_spec": {"strict_spec": True},
    "keep_runs": {"keep_runs": "none"},
    "redaction": {"redaction": "all"},
    "git_sha": {"git_sha": "0" * 40},
    "limits.memory_bytes": {"limits": Limits(memory_bytes=1 << 30)},
    "limits.message_bytes": {"limits": Limits(message_bytes=1 << 21)},
}


def planned(settings: Settings, *, seed: int = 1, episodes: int = 4, task: str = "t") -> Plan:
    return plan(
        (ScenarioRow("a.py", "one@1", seed),),
        episodes,
        settings,
        Finders(
            lambda ref: AgentSource(ref, f"/{ref}", "sha256:a"),
            lambda ref: TaskSource(ref, f"/{ref}", f"sha256:{task}"),
        ),
        slice_id="0123456789abcdef",
        scenario="s.toml",
    )


@pytest.fixture
def begun(tmp_path: pathlib.Path) -> str:
    """A journal of a slice with plain settings."""
    path = str(tmp_path / "journal")
    before = planned(SETTINGS)
    header = {"slice_id": before.slice_id, **what_decides(before)}
    create_journal(path, header, before.episodes).close(sync=False)
    return path


def test_a_slice_is_finished_with_what_it_was_begun_with(begun: str) -> None:
    journal = reopen_journal(begun, planned(SETTINGS), "none")
    assert journal.header["slice_id"] == "0123456789abcdef"
    journal.close(sync=False)


@pytest.mark.parametrize(
    ("field", "now"),
    [
        *((field, planned(replace(SETTINGS, **one))) for field, one in SETTING_CHANGES.items()),
        ("episodes", planned(SETTINGS, episodes=5)),
        (r"scenario\[0\]\.seed", planned(SETTINGS, seed=2)),
        (r"scenario\[0\]\.task_hash", planned(SETTINGS, task="other")),
    ],
)
def test_another_setting_or_scenario_is_refused_by_its_name(
    begun: str, field: str, now: Plan
) -> None:
    with pytest.raises(InputError, match=f"{field}: found .*, expected .*, as when the slice was"):
        reopen_journal(begun, now, "none")
