"""A slice on disk with everything that a report can show, written by hostile agents."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

from tracecore.perf.documents.files import write_documents, write_series
from tracecore.perf.documents.metrics import metrics_document
from tracecore.perf.documents.rows import Rows, series_chunks
from tracecore.perf.documents.summary import SliceFacts, summary_document
from tracecore.perf.findings.findings import Circumstances, findings_document

STAMP = "20260131T235959Z"
HOSTILE = (
    "<script>window.broken = 1</script><img src=x onerror='window.broken = 2'> | `a` \x1b[2J \u202e"
    " $x^2$ ![](http://e.example/x)"
)
AGENTS = (
    "agents/toy_agent.py",
    "agents/a <b>&amp;|`.py",
    "agents/very/long/path/" + "x" * 90 + ".py",
)
TASKS = ("filesystem_hidden_config@1", "rate_limited_api@12", "task_" + "y" * 70 + "@1")


def write_slice(
    folder: pathlib.Path, make_row: Callable[..., Any], episodes: int = 90, *, full: bool = True
) -> pathlib.Path:
    """A slice of three scenario rows, of which every seventh episode failed; ``full`` adds verdict,
    findings and samples.
    """
    rows = [_row(make_row, index) for index in range(episodes)]
    folder.mkdir(exist_ok=True)
    table = Rows(rows)
    write_series(str(folder), STAMP, series_chunks(rows))
    facts = SliceFacts(episodes_requested=episodes, workers=2, runs_root="runs", elapsed_s=12.5)
    found = findings_document(table, Circumstances())
    document = summary_document(table, facts)
    document |= {name: found[name] for name in ("failures", "slowest")}
    manifest = {
        "stamp": STAMP,
        "generated_at": "2026-01-31T23:59:59.000000Z",
        "episodes": episodes,
        "workers": 2,
        "strict_spec": True,
        "timeout": 180.0,
        "scenario": [
            {"agent": agent, "task_ref": task, "seed": 42}
            for agent, task in zip(AGENTS, TASKS, strict=True)
        ],
        "runtime_identity": {
            "name": "tracecore",
            "version": "0.1.0",
            "git_sha": None,
            "dirty": True,
        },
        "host": {
            "cpu_model": HOSTILE,
            "load_averages": [1.0, 0.5],
            "memory_total_bytes": 17179869184,
            "governor": None,
        },
        "machine_class": "x86_64-2cpu-16gib-py3.11-0a1b2c3d",
        "system_samples": {"available": False},
    }
    manifest["scenario"][0]["allow"] = {"read": ["/data/<i>notes"], "network": ["api.example.test"]}  # type: ignore[index]
    if full:
        document |= _judgement(document)
        (folder / f"perf-samples-{STAMP}.json").write_text(json.dumps(_samples()))
    write_documents(
        str(folder),
        STAMP,
        manifest=manifest,
        summary=document,
        metrics=metrics_document(table),
        compress=True,
    )
    return folder


def _row(make_row: Callable[..., Any], index: int) -> Any:
    wall_s = 0.02 + 0.001 * (index * 7 % 13) + 0.004 * (index % 3)
    changes: dict[str, Any] = {
        "wall_clock_s": wall_s,
        "start_offset_s": index * 0.1,
        "end_offset_s": index * 0.1 + wall_s,
    }
    changes |= {
        "agent": AGENTS[index % 3],
        "task_ref": TASKS[index % 3],
        "artifact_bytes": 1000 + index,
    }
    return make_row(index, error=HOSTILE if index % 7 == 3 else None, **changes)


def _judgement(document: dict[str, Any]) -> dict[str, Any]:
    thresholds = [
        {
            "text": "failure_count == 0",
            "observed": 13,
            "limit": 0,
            "margin": -13,
            "status": "failed",
            "severity": "fail",
        },
        {
            "text": "max_wall_clock_s <= 15",
            "observed": 0.04,
            "limit": 15,
            "margin": 14.96,
            "status": "passed",
            "severity": "warn",
        },
        {
            "text": "tokens_used{task_ref=no_such@1}:sum < 1",
            "observed": None,
            "limit": 1,
            "margin": None,
            "status": "no_data",
            "severity": "fail",
        },
    ]
    reasons = [
        (
            f"{document['failure_count']} of {document['episodes']} episodes failed;"
            " most often (13):"
            f" {HOSTILE}."
        )
    ]
    finding = {
        "id": "failure_cluster",
        "severity": "fail",
        "text": HOSTILE,
        "evidence": {},
        "episodes": [4],
        "repro": HOSTILE,
    }
    verdict = {
        "exit_code": 1,
        "exit_codes": [1, 3],
        "profile": "small",
        "reasons": reasons,
        "warnings": [HOSTILE],
    }
    return {
        "verdict": {**verdict, "thresholds": thresholds},
        "findings": [finding],
        "determinism": {"requested": 3, "checked": 3, "differing": 0, "differences": []},
    }


def _samples() -> dict[str, Any]:
    one = {
        "cpu_percent": 80.0,
        "steal_percent": 0.5,
        "tree_rss_bytes": 100_000_000,
        "cpu_percent_per_core": [70.0, 90.0],
    }
    return {
        "available": True,
        "trouble": None,
        "samples": [{"offset_s": 0.5 * place, **one} for place in range(1, 25)],
    }
