"""Complete sets of made-up runs on disk, as an archive holds them."""

from tracecore.perf.documents.files import write_documents, write_series
from tracecore.perf.documents.metrics import metrics_document
from tracecore.perf.documents.rows import Rows, series_chunks
from tracecore.perf.documents.summary import SliceFacts, summary_document
from tracecore.perf.slice.options import JudgeOptions
from tracecore.perf.slice.scenario import DEFAULT_SCENARIO
from tracecore.record import as_dict, replace

TASKS = [row.task_ref for row in DEFAULT_SCENARIO]
HOST = {"cpu_model": "Fast CPU", "cpus_usable": 2, "machine": "x86_64", "python_version": "3.11.7"}
DEFAULTS = JudgeOptions()
SAME_BUT_DIFFERENT = "the same agent and task behave differently"


class Sets:
    """Writes complete sets of a made-up host, one folder each."""

    def __init__(self, tmp_path, make_row):
        self._tmp_path, self._make_row, self._count = tmp_path, make_row, 0

    def write(
        self,
        *,
        cpu_s=0.010,
        slower=None,
        episodes=24,
        change=None,
        manifest=None,
        summary=None,
        work=None,
        compress=False,
    ):
        self._count += 1
        folder, stamp = self._tmp_path / f"set{self._count}", f"s{self._count}"
        folder.mkdir()
        rows = [self._row(index, cpu_s, slower or {}) for index in range(episodes)]
        rows = [change(row) if change else row for row in rows]
        table = Rows(rows)
        write_series(str(folder), stamp, series_chunks(rows), fsync=False)
        facts = SliceFacts(
            episodes_requested=episodes,
            workers=2,
            runs_root="r",
            system_samples={},
            elapsed_s=1.0,
            episodes_run=episodes,
        )
        document = summary_document(table, facts)
        write_documents(
            str(folder),
            stamp,
            manifest={
                "episodes": episodes,
                "workers": 2,
                "strict_spec": False,
                "scenario": [
                    {**as_dict(row), "agent_hash": "sha256:a", "task_hash": "sha256:t"}
                    for row in DEFAULT_SCENARIO
                ],
                "machine_class": "x86_64-2cpu-16gib-py3.11-0a1b2c3d",
                "host": HOST,
                "runtime_identity": {
                    "name": "tracecore",
                    "version": "0.1.0",
                    "git_sha": "a" * 40,
                    "dirty": False,
                },
                **(manifest or {}),
            },
            summary={**document, "work": work or [], **(summary or {})},
            metrics=metrics_document(table),
            compress=compress,
        )
        return str(folder)

    def _row(self, index, cpu_s, slower):
        place = index % len(DEFAULT_SCENARIO)
        scenario = DEFAULT_SCENARIO[place]
        spent_s = cpu_s * slower.get(scenario.task_ref, 1.0) * (1 + index % 3 / 100)
        return self._make_row(
            index,
            agent=scenario.agent,
            task_ref=scenario.task_ref,
            seed=scenario.seed + index,
            wall_clock_s=spent_s * 1.5,
            start_offset_s=0.0,
            end_offset_s=0.0,
            cpu_user_s=spent_s * 0.6,
            cpu_sys_s=spent_s * 0.4,
            peak_rss_bytes=15 << 20,
        )

    def five(self, **changes):
        """Five runs that differ a little, as runs do."""
        return [
            self.write(cpu_s=0.010 * factor, **changes)
            for factor in (0.99, 0.995, 1.0, 1.005, 1.01)
        ]


def verdicts(document, metric="cpu"):
    return {one["row"]: one["verdict"] for one in document["decisions"] if one["metric"] == metric}


def only(index, **changes):
    return lambda row: replace(row, **changes) if row.episode_index == index else row


def work_of(*, lines=None, faults=None):
    """Counts of the default scenario's first four episodes, as a run records them; ``lines`` and
    ``faults`` multiply those of a task.
    """
    counted = []
    for index, row in enumerate(DEFAULT_SCENARIO):
        own = round(5000 * (lines or {}).get(row.task_ref, 1))
        episode = {"lines": own + 500, "calls": own // 5, "page_faults": 800}
        episode["page_faults"] = round(800 * (faults or {}).get(row.task_ref, 1))
        functions = {
            "episode": {
                "task/setup.py:setup": [own, own // 5],
                "tracecore/runtime/episode.py:play": [500, 0],
            },
            "agent": {"agent/agent.py:Agent.act": [300, 60]},
        }
        counts = {
            "episode": episode,
            "agent": {"lines": 300, "calls": 60, "page_faults": 400},
            "messages": 20,
            "bytes_written": 9000,
            "functions": functions,
        }
        counted.append(
            {
                "agent": row.agent,
                "task_ref": row.task_ref,
                "seed": row.seed,
                "episode_index": index,
                "counts": counts,
            }
        )
    return counted
