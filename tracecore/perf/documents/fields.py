"""The fields of archived documents that are read, and their types. What else a document
holds may be anything.
"""

from typing import Any, Final

from tracecore.errors import InputError
from tracecore.strict import (
    AMOUNT,
    BOOL,
    COUNT,
    INTEGER,
    LIST,
    OBJECT,
    TEXT,
    Kind,
    check_fields,
    list_of,
    object_of,
    or_null,
)

_Fields = tuple[dict[str, Kind], dict[str, Kind]]

_TEXT_OR_NULL: Final = or_null(TEXT)
_AMOUNT_OR_NULL: Final = or_null(AMOUNT)
_COUNTS: Final = object_of(COUNT)
_OBJECTS: Final = list_of(OBJECT)
_PARTS: Final[_Fields] = ({"began_at": TEXT, "episodes": COUNT, "elapsed_s": AMOUNT}, {})
_ALLOWANCE: Final[_Fields] = ({}, {"read": list_of(TEXT), "network": list_of(TEXT)})

# The fields that are looked at: those that every file has, and those that it may have.
_MANIFEST: Final[_Fields] = (
    {"episodes": COUNT, "workers": COUNT, "strict_spec": BOOL, "scenario": LIST},
    {
        "stamp": TEXT,
        "generated_at": TEXT,
        "host": OBJECT,
        "runtime_identity": OBJECT,
        "machine_class": TEXT,
        "redaction": TEXT,
        "timeout": AMOUNT,
        "system_samples": OBJECT,
        "cluster": OBJECT,
        "parts": _OBJECTS,
    },
)
_SCENARIO_ROW: Final[_Fields] = (
    {"agent": TEXT, "task_ref": TEXT, "seed": INTEGER},
    {"agent_hash": _TEXT_OR_NULL, "task_hash": _TEXT_OR_NULL, "allow": OBJECT},
)
_IDENTITY: Final[_Fields] = ({}, {"version": _TEXT_OR_NULL, "git_sha": _TEXT_OR_NULL})
_SUMMARY: Final[_Fields] = (
    {"episodes": COUNT, "success_count": COUNT, "failure_count": COUNT, "summary": OBJECT},
    {
        "episodes_requested": COUNT,
        "interrupted": BOOL,
        "timeouts": COUNT,
        "crashes": COUNT,
        "elapsed_s": _AMOUNT_OR_NULL,
        "max_wall_clock_s": _AMOUNT_OR_NULL,
        "failure_reasons": _COUNTS,
        "failure_types": _COUNTS,
        "termination_reasons": _COUNTS,
        "run_artifacts": OBJECT,
        "system_samples": OBJECT,
        "telemetry_verbosity": OBJECT,
        "determinism": OBJECT,
        "findings": _OBJECTS,
        "finding_counts": object_of(or_null(COUNT)),
        "failures": _OBJECTS,
        "failure_spread": _TEXT_OR_NULL,
        "slowest": _OBJECTS,
        "comparison": OBJECT,
        "verdict": OBJECT,
        "work": _OBJECTS,
        "preload": OBJECT,
        "models": OBJECT,
        "parts": _OBJECTS,
    },
)
# of `failures` and `slowest`
_EPISODE: Final[_Fields] = (
    {"episode": COUNT, "agent": TEXT, "task_ref": TEXT, "seed": INTEGER, "repro": TEXT},
    {"error": _TEXT_OR_NULL, "wall_clock_s": AMOUNT, "artifact": _TEXT_OR_NULL},
)
_TOTALS: Final[_Fields] = (
    {},
    {
        "total": COUNT,
        "passed": COUNT,
        "failed": COUNT,
        "workers": COUNT,
        "p50_wall_clock_s": _AMOUNT_OR_NULL,
        "p95_wall_clock_s": _AMOUNT_OR_NULL,
        "success_rate": _AMOUNT_OR_NULL,
        "throughput_eps": _AMOUNT_OR_NULL,
    },
)
_RUN_ARTIFACTS: Final[_Fields] = (
    {},
    {"root": TEXT, "file_count": COUNT, "total_bytes": COUNT, "avg_bytes": _AMOUNT_OR_NULL},
)
_METRICS_ROW: Final[_Fields] = (
    {"task_ref": TEXT, "agent": TEXT, "run_count": COUNT},
    {
        "success_rate": _AMOUNT_OR_NULL,
        "avg_wall_clock_s": _AMOUNT_OR_NULL,
        "failure_taxonomy": _COUNTS,
        "termination_taxonomy": _COUNTS,
        **dict.fromkeys(
            (
                "reproducibility_rate",
                "steps_p50",
                "steps_p95",
                "p50_wall_clock_s",
                "p95_wall_clock_s",
                "p99_wall_clock_s",
                "max_wall_clock_s",
                "p50_computing_s",
                "p50_cpu_s",
                "peak_rss_bytes",
                "artifact_bytes_avg",
                "artifact_bytes_max",
            ),
            _AMOUNT_OR_NULL,
        ),
    },
)
_VERDICT: Final[_Fields] = (
    {},
    {
        "exit_code": INTEGER,
        "exit_codes": list_of(INTEGER),
        "reasons": list_of(TEXT),
        "breaches": list_of(TEXT),
        "warnings": list_of(TEXT),
        "thresholds": _OBJECTS,
    },
)


def check_manifest(name: str, manifest: Any) -> None:
    """Refuse a manifest with a field of a wrong type; InputError, which names it."""
    check_fields(name, "", manifest, *_MANIFEST)
    if not manifest["scenario"]:
        raise InputError(name, "scenario", [], "a list of at least one row")
    for place, row in enumerate(manifest["scenario"]):
        check_fields(name, f"scenario[{place}]", row, *_SCENARIO_ROW)
        check_fields(name, f"scenario[{place}].allow", row.get("allow", {}), *_ALLOWANCE)
    check_fields(name, "runtime_identity", manifest.get("runtime_identity", {}), *_IDENTITY)
    check_fields(name, "host", manifest.get("host", {}), *_IDENTITY)
    for place, part in enumerate(manifest.get("parts", ())):
        check_fields(name, f"parts[{place}]", part, *_PARTS)


def check_summary(name: str, summary: Any) -> None:
    """Refuse a summary with a field of a wrong type, or with counts that do not add up."""
    check_fields(name, "", summary, *_SUMMARY)
    if summary["success_count"] + summary["failure_count"] != summary["episodes"]:
        found = f"{summary['success_count']} successes and {summary['failure_count']} failures"
        raise InputError(name, "episodes", summary["episodes"], f"the sum of {found}")
    parts = {"summary": _TOTALS, "run_artifacts": _RUN_ARTIFACTS, "verdict": _VERDICT}
    for part, fields in parts.items():
        check_fields(name, part, summary.get(part, {}), *fields)
    for shown in ("failures", "slowest"):
        for place, one in enumerate(summary.get(shown, ())):
            check_fields(name, f"{shown}[{place}]", one, *_EPISODE)


def check_metrics(name: str, metrics: Any) -> None:
    """Refuse metrics that are no list, or have a row with a field of a wrong type."""
    if not isinstance(metrics, list):
        raise InputError(name, "", metrics, "a list of objects")
    for place, row in enumerate(metrics):
        check_fields(name, f"[{place}]", row, *_METRICS_ROW)
