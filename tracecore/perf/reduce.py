"""What the rows of a slice come to, how it is judged, and the files that hold it."""

import os
from collections.abc import Sequence

from tracecore import __version__, clock
from tracecore.perf.documents.files import write_documents, write_series
from tracecore.perf.documents.losses import Losses
from tracecore.perf.documents.metrics import metrics_document
from tracecore.perf.documents.rows import Rows, series_chunks
from tracecore.perf.documents.summary import SliceFacts, summary_document
from tracecore.perf.findings.findings import Circumstances, findings_document
from tracecore.perf.host.facts import machine_class
from tracecore.perf.host.noise import HostNoise
from tracecore.perf.host.samples import samples_name
from tracecore.perf.judge.aggregates import evaluate
from tracecore.perf.judge.verdicts import Evidence, judge, verdict_document
from tracecore.perf.prepare import Slice
from tracecore.perf.resume import where_artifacts_lie
from tracecore.perf.show.exports import scenario_figures, write_formats
from tracecore.perf.slice.commands import repro_of, slice_command
from tracecore.perf.slice.second_runs import Determinism
from tracecore.record import as_dict, field, record, replace
from tracecore.records import JsonObject


@record
class Run:
    """What there is to know of the running of a slice, beside its rows."""

    elapsed_s: float
    system_samples: JsonObject
    interrupted: bool
    trouble: str | None  # why it could not go on
    host: JsonObject  # as it was when the run began: its load is that of others
    aborted: str | None  # the threshold that ended it
    noise: HostNoise  # what the host did meanwhile
    determinism: Determinism = field(default_factory=Determinism)  # what second runs came to

    @property
    def is_cut_short(self) -> bool:
        """Whether it ended before all was done."""
        return self.interrupted or bool(self.trouble or self.aborted)


@record
class Reduced:
    """What the rows come to."""

    summary: JsonObject
    metrics: list[JsonObject]
    manifest: JsonObject
    rows: Rows


def reduce_rows(slice_: Slice, run: Run) -> Reduced:
    """One pass over the rows: the series goes to its file as it is read, the other documents come
    back, with the verdict in the summary.

    Raises:
        OutputError: The series could not be written.
    """
    options, stamp, baseline = slice_.options, slice_.stamp, slice_.baseline
    rows, losses = Rows(), Losses(where_artifacts_lie(options))
    kept = rows.take(losses.check(slice_.journal.rows_in_order()))
    write_series(options.output.output_dir, stamp, series_chunks(kept))
    run = replace(run, trouble=run.trouble or losses.sentence(slice_.journal.lost))
    parts = parts_document(rows, slice_.journal.parts, run.elapsed_s)
    manifest = {**manifest_document(slice_, run), "parts": parts}
    determinism = run.determinism.document()
    facts = SliceFacts(
        episodes_requested=options.run.episodes,
        workers=slice_.engine.slots,
        runs_root=options.run.runs_dir,
        system_samples=run.system_samples,
        elapsed_s=sum(part["elapsed_s"] for part in parts),
        interrupted=run.interrupted,
    )
    about = Circumstances(
        host=run.noise,
        determinism=determinism,
        is_resumed=len(parts) > 1,
        repro=repro_of(options.run),
        slice_command=slice_command(options),
    )
    summary = {
        **summary_document(rows, facts),
        "parts": parts,
        "determinism": determinism,
        "work": run.determinism.work,
        **findings_document(rows, about),
        "preload": slice_.engine.preload(),
    }
    if baseline:
        is_complete = not run.is_cut_short and len(rows) == options.run.episodes
        summary["comparison"] = baseline.document(
            options.output.output_dir, manifest, summary, rows, is_complete=is_complete
        )
    summary["verdict"] = judge_slice(slice_, run, summary, rows)
    return Reduced(summary, metrics_document(rows), manifest, rows)


def judge_slice(slice_: Slice, run: Run, summary: JsonObject, rows: Rows) -> JsonObject:
    """Hold the slice against its thresholds; the ``verdict`` block of its summary."""
    gate = slice_.gate
    statuses = tuple(evaluate(threshold, summary, rows) for threshold in gate.thresholds)
    comparison = summary.get("comparison", {})
    breaches, warnings = (tuple(comparison.get(name, ())) for name in ("breaches", "warnings"))
    if gate.is_off:
        breaches, warnings = (), (*breaches, *warnings)
    evidence = Evidence(statuses, run.trouble, run.aborted, breaches, warnings)
    return verdict_document(judge(summary, evidence), gate)


def parts_document(rows: Rows, began_at: Sequence[str], elapsed_s: float) -> list[JsonObject]:
    """``parts`` of manifest and summary: every part of the slice by its own clock, one where it was
    not resumed.

    Args:
        rows: Of the whole slice.
        began_at: When each part began, UTC.
        elapsed_s: Of the last one. Those before it ended, for all that is known, with the last
            episode that they finished.
    """
    ends_s, counts = [0.0] * len(began_at), [0] * len(began_at)
    for part, end_s in zip(rows["part"], rows["end_offset_s"], strict=True):
        ends_s[part], counts[part] = max(ends_s[part], end_s), counts[part] + 1
    ends_s[-1] = elapsed_s
    return [
        {"began_at": began, "episodes": count, "elapsed_s": end_s}
        for began, count, end_s in zip(began_at, counts, ends_s, strict=True)
    ]


def manifest_document(slice_: Slice, run: Run) -> JsonObject:
    """What was asked for, and of what: all that is needed to do it again."""
    options, plan, engine = slice_.options.run, slice_.plan, slice_.engine
    cluster = engine.document()
    return {
        "generated_at": clock.utc_text(),
        "stamp": slice_.stamp,
        "episodes": options.episodes,
        "workers": engine.slots,
        "timeout": options.timeout_s,
        "strict_spec": options.strict_spec,
        "compress": slice_.options.output.compress,
        "start_method": options.method,
        "keep_runs": options.keep_runs,
        "fsync": options.fsync,
        "redaction": plan.settings.redaction,
        "limits": as_dict(plan.settings.limits),
        "confinement": slice_.confinement(),
        "thresholds": [threshold.text for threshold in slice_.gate.thresholds],
        "interrupted": run.interrupted,
        "aborted": run.aborted,
        "trouble": run.trouble,
        "scenario": plan.scenario_document(),
        "runtime_identity": {
            "name": "tracecore",
            "version": __version__,
            "git_sha": run.host["git_sha"],
            "dirty": run.host["dirty"],
        },
        "host": run.host,
        "machine_class": engine.machine_class() or machine_class(run.host),
        **({"cluster": cluster} if cluster else {}),
        "system_samples": run.system_samples,
    }


def write_files(slice_: Slice, reduced: Reduced) -> dict[str, str]:
    """Write the documents; gives the paths of all perf files.

    Raises:
        OutputError: One of them could not be written.
    """
    options, stamp = slice_.options.output, slice_.stamp
    paths = write_documents(
        options.output_dir,
        stamp,
        manifest=reduced.manifest,
        summary=reduced.summary,
        metrics=reduced.metrics,
        compress=options.compress,
    )
    if slice_.samples:
        paths["samples"] = os.path.join(options.output_dir, samples_name(stamp))
        slice_.samples.write(paths["samples"])
    if options.report:
        from tracecore.perf.show.report import find_set, write_report  # noqa: PLC0415

        paths |= write_report(find_set(stamp, options.output_dir), options.output_dir)
    return paths | write_formats(
        options.output_dir, options.emit, scenario_figures(reduced.rows), reduced.summary
    )
