"""Whether the perf files of a slice agree: with their series, with each other, with their zip, and
with the run artifacts.

The series is the witness: summary, metrics and verdict are made from it again, by the same code as
after the run, and compared.
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from tracecore.errors import InputError, ThresholdError, describe
from tracecore.perf.documents.archive import ArchivedSet, read_sets
from tracecore.perf.documents.metrics import TIMES, metrics_document
from tracecore.perf.documents.rows import Rows
from tracecore.perf.documents.summary import SliceFacts, summary_document
from tracecore.perf.judge.aggregates import LARGEST, ThresholdStatus, evaluate
from tracecore.perf.judge.gate import series_fields, summary_paths
from tracecore.perf.judge.thresholds import Severity, parse_threshold
from tracecore.perf.judge.verdicts import Evidence, judge
from tracecore.perf.judge.verify_files import (
    Problems,
    check_artifacts,
    check_index,
    check_zip,
)
from tracecore.perf.slice.second_runs import DIFFERENCES_SHOWN
from tracecore.record import replace
from tracecore.records import EpisodeResult, JsonObject
from tracecore.units import counted

COMPARED: Final = ("observed", "limit", "margin", "status")


def verify_sets(
    path: str,
    runs_dir: str | None = None,
) -> tuple[list[str], JsonObject]:
    """Recompute what the perf files of every set at ``path`` hold.

    Args:
        path: As :func:`tracecore.perf.documents.archive.read_sets` takes it.
        runs_dir: Where they lie; where the summary has them, by default, if they are still there.

    Returns:
        What does not agree, as sentences, and for stdout what was verified.

    Raises:
        InputError: The files cannot be read at all.
    """
    problems: list[str] = []
    verified: list[JsonObject] = []
    for archived in read_sets(path):
        found = verify_set(archived, runs_dir)
        problems += [f"{archived.stamp}: {problem}" for problem in found.sentences]
        problems += [f"{archived.stamp}: and {found.hidden} more"] if found.hidden else []
        verified.append(
            {
                "stamp": archived.stamp,
                "path": archived.path,
                "checked": {
                    "episodes": found.episodes,
                    "run_artifacts": found.artifacts,
                    "files": found.files,
                },
                "notes": found.notes,
            }
        )
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    indexed = Problems()
    check_index(folder, indexed)
    return problems + indexed.sentences, {"sets": verified, "indexed_files": indexed.files}


def agreement(document: JsonObject) -> str:
    """What was verified and agrees, in a sentence, from what is written to stdout."""
    sets, checked = document["sets"], [one["checked"] for one in document["sets"]]
    episodes, files, artifacts = (
        sum(one[name] for one in checked) for name in ("episodes", "files", "run_artifacts")
    )
    recomputed = counted(episodes, "episode") + " of " + counted(len(sets), "slice")
    hashed = counted(files + document["indexed_files"], "file")
    kept = (
        counted(artifacts, "run artifact") if artifacts else "no run artifact, since none is here"
    )
    return (
        f"everything agrees: summary, metrics and verdict recomputed from {recomputed};"
        f" {hashed} and {kept} checked by their bytes"
    )


def verify_set(archived: ArchivedSet, runs_dir: str | None = None) -> Problems:
    """Verify one set; see :func:`verify_sets`."""
    found = Problems()
    try:
        _check_documents(archived, found)
        check_zip(archived, found)
        check_artifacts(archived, runs_dir, found)
    except InputError as error:
        found.complain(str(error))
    return found


def _check_documents(archived: ArchivedSet, found: Problems) -> None:
    recorded, manifest = archived.summary, archived.manifest
    rows = Rows(_rows(archived, found))
    asked, workers = recorded.get("episodes_requested"), recorded["summary"].get("workers")
    asked = found.episodes if asked is None else asked
    found.compare("manifest.stamp", manifest.get("stamp", archived.stamp), archived.stamp)
    found.compare("manifest.episodes", manifest["episodes"], asked)
    found.compare("manifest.workers", manifest["workers"], workers)
    samples = recorded.get("system_samples")
    if "system_samples" in manifest:
        found.compare("manifest.system_samples", manifest["system_samples"], samples)
    facts = SliceFacts(
        episodes_requested=asked,
        workers=workers or 0,
        runs_root=(recorded.get("run_artifacts") or {}).get("root", ""),
        system_samples=samples or {},
        elapsed_s=recorded.get("elapsed_s"),
        episodes_run=_episodes_run(recorded, found),
        interrupted=bool(recorded.get("interrupted")),
    )
    recomputed = summary_document(rows, facts)
    found.compare("summary", _only(recorded, recomputed), recomputed)
    document = metrics_document(rows)
    archived_rows = archived.metrics
    for place, row in enumerate(archived_rows[: len(document)]):
        later = TIMES - row.keys()  # what the first version did not write is not missed
        document[place] = {key: value for key, value in document[place].items() if key not in later}
    named = [_only(one, again) for one, again in zip(archived_rows, document, strict=False)]
    found.compare("metrics", [*named, *archived_rows[len(document) :]], document)
    _check_counts(recorded, found)
    _check_verdict(archived, rows, recomputed, found)


def _rows(archived: ArchivedSet, found: Problems) -> Iterator[EpisodeResult]:
    """The rows as the episodes left them; each is held against the scenario."""
    scenario = archived.manifest["scenario"]
    for row in archived.series():
        found.episodes += 1
        index = row.episode_index
        planned = scenario[index % len(scenario)]
        name = f"series, episode {index + 1}"
        expected = {
            "episode": index + 1,
            "agent": planned["agent"],
            "task_ref": planned["task_ref"],
            "seed": planned["seed"] + index,
        }
        found.compare(name, {key: getattr(row, key) for key in expected}, expected)
        if row.success is not (row.error is None):
            found.complain(f"{name}: success is {row.success}, error is {describe(row.error)}")
        yield row


def _episodes_run(recorded: JsonObject, found: Problems) -> int:
    """How many ran within the time that the throughput is of: all, or of a resumed slice the rest,
    which may be none.
    """
    rate, elapsed_s = recorded["summary"].get("throughput_eps"), recorded.get("elapsed_s")
    if elapsed_s is None:
        return found.episodes
    if rate is None:
        return 0
    ran: int = round(rate * elapsed_s)
    if not 0 < ran <= found.episodes:
        found.complain(
            f"summary.summary.throughput_eps: {rate} for {elapsed_s} s come to {ran} episodes of"
            f" {found.episodes}"
        )
    return ran


def _check_verdict(
    archived: ArchivedSet, rows: Rows, recomputed: JsonObject, found: Problems
) -> None:
    """Judge the slice again, by what its documents hold."""
    recorded = archived.summary
    verdict = recorded.get("verdict")
    if not verdict:
        return
    statuses = [_status_of(one, recorded, rows, found) for one in verdict.get("thresholds", ())]
    breaches = (recorded.get("comparison") or {}).get("breaches")
    judged = judge(
        recomputed,
        Evidence(
            statuses=tuple(statuses),
            trouble=archived.manifest.get("trouble"),
            aborted=archived.manifest.get("aborted"),
            breaches=() if verdict.get("gate_off") else tuple(map(str, breaches or ())),
        ),
    )
    found.compare("summary.verdict.exit_code", verdict.get("exit_code"), judged.exit_code)
    found.compare("summary.verdict.exit_codes", verdict.get("exit_codes"), list(judged.exit_codes))


def _status_of(
    one: JsonObject, recorded: JsonObject, rows: Rows, found: Problems
) -> ThresholdStatus:
    """How an archived threshold comes out against the rows; as it did, where it is of another
    version, which this one cannot read.
    """
    text = str(one.get("text"))
    severity: Severity = "warn" if one.get("severity") == "warn" else "fail"
    try:
        threshold = parse_threshold(
            text, "summary.verdict", paths=summary_paths(), fields=series_fields()
        )
    except ThresholdError:
        found.notes.append(f"a threshold of another version was not checked: {one.get('text')}")
        return ThresholdStatus(
            text=text,
            observed=None,
            limit=0.0,
            margin=None,
            status="passed" if one.get("status") == "passed" else "no_data",
            severity=severity,
        )
    status = evaluate(replace(threshold, severity=severity), recorded, rows)
    for field in COMPARED:
        name = f"summary.verdict.thresholds: {one.get('text')}: {field}"
        found.compare(name, _as_float(one.get(field)), _as_float(getattr(status, field)))
    return status


def _check_counts(recorded: JsonObject, found: Problems) -> None:
    """Counts of findings and of differing episodes against what is listed beside them."""
    counts = recorded.get("finding_counts")
    if counts is not None:
        listed = Counter(str(one.get("id")) for one in recorded.get("findings", ()))
        for kind in {**counts, **listed}:
            if listed[kind] or counts.get(kind) is not None:
                found.compare(f"summary.finding_counts.{kind}", counts.get(kind), listed[kind])
    determinism = recorded.get("determinism") or {}
    differing, shown = determinism.get("differing"), len(determinism.get("differences") or ())
    if differing is not None and shown != min(differing, DIFFERENCES_SHOWN):
        found.compare("summary.determinism.differing", differing, shown)


def _only(recorded: JsonObject, recomputed: JsonObject) -> JsonObject:
    return {name: recorded.get(name) for name in recomputed}


def _as_float(value: Any) -> Any:
    """Numbers as numbers, whether or not they were written with a point."""
    return float(value) if isinstance(value, int | float) and abs(value) <= LARGEST else value
