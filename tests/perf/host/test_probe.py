import json
import pathlib
import pickle
import subprocess
import sys

import pytest

from tracecore.perf.host import probe
from tracecore.perf.host.probe import ProbeJob, Probes, Reading, run_probe
from tracecore.record import as_dict
from tracecore.records import AgentSource, Job, Settings, TaskSource

SCRIPT = pathlib.Path(__file__).parents[3] / "scripts" / "perf_harness.py"


def jobs(count):
    for index in range(count):
        yield Job(
            index,
            f"{index:032x}",
            AgentSource("a", "/a", "s"),
            TaskSource("t@1", "/t", "s"),
            index,
            Settings("/runs"),
        )


@pytest.mark.parametrize(
    ("episodes", "probes"),
    [(1, 1), (3, 3), (4, 4), (24, 4), (48, 4), (200, 4), (1000, 20), (10_000, 200)],
)
def test_about_two_percent_of_the_slots_are_the_probes_and_four_at_least(episodes, probes):
    work = list(Probes(episodes).among(jobs(episodes)))
    assert sum(isinstance(job, ProbeJob) for job in work) == probes
    assert [job.index for job in work if not isinstance(job, ProbeJob)] == list(range(episodes))


def test_a_probe_is_a_job_that_travels_like_any_other():
    first = next(iter(Probes(1).among(jobs(1))))
    assert isinstance(first, ProbeJob)
    assert pickle.loads(pickle.dumps(first)) == first
    assert as_dict(first) == as_dict(next(jobs(1)))


def test_a_reading_is_what_the_work_took():
    reading = run_probe()
    assert reading.cpu_s > 0
    assert reading.wall_s > 0


def test_the_work_needs_nothing_of_the_runtime():
    assert not {name for name in probe._work.__code__.co_names if name in {"run_job", "make_ready"}}
    assert set(probe._work.__code__.co_names) & set(vars(probe)) <= {
        "LOOPS",
        "DOCUMENTS",
        "TOUCHED_BYTES",
        "json",
        "mmap",
        "_DOCUMENT",
    }


def test_the_document_tells_medians_and_nothing_is_null():
    probes = Probes(4)
    assert probes.document() is None
    for cpu_s in (1.0, 3.0, 2.0):
        probes.add(Reading(2 * cpu_s, cpu_s))
    probes.add(None)  # one died
    document = probes.document()
    assert (document["runs"], document["cpu_s_median"], document["wall_s_median"]) == (3, 2.0, 4.0)


def test_probes_are_seen_in_the_summary_and_nowhere_else(tmp_path):
    def run(name, *options):
        command = [
            sys.executable,
            str(SCRIPT),
            "--episodes",
            "8",
            "--workers",
            "2",
            "--output-dir",
            name,
            "--runs-dir",
            name + "-r",
        ]
        done = subprocess.run([*command, *options], capture_output=True, check=True, cwd=tmp_path)
        paths = json.loads(done.stdout)["artifacts"]
        return {
            kind: json.loads((tmp_path / path).read_text())
            for kind, path in paths.items()
            if path.endswith("json")
        }

    without, with_ = run("without"), run("with", "--probe")
    assert (without["summary"]["probe"], with_["summary"]["probe"]["runs"]) == (None, 4)
    assert set(without["summary"]) == set(with_["summary"])
    assert [row["trace_hash"] for row in with_["series"]] == [
        row["trace_hash"] for row in without["series"]
    ]
    assert len(list((tmp_path / "with-r").iterdir())) == 8
    assert [row["run_count"] for row in with_["metrics"]] == [2, 2, 2, 2]
