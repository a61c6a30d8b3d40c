"""What the rows of a slice come to, and the files that tell it."""

import os
from typing import TYPE_CHECKING

from tracecore import __version__, clock
from tracecore.perf.documents.files import write_documents, write_series
from tracecore.perf.documents.metrics import Metrics
from tracecore.perf.documents.rows import feed, series_chunks
from tracecore.perf.documents.summary import Summary
from tracecore.perf.findings.findings import Findings
from tracecore.perf.host.facts import machine_class
from tracecore.perf.host.noise import HostNoise
from tracecore.perf.host.samples import Samples, samples_name
from tracecore.perf.judge.abort import GateReadings
from tracecore.perf.judge.gate import Gate
from tracecore.perf.show.exports import ScenarioFigures, write_formats
from tracecore.perf.slice.journal import Journal
from tracecore.perf.slice.options import SliceOptions, repro_of, slice_command
from tracecore.perf.slice.scenario import Plan
from tracecore.record import as_dict, record
from tracecore.records import JsonObject

if TYPE_CHECKING:
    from tracecore.perf.compare.baseline import Baseline


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
    cluster: JsonObject | None = None  # the nodes, where there were any

    @property
    def is_cut_short(self) -> bool:
        """Whether it ended before all was done."""
        return self.interrupted or bool(self.trouble or self.aborted)


@record
class Reduced:
    """What the rows come to."""

    summary: JsonObject  # gains its verdict when the slice is judged
    metrics: list[JsonObject]
    manifest: JsonObject
    readings: GateReadings
    figures: ScenarioFigures


def reduce_rows(
    options: SliceOptions,
    journal: Journal,
    gate: Gate,
    run: Run,
    determinism: JsonObject,
    stamp: str,
    episodes_run: int,
    manifest: JsonObject,
    baseline: "Baseline | None",
) -> Reduced:
    """One pass over the rows: the series goes to its file as it is read, the other documents come
    back.

    Raises:
        OutputError: The series could not be written.
    """
    summary, metrics = Summary(), Metrics()
    findings = Findings(
        is_resumed=options.resume is not None,
        repro=repro_of(options),
        slice_command=slice_command(options),
    )
    readings, figures = GateReadings(gate.thresholds), ScenarioFigures()
    rows = feed(
        journal.rows_in_order(),
        summary,
        metrics,
        findings,
        readings,
        figures,
        *([baseline] if baseline else []),
    )
    write_series(options.output_dir, stamp, series_chunks(rows))
    summary_document = summary.document(
        episodes_requested=options.episodes,
        workers=options.workers,
        runs_root=options.runs_dir,
        system_samples=run.system_samples,
        elapsed_s=run.elapsed_s,
        episodes_run=episodes_run,
        interrupted=run.interrupted,
    )
    found = findings.document(host=run.noise, determinism=determinism)
    summary_document |= {"determinism": determinism, **found}
    if baseline:
        is_complete = not run.is_cut_short and summary_document["episodes"] == options.episodes
        summary_document["comparison"] = baseline.document(
            options.output_dir, stamp, manifest, is_complete=is_complete
        )
    return Reduced(summary_document, metrics.document(), manifest, readings, figures)


def manifest_document(
    options: SliceOptions,
    the_plan: Plan,
    gate: Gate,
    run: Run,
    stamp: str,
    confinement: dict[str, bool | str],
) -> JsonObject:
    """What was asked for, and of what: all that is needed to do it again."""
    return {
        "generated_at": clock.utc_text(),
        "stamp": stamp,
        "episodes": options.episodes,
        "workers": options.workers,
        "timeout": options.timeout_s,
        "strict_spec": options.strict_spec,
        "compress": options.compress,
        "start_method": options.method,
        "keep_runs": options.keep_runs,
        "fsync": options.fsync,
        "redaction": the_plan.settings.redaction,
        "limits": as_dict(the_plan.settings.limits),
        "confinement": confinement,
        "thresholds": [threshold.text for threshold in gate.thresholds],
        "interrupted": run.interrupted,
        "aborted": run.aborted,
        "trouble": run.trouble,
        "scenario": the_plan.scenario_document(),
        "runtime_identity": {
            "name": "tracecore",
            "version": __version__,
            "git_sha": run.host["git_sha"],
            "dirty": run.host["dirty"],
        },
        "host": run.host,
        "machine_class": run.cluster["machine_class"] if run.cluster else machine_class(run.host),
        **({"cluster": run.cluster} if run.cluster else {}),
        "system_samples": run.system_samples,
    }


def write_files(
    options: SliceOptions, stamp: str, reduced: Reduced, samples: Samples | None
) -> dict[str, str]:
    """Write the documents; gives the paths of all perf files.

    Raises:
        OutputError: One of them could not be written.
    """
    paths = write_documents(
        options.output_dir,
        stamp,
        manifest=reduced.manifest,
        summary=reduced.summary,
        metrics=reduced.metrics,
        compress=options.compress,
    )
    if samples:
        paths["samples"] = os.path.join(options.output_dir, samples_name(stamp))
        samples.write(paths["samples"])
    if options.report:
        from tracecore.perf.show.report import find_set, write_report  # noqa: PLC0415

        paths |= write_report(find_set(stamp, options.output_dir), options.output_dir)
    return paths | write_formats(options.output_dir, options.emit, reduced.figures, reduced.summary)
