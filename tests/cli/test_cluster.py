"""A slice on a Dask cluster: real schedulers and workers on loopback, and every way in which one of
them can be lost.
"""

import importlib.util
import json
import os
import pathlib
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from helpers import slices
from helpers.clusters import DaskCluster, dask_cluster
from helpers.faults import PLAIN_TASK
from helpers.slices import journals, read_files, start, strays, substance, wait_until

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="needs Dask"
)
EPISODES = int(os.environ.get("TRACECORE_TEST_CLUSTER_EPISODES", "48"))


@pytest.fixture(scope="module")
def cluster(
    harness_clone: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaskCluster]:
    with dask_cluster(harness_clone, tmp_path_factory.mktemp("cluster"), "w1") as found:
        found.add_worker("w2", nanny=True)
        yield found.wait_for_workers()


def wait_for_no_chunks(cluster: DaskCluster) -> None:
    """Nothing of a slice is left below any worker of the cluster."""
    wait_until(lambda: not any(processes_of(cluster, name) for name in cluster.workers))


def start_held(
    clone: pathlib.Path, folder: pathlib.Path, cluster: DaskCluster, *options: str
) -> slices.Slice:
    """A slice of which one chunk has ended, and every worker holds another."""
    held = slices.write_held_slice(folder, 1, EPISODES)
    workers = held.index("--workers")
    del held[workers : workers + 2]
    harness = start(clone, folder, *held, "--cluster", cluster.address, *options)
    harness.wait_for_rows(1)
    wait_until(lambda: all(processes_of(cluster, name) for name in cluster.workers))
    return harness


def processes_of(cluster: DaskCluster, name: str) -> list[int]:
    # Not by the children of main threads: dask starts its processes from others.
    below = psutil.Process(cluster.workers[name].pid).children(recursive=True)
    return [process.pid for process in below if _is_ours(process.pid)]


def _is_ours(pid: int) -> bool:
    try:
        return b"chunk_process" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def files_of(folder: pathlib.Path, done: slices.Done) -> dict[str, Any]:
    return read_files(folder / "out", done.document["stamp"])


def hashes(files: dict[str, Any]) -> list[tuple[int, str, str]]:
    return [(row["episode"], row["artifact_hash"], row["trace_hash"]) for row in files["series"]]


def lines_of(work: dict[str, Any]) -> tuple[int, int, dict[str, Any]]:
    """What was counted of a row, but for page faults."""
    counts = work["counts"]
    return work["episode_index"], counts["messages"], counts["functions"]


@pytest.mark.slow
def test_it_gives_the_very_hashes_of_a_local_run(
    harness_clone: pathlib.Path, cluster: DaskCluster, tmp_path: pathlib.Path
) -> None:
    options = ("--episodes", str(EPISODES), "--strict-spec", "--work")
    (tmp_path / "here").mkdir()
    here = slices.start(harness_clone, tmp_path / "here", *options, "--workers", "2").wait()
    there = slices.start(harness_clone, tmp_path, *options, "--cluster", cluster.address).wait()

    assert (here.exit_code, there.exit_code) == (0, 0), there.stderr
    expected, files = files_of(tmp_path / "here", here), files_of(tmp_path, there)
    assert hashes(files) == hashes(expected)
    assert substance(files, tmp_path / "runs") == substance(expected, tmp_path / "here" / "runs")
    assert {row["host"] for row in files["series"]} == {os.uname().nodename}
    assert {row["worker"] for row in files["series"]} <= {0, 1}
    assert [lines_of(one) for one in files["summary"]["work"]] == [
        lines_of(one) for one in expected["summary"]["work"]
    ]
    assert "host" not in expected["series"][0]
    assert "cluster" not in expected["manifest"]
    manifest = files["manifest"]
    assert manifest["workers"] == 2
    assert manifest["machine_class"] == expected["manifest"]["machine_class"]
    assert manifest["cluster"]["artifacts"] == "return"
    assert sorted(node["name"] for node in manifest["cluster"]["nodes"]) == ["w1", "w2"]
    assert {node["host"]["kernel"] for node in manifest["cluster"]["nodes"]} == {os.uname().release}
    assert (journals(tmp_path), strays(tmp_path)) == ([], [])
    wait_for_no_chunks(cluster)
    assert list(cluster.folder.rglob("tracecore-*")) == []  # of what was laid out for the slice


@pytest.mark.slow
def test_own_agents_and_tasks_travel_and_bad_ones_fail_as_they_do_here(
    harness_clone: pathlib.Path, cluster: DaskCluster, tmp_path: pathlib.Path
) -> None:
    scenario = slices.write_scenario(tmp_path, *slices.BAD_AGENTS)
    (tmp_path / "beside.py").write_text("WORD = 'done'\n")
    (tmp_path / "with_sibling.py").write_text(
        "import beside\n\n\nclass Agent:\n"
        "    def reset(self, spec): self.word = beside.WORD\n"
        "    def observe(self, observation): pass\n"
        "    def act(self): return {'type': 'list_dir', 'args': {'path': '/' + self.word}}\n"
    )
    rows = json.loads(pathlib.Path(scenario).read_text())
    rows.append({"agent": "with_sibling.py", "task_ref": "plain@1", "seed": 0})
    pathlib.Path(scenario).write_text(json.dumps(rows))
    options = ("--episodes", "14", "--tasks-dir", str(PLAIN_TASK.parent), "--scenario", scenario)
    # From the same folder: an agent is referenced as it is reached from there.
    folders = ("--runs-dir", "here/runs", "--output-dir", "here/out")
    here = slices.run(harness_clone, tmp_path, *folders, *options, "--workers", "2")
    there = slices.run(
        harness_clone, tmp_path, *options, "--cluster", cluster.address, "--verify-determinism", "2"
    )

    assert (here.exit_code, there.exit_code) == (1, 1), there.stderr
    expected, files = files_of(tmp_path / "here", here), files_of(tmp_path, there)
    assert hashes(files) == hashes(expected)
    assert substance(files, tmp_path / "runs") == substance(expected, tmp_path / "here" / "runs")
    assert (
        files["summary"]["determinism"]["checked"],
        files["summary"]["determinism"]["differing"],
    ) == (2, 0)
    wait_for_no_chunks(cluster)


@pytest.mark.parametrize("mode", ["node", "shared"])
@pytest.mark.slow
def test_artifacts_stay_where_they_are_wanted(
    harness_clone: pathlib.Path, cluster: DaskCluster, tmp_path: pathlib.Path, mode: str
) -> None:
    folders = ("--runs-dir", "kept/runs", "--output-dir", "out")
    options = ("--episodes", "6", "--cluster", cluster.address, "--artifacts", mode)
    done = slices.run(harness_clone, tmp_path, *folders, *options)

    assert done.exit_code == 0, done.stderr
    files = files_of(tmp_path, done)
    where = {"node": cluster.folder, "shared": tmp_path}[mode] / "kept" / "runs"
    names = {row["artifact"] for row in files["series"]}
    assert {path.name for path in where.iterdir() if path.name in names} == names
    assert {node["runs_dir"] for node in files["manifest"]["cluster"]["nodes"]} == {str(where)}


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_and_doubles_nothing(
    harness_clone: pathlib.Path, cluster: DaskCluster, tmp_path: pathlib.Path
) -> None:
    cluster.add_worker("doomed")
    cluster.wait_for_workers()
    harness = start_held(harness_clone, tmp_path, cluster)
    processes = processes_of(cluster, "doomed")
    cluster.kill(cluster.workers.pop("doomed"))
    wait_until(lambda: not any(map(_is_ours, processes)))  # its processes leave with it
    slices.let_go(tmp_path)
    done = harness.wait()

    assert done.exit_code == 0, done.stderr
    assert "node doomed" in done.stderr
    files = files_of(tmp_path, done)
    assert [row["episode_index"] for row in files["series"]] == list(range(EPISODES))
    assert len({row["run_id"] for row in files["series"]}) == EPISODES
    assert len(list((tmp_path / "runs").iterdir())) == EPISODES
    refused = [node["refused"] for node in files["manifest"]["cluster"]["nodes"]]
    assert len([why for why in refused if why is not None]) == 1
    wait_for_no_chunks(cluster)


@pytest.mark.slow
def test_interrupted_it_ends_everywhere_and_can_be_finished(
    harness_clone: pathlib.Path, cluster: DaskCluster, tmp_path: pathlib.Path
) -> None:
    harness = start_held(harness_clone, tmp_path, cluster, "--artifacts", "return")
    harness.signal(signal.SIGINT)
    done = harness.wait()

    assert done.exit_code == 130, done.stderr
    assert "Traceback" not in done.stderr
    wait_for_no_chunks(cluster)
    summary = files_of(tmp_path, done)["summary"]
    assert 0 < summary["episodes"] == summary["run_artifacts"]["file_count"] < EPISODES
    assert done.resume_words[-4:] == ["--cluster", cluster.address, "--artifacts", "return"]


@pytest.mark.slow
def test_a_lost_scheduler_leaves_a_journal_that_is_finished_here(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with dask_cluster(harness_clone, tmp_path / "cluster", "only") as lost:
        harness = start_held(harness_clone, tmp_path, lost)
        lost.kill(lost.scheduler)
        done = harness.wait()

    assert done.exit_code == 4, done.stderr
    assert "the scheduler of tcp://" in done.stderr
    assert "--cluster" not in done.resume_words
    assert 0 < done.document["summary"]["episodes"] < EPISODES
    slices.let_go(tmp_path)
    rest = slices.run(harness_clone, tmp_path, *done.resume_words)
    assert rest.exit_code == 0, rest.stderr
    files = files_of(tmp_path, done)
    assert len(files["series"]) == len(list((tmp_path / "runs").iterdir())) == EPISODES
    assert {"host" in row for row in files["series"]} == {True, False}


@pytest.mark.slow
def test_a_node_of_another_tracecore_is_refused_by_name(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(
        harness_clone / "tracecore",
        other / "tracecore",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    text = (other / "tracecore" / "__init__.py").read_text()
    (other / "tracecore" / "__init__.py").write_text(
        text.replace('__version__ = "', '__version__ = "9.')
    )
    with dask_cluster(other, tmp_path / "cluster", "stranger") as cluster:
        done = slices.run(harness_clone, tmp_path, "--episodes", "4", "--cluster", cluster.address)

    assert done.exit_code == 2
    assert "node stranger on" in done.document["error"]
    assert "tracecore: found '9." in done.document["error"]
    assert list((tmp_path / "out").glob("*")) == []


@pytest.mark.slow
def test_a_cluster_of_its_own_ends_with_the_slice(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    done = slices.run(
        harness_clone, tmp_path, "--episodes", "6", "--cluster", "local:1", "--progress", "never"
    )

    assert done.exit_code == 0, done.stderr
    assert done.stderr.startswith("slice 2")  # and no word of dask's
    assert files_of(tmp_path, done)["manifest"]["cluster"]["address"] == "local:1"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--cluster", "somewhere"),
            "--cluster: found 'somewhere', expected the address of a scheduler",
        ),
        (
            ("--cluster", "local:0"),
            "--cluster: found 'local:0', expected the address of a scheduler",
        ),
        (("--artifacts", "node"), "--artifacts: found 'node', expected --cluster with it"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path, options: tuple[str, ...], words: str
) -> None:
    done = slices.run(harness_clone, tmp_path, *options)
    assert done.exit_code == 2
    assert words in done.document["error"]
    assert not (tmp_path / "out").exists()
