"""A slice from beginning to end: plan, run, reduce, judge, write.

The only place where an episode's runtime meets the process pool: here ``run_job`` becomes the pool's function, and each
ending becomes a row.
"""

import contextlib
import functools
import os
import shlex
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Final

from tracecore import __version__, clock, processes, provenance
from tracecore.batch.pool import BatchOptions, run_batch
from tracecore.errors import EngineError, InputError, OptionError, OutputError
from tracecore.perf.baseline import Baseline, read_baseline
from tracecore.perf.compare import CompareOptions
from tracecore.perf.console import Console, human_summary
from tracecore.perf.determinism import Determinism, choose_episodes, compare_runs, second_runs_folder
from tracecore.perf.emit import FORMATS, ScenarioFigures, write_formats
from tracecore.perf.findings import Findings, probe_signs
from tracecore.perf.gate import (
    EXIT_BREACHED,
    EXIT_FAILED,
    EXIT_GOOD,
    EXIT_UNWRITTEN,
    AbortWatch,
    Evidence,
    Gate,
    GateReadings,
    judge,
    read_gate,
    verdict_document,
)
from tracecore.perf.github import tell_github
from tracecore.perf.host_noise import HostNoise, HostWatch
from tracecore.perf.interrupt import Interruption, watch_for_interruption
from tracecore.perf.journal import Fsync, Journal, create_journal, journal_path, resume_journal
from tracecore.perf.metrics import Metrics
from tracecore.perf.outputs import check_writable, reserve_stamp, write_documents, write_series
from tracecore.perf.probe import ProbeJob, Probes, make_job_or_probe_ready, run_job_or_probe
from tracecore.perf.progress import Progress
from tracecore.perf.report import check_extra, find_set, write_report
from tracecore.perf.repro import repro_command
from tracecore.perf.samples import DEFAULT_INTERVAL_S, Samples, samples_name
from tracecore.perf.scenario import DEFAULT_SCENARIO, Plan, plan, read_scenario
from tracecore.perf.series import feed, series_chunks
from tracecore.perf.summary import Summary
from tracecore.perf.system import SystemSampler, host_block, machine_class
from tracecore.perf.tidy import remove_stray_artifacts, remove_stray_documents
from tracecore.perf.verify import verify_sets
from tracecore.perf.watch import TICK_S, Watch
from tracecore.record import as_dict, record, replace
from tracecore.records import EpisodeResult, Job, JsonObject, Limits, Running, Settings, Verdict
from tracecore.runtime import doctor
from tracecore.runtime.agent_process import Preparation
from tracecore.runtime.artifact import artifact_hash, trace_hash
from tracecore.runtime.catalog import find_agent, find_task
from tracecore.runtime.job import make_ready, run_job, settle
from tracecore.runtime.reach import secret_folders
from tracecore.runtime.replay import first_difference
from tracecore.runtime.trace import REDACTIONS

FINISHED: Final = frozenset({EXIT_GOOD, EXIT_FAILED, EXIT_BREACHED})  # every episode has its result
REDACTION_VARIABLE: Final = "TRACECORE_LLM_TRACE_REDACTION"
# Behind the time limit of an episode, for its own process to write down that the agent was too slow; then its worker kills it.
# A spawned process counts its time from when it is up, and needs a while for that on a busy machine.
GRACE_S: Final = {processes.FORK: 1.0, processes.SPAWN: 5.0}


@record
class SliceOptions:
    """What the command line says; see ``--help`` of ``scripts/perf_harness.py``."""

    episodes: int = 24
    workers: int = 4
    timeout_s: float = 180.0
    strict_spec: bool = False
    compress: bool = False
    output_dir: str = "deliverables/perf"
    runs_dir: str = ".agent_bench/runs"
    scenario: str | None = None
    tasks_dirs: tuple[str, ...] = ()
    start_method: str = "auto"
    progress: str = "auto"
    memory_limit_bytes: int = 2 << 30
    confinement: str = "auto"
    keep_runs: str = "all"
    fsync: Fsync = "none"
    resume: str | None = None
    probe: bool = False
    sample_interval_s: float = DEFAULT_INTERVAL_S  # 0: no samples
    gate: bool = False
    no_gate: bool = False
    thresholds: tuple[str, ...] = ()  # files
    threshold: tuple[str, ...] = ()  # expressions
    verify_determinism: int | None = None
    emit: tuple[str, ...] = ()
    step_summary: str | None = None
    report: bool = False  # charts and a page; needs the report extra
    baseline: tuple[str, ...] = ()  # archived sets to compare with
    gate_on: str = "cpu"  # metrics that can fail the comparison, with commas between
    compare_anyway: bool = False
    require_conclusive: bool = False
    accept_changes: bool = False


@record
class SliceEnd:
    """How a slice ended."""

    exit_code: int
    document: JsonObject  # for stdout


@record
class Run:
    """What there is to know of the running of a slice, beside its rows."""

    elapsed_s: float
    system_samples: JsonObject
    interrupted: bool
    trouble: str | None  # why it could not go on
    host: JsonObject  # as it was when the run began: its load is that of others
    probe: JsonObject | None  # what the calibration probe says of the host
    aborted: str | None  # the threshold that ended it
    noise: HostNoise  # what the host did meanwhile

    @property
    def is_cut_short(self) -> bool:
        """Whether it ended before all was done."""
        return self.interrupted or bool(self.trouble or self.aborted)


def run_slice(options: SliceOptions) -> SliceEnd:
    """Run a slice and write its files.

    Raises:
        InputError: Something that was given is wrong; nothing has run.
        OutputError: Nothing could be written at all.
    """
    with watch_for_interruption() as interruption:
        console = Console()
        gate = read_conditions(options)
        stamp, the_plan, journal, baseline = prepare(options)
        interruption.last_words = f"\nperf_harness: ended at once; to finish it: {resume_command(options, stamp)}\n"
        with journal, take_samples(options, journal) as samples:
            already_done = journal.rows
            watch = Watch(watch_progress(options, journal, console), samples)
            run = run_episodes(options, the_plan, journal, gate, watch, interruption)
            try:
                determinism = run_again(options, the_plan, journal, gate, run, stamp, console, interruption)
                run = replace(run, interrupted=interruption.is_set)
                reduced = reduce_rows(
                    options, the_plan, journal, gate, run, determinism, stamp, journal.rows - already_done, baseline
                )
                verdict = judge_slice(gate, reduced, run)
                paths = write_files(options, stamp, reduced, samples)
            except OutputError as error:
                return end_unwritten(options, stamp, journal, console, run.trouble or str(error))
            if verdict.exit_code in FINISHED:
                journal.remove()
    resume = None if verdict.exit_code in FINISHED else resume_command(options, stamp)
    if run.trouble:
        console.say(f"perf_harness: {run.trouble}")
    console.say(human_summary(reduced.summary, paths, stamp=stamp, next_command=resume))
    tell_github(reduced.summary, reduced.figures, reduced.manifest, paths, options.step_summary, console)
    return SliceEnd(verdict.exit_code, answer(reduced.summary, stamp, paths))


def answer(summary: JsonObject, stamp: str, paths: dict[str, str]) -> JsonObject:
    """What stdout says."""
    verdict = summary["verdict"]
    return {
        "ok": verdict["exit_code"] == EXIT_GOOD,
        "stamp": stamp,
        "artifacts": paths,
        "summary": summary["summary"],
        "exit_code": verdict["exit_code"],
        "reasons": verdict["reasons"],
    }


def end_unwritten(options: SliceOptions, stamp: str, journal: Journal, console: Console, trouble: str) -> SliceEnd:
    """The end of a slice whose perf files could not be written: what had finished stays in the journal."""
    journal.restore()
    resume = resume_command(options, stamp)
    console.say(f"perf_harness: {trouble}")
    console.say(f"{journal.rows} of {options.episodes} episodes are kept; to finish: {resume}")
    return SliceEnd(
        EXIT_UNWRITTEN, {"ok": False, "exit_code": EXIT_UNWRITTEN, "error": trouble, "stamp": stamp, "resume": resume}
    )


# --- plan ------------------------------------------------------------------------------------------------------------


def prepare(options: SliceOptions) -> tuple[str, Plan, Journal, Baseline | None]:
    """Ask every question before the first episode; gives the stamp, the plan, the open journal and what to compare with.

    Raises:
        InputError: Something that was given is wrong.
    """
    if options.report:
        check_extra("--report")
    settings = read_settings(options)
    if options.confinement == "require":
        require_confinement(options)
    rows = DEFAULT_SCENARIO if options.scenario is None else read_scenario(options.scenario)
    make_plan = functools.partial(
        plan,
        rows,
        options.episodes,
        settings,
        find_agent,
        functools.partial(find_task, tasks_dirs=tuple(map(os.path.abspath, options.tasks_dirs))),
        scenario=options.scenario or "the default scenario",
    )
    the_plan = make_plan(slice_id=os.urandom(8).hex())
    baseline = prepare_baseline(options, the_plan) if options.baseline else None
    check_writable(options.output_dir)
    check_writable(options.runs_dir)
    if options.resume is None:
        stamp = reserve_stamp(options.output_dir)
        header = {"slice_id": the_plan.slice_id, **what_decides(the_plan)}
        path = journal_path(options.output_dir, stamp)
        try:
            return stamp, the_plan, create_journal(path, header, options.episodes, fsync=options.fsync), baseline
        except OutputError:
            with contextlib.suppress(OSError):
                os.unlink(path)  # nothing has run: the stamp is free again
            raise
    journal = reopen_journal(options, the_plan)
    return options.resume, make_plan(slice_id=journal.header["slice_id"]), journal, baseline


def prepare_baseline(options: SliceOptions, the_plan: Plan) -> Baseline:
    """The archived runs that this slice is compared with at its end.

    Raises:
        InputError: One cannot be read, or this slice would not be comparable with them.
    """
    host = host_block(_method(options), provenance.git_state())
    planned = {
        "episodes": options.episodes,
        "workers": options.workers,
        "strict_spec": options.strict_spec,
        "scenario": the_plan.scenario_document(),
        "host": host,
        "machine_class": machine_class(host),
    }
    how = CompareOptions(
        gate_on=tuple(options.gate_on.split(",")),
        compare_anyway=options.compare_anyway,
        require_conclusive=options.require_conclusive,
        accept_changes=options.accept_changes,
    )
    return read_baseline(options.baseline, planned, how)


def read_conditions(options: SliceOptions) -> Gate:
    """What the slice will be held against, and in which formats it is to be told.

    Raises:
        InputError: A threshold or a format is wrong.
    """
    for name in options.emit:
        if name not in FORMATS:
            raise OptionError("--emit", "", name, " or ".join(FORMATS))
    return read_gate(
        episodes=options.episodes,
        builtin=options.gate,
        off=options.no_gate,
        files=options.thresholds,
        expressions=options.threshold,
        verify=options.verify_determinism,
        keep_runs=options.keep_runs,
    )


def read_settings(options: SliceOptions) -> Settings:
    """What all episodes share.

    Raises:
        OptionError: The redaction variable holds none of its words, or fork is asked for where there is none.
    """
    redaction = os.environ.get(REDACTION_VARIABLE, "off") or "off"
    if redaction not in REDACTIONS:
        raise OptionError(REDACTION_VARIABLE, "", redaction, " or ".join(REDACTIONS))
    if options.start_method == processes.FORK and processes.default_method() != processes.FORK:
        raise OptionError("--start-method", "", options.start_method, "spawn or auto on this platform")
    return Settings(
        runs_dir=os.path.abspath(options.runs_dir),
        timeout_s=options.timeout_s,
        strict_spec=options.strict_spec,
        redaction=redaction,
        git_sha=provenance.git_state()["git_sha"],
        keep_runs=options.keep_runs,
        fsync=options.fsync == "full",
        limits=_limits(options),
    )


def require_confinement(options: SliceOptions) -> None:
    """Refuse to go on without every layer.

    Raises:
        OptionError: One is not in force; it is named, and why.
    """
    if missing := doctor.missing(doctor.probe(_limits(options), _method(options))):
        raise OptionError("--confinement", "", "require", f"auto or off where a layer is missing: {'; '.join(missing)}")


def what_decides(the_plan: Plan) -> JsonObject:
    """Everything that an episode's outcome depends on: two parts of one slice must agree in it."""
    settings = the_plan.settings
    return {
        "tracecore": __version__,
        "git_sha": settings.git_sha,
        "episodes": the_plan.episodes,
        "scenario": the_plan.scenario_document(),
        "timeout_s": settings.timeout_s,
        "strict_spec": settings.strict_spec,
        "redaction": settings.redaction,
        "keep_runs": settings.keep_runs,
        "limits": as_dict(settings.limits),
    }


def reopen_journal(options: SliceOptions, the_plan: Plan) -> Journal:
    """The journal of the slice to resume.

    Raises:
        InputError: There is none, or it was begun with something else than is given now; the field is named.
    """
    path = journal_path(options.output_dir, options.resume or "")
    journal, _recovery = resume_journal(path, fsync=options.fsync)
    now = what_decides(the_plan)
    for name, value in now.items():
        if journal.header.get(name) != value:
            journal.close(sync=False)
            raise InputError(path, *_first_difference(name, journal.header.get(name), value))
    return journal


def _first_difference(name: str, then: Any, now: Any) -> tuple[str, Any, str]:
    """Where two values differ: field, what stands now, and what the slice was begun with."""
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for place, (a, b) in enumerate(zip(then, now, strict=True)):
            if a != b:
                return _first_difference(f"{name}[{place}]", a, b)
    if isinstance(then, dict) and isinstance(now, dict) and then.keys() == now.keys():
        for key in now:
            if then[key] != now[key]:
                return _first_difference(f"{name}.{key}", then[key], now[key])
    return name, now, f"{then!r}, as when the slice was begun"


# --- run -------------------------------------------------------------------------------------------------------------


def run_episodes(
    options: SliceOptions, the_plan: Plan, journal: Journal, gate: Gate, watch: Watch, interruption: Interruption
) -> Run:
    """Run what the journal lacks; every finished episode is in it before the next is looked at."""
    host = host_block(_method(options), provenance.git_state())
    abort = AbortWatch(gate.thresholds, the_plan.episodes)
    aborted = first_broken(abort, journal.rows_in_order()) if abort.is_watching else None
    noise = HostWatch(host)
    sampler = SystemSampler()
    sampler.start()
    probes = Probes(the_plan.episodes) if options.probe else None
    begun_s = clock.monotonic_s()
    trouble = None
    missing = (index for index in range(0 if aborted else the_plan.episodes) if not journal.has(index))
    try:
        with contextlib.closing(finished_episodes(options, the_plan.jobs(missing), interruption, watch, probes)) as rows:
            for row in rows:
                journal.add(row)
                watch.add(row)
                if broken := abort.add(row):
                    aborted = broken.text
                    break
    except (EngineError, OutputError) as error:
        trouble = str(error)
    finally:
        watch.close()
        # Of episodes that were killed while they wrote, and of a harness that was killed before this one resumed.
        remove_stray_artifacts(options.runs_dir, (job.run_id for job in the_plan.jobs()))
        if options.resume is not None:
            remove_stray_documents(options.output_dir, options.resume)
    elapsed_s = clock.monotonic_s() - begun_s
    return Run(
        elapsed_s,
        sampler.sample(),
        interruption.is_set,
        trouble,
        host,
        probes.document() if probes else None,
        aborted,
        noise.figures(),
    )


def first_broken(abort: AbortWatch, rows: Iterator[EpisodeResult]) -> str | None:
    """The threshold that the episodes before a resumption have broken already."""
    return next((broken.text for broken in map(abort.add, rows) if broken), None)


def finished_episodes(
    options: SliceOptions,
    jobs: Iterator[Job],
    interruption: Interruption,
    watch: Watch | None = None,
    probes: Probes | None = None,
) -> Generator[EpisodeResult, None, None]:
    """The rows of ``jobs`` as they end, until they all have or somebody interrupts."""
    if interruption.is_set:
        return
    batch_options = BatchOptions(
        workers=options.workers,
        limit_s=lambda job: float(job.settings.timeout_s) + GRACE_S[_method(options)],
        prepare=Preparation(_limits(options), secret_folders(options.tasks_dirs, options.runs_dir, options.output_dir)),
        make_ready=make_job_or_probe_ready if probes else make_ready,
        method=_method(options),
        stop_fd=interruption.wake_fd,
        adopt_orphans=True,
        on_tick=_look_at_episodes(watch) if watch else None,
        tick_s=TICK_S,
    )
    function, work = (run_job_or_probe, probes.among(jobs)) if probes else (run_job, jobs)
    with contextlib.closing(run_batch(function, work, batch_options)) as endings:
        for ended in endings:
            if probes and isinstance(ended.job, ProbeJob):
                reading = getattr(ended.ending, "value", None)
                probes.add(reading)
                if watch:
                    watch.probed(getattr(reading, "wall_s", None))
            else:
                yield settle(ended)


def _look_at_episodes(watch: Watch) -> Callable[[Sequence[Running]], None]:
    """Shows the watch what runs, but for the probe."""
    return lambda running: watch.look([one for one in running if not isinstance(one.job, ProbeJob)])


def run_again(
    options: SliceOptions,
    the_plan: Plan,
    journal: Journal,
    gate: Gate,
    run: Run,
    stamp: str,
    console: Console,
    interruption: Interruption,
) -> JsonObject:
    """Run some episodes a second time, on new workers, and hold them against the first; the ``determinism`` block."""
    count = gate.episodes_to_verify(the_plan.episodes, len(the_plan.rows))
    if not count or run.is_cut_short:
        return Determinism(requested=count).document()
    rows = journal.rows_in_order()
    chosen = choose_episodes(rows, count, episodes=the_plan.episodes, scenario_rows=len(the_plan.rows))
    requested = len(chosen) or count
    try:
        with second_runs_folder(options.output_dir, stamp) as folder:
            settings = replace(the_plan.settings, runs_dir=folder, keep_runs="all")
            jobs = (replace(the_plan.job(row.index), settings=settings) for row in chosen)
            with contextlib.closing(finished_episodes(options, jobs, interruption)) as second_rows:
                return compare_runs(
                    chosen,
                    second_rows,
                    requested=requested,
                    runs_dir=options.runs_dir,
                    second_runs_dir=folder,
                    first_difference=first_difference,
                ).document()
    except (EngineError, OutputError) as error:  # the slice itself is whole, and is told; that it was not checked is too
        console.say(f"perf_harness: the second runs could not go on: {error}")
        return Determinism(requested).document()


def run_one(job: Job, start_method: str = "auto") -> EpisodeResult:
    """Run a single episode just as a slice does, for ``python -m tracecore``.

    Raises:
        EngineError: No worker could be started.
        OutputError: The artifact could not be written.
    """
    method = processes.default_method() if start_method == "auto" else start_method
    batch_options = BatchOptions(
        workers=1,
        limit_s=lambda job: float(job.settings.timeout_s) + GRACE_S[method],
        prepare=Preparation(job.settings.limits, secret_folders(())),
        make_ready=make_ready,
        method=method,
    )
    (ended,) = run_batch(run_job, [job], batch_options)
    return settle(ended)


def _limits(options: SliceOptions) -> Limits:
    return Limits(memory_bytes=options.memory_limit_bytes, confinement=options.confinement)


def _method(options: SliceOptions) -> str:
    return processes.default_method() if options.start_method == "auto" else options.start_method


def take_samples(options: SliceOptions, journal: Journal) -> Samples | contextlib.nullcontext[None]:
    """The samples of this slice, begun now; of nothing where none are wanted."""
    if not options.sample_interval_s:
        return contextlib.nullcontext()
    return Samples(options.output_dir, options.sample_interval_s, already_done=journal.rows)


def watch_progress(options: SliceOptions, journal: Journal, console: Console) -> Progress:
    """The progress of this slice, begun now."""
    mode: Any = options.progress
    tasks_dirs = options.tasks_dirs
    return Progress(options.episodes, console, mode=mode, already_done=journal.rows, tasks_dirs=tasks_dirs)


# --- reduce and write ------------------------------------------------------------------------------------------------


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
    the_plan: Plan,
    journal: Journal,
    gate: Gate,
    run: Run,
    determinism: JsonObject,
    stamp: str,
    episodes_run: int,
    baseline: Baseline | None,
) -> Reduced:
    """One pass over the rows: the series goes to its file as it is read, the other documents come back.

    Raises:
        OutputError: The series could not be written.
    """
    summary, metrics = Summary(), Metrics()
    findings = Findings(
        is_resumed=options.resume is not None,
        repro=functools.partial(repro_command, tasks_dirs=options.tasks_dirs),
        slice_command=slice_command(options),
    )
    readings, figures = GateReadings(gate.thresholds), ScenarioFigures()
    rows = feed(journal.rows_in_order(), summary, metrics, findings, readings, figures, *([baseline] if baseline else []))
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
    found = findings.document(host=run.noise, probe=probe_signs(run.probe), determinism=determinism)
    summary_document |= {"probe": run.probe, "determinism": determinism, **found}
    manifest = manifest_document(options, the_plan, gate, run, stamp)
    if baseline:
        is_complete = not run.is_cut_short and summary_document["episodes"] == options.episodes
        summary_document["comparison"] = baseline.document(options.output_dir, stamp, manifest, is_complete=is_complete)
    return Reduced(summary_document, metrics.document(), manifest, readings, figures)


def manifest_document(options: SliceOptions, the_plan: Plan, gate: Gate, run: Run, stamp: str) -> JsonObject:
    """What was asked for, and of what: all that is needed to do it again."""
    return {
        "generated_at": clock.utc_text(),
        "stamp": stamp,
        "episodes": options.episodes,
        "workers": options.workers,
        "timeout": options.timeout_s,
        "strict_spec": options.strict_spec,
        "compress": options.compress,
        "start_method": _method(options),
        "keep_runs": options.keep_runs,
        "fsync": options.fsync,
        "redaction": the_plan.settings.redaction,
        "limits": as_dict(the_plan.settings.limits),
        "confinement": doctor.probe(the_plan.settings.limits, _method(options), thorough=False),
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
        "machine_class": machine_class(run.host),
        "system_samples": run.system_samples,
    }


def write_files(options: SliceOptions, stamp: str, reduced: Reduced, samples: Samples | None) -> dict[str, str]:
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
        paths |= write_report(find_set(stamp, options.output_dir), options.output_dir)
    return paths | write_formats(options.output_dir, options.emit, reduced.figures, reduced.summary)


def verify_path(path: str, runs_dir: str | None = None) -> tuple[list[str], JsonObject]:
    """Recompute what the perf files at ``path`` say; what does not agree, and what was verified.

    Raises:
        InputError: The files cannot be read.
    """
    return verify_sets(path, lambda artifact: (artifact_hash(artifact), trace_hash(artifact)), runs_dir)


# --- judge -----------------------------------------------------------------------------------------------------------


def judge_slice(gate: Gate, reduced: Reduced, run: Run) -> Verdict:
    """Hold the slice against its thresholds; the verdict, which the summary gains as its last block."""
    statuses = tuple(reduced.readings.status(threshold, reduced.summary) for threshold in gate.thresholds)
    comparison = reduced.summary.get("comparison", {})
    breaches, warnings = (tuple(comparison.get(name, ())) for name in ("breaches", "warnings"))
    if gate.is_off:
        breaches, warnings = (), (*breaches, *warnings)
    verdict = judge(reduced.summary, Evidence(statuses, run.trouble, run.aborted, breaches, warnings))
    reduced.summary["verdict"] = verdict_document(verdict, gate)
    return verdict


def resume_command(options: SliceOptions, stamp: str) -> str:
    """The command that finishes this slice."""
    return _command(options, ["--resume", stamp])


def slice_command(options: SliceOptions) -> str:
    """The command that runs such a slice again."""
    return _command(options, [])


def _command(options: SliceOptions, first: list[str]) -> str:
    defaults = SliceOptions()
    redaction = os.environ.get(REDACTION_VARIABLE)
    words = [f"{REDACTION_VARIABLE}={redaction}"] if redaction else []
    script = sys.argv[0] if os.path.basename(sys.argv[0]) == "perf_harness.py" else "scripts/perf_harness.py"
    words += ["python", script, *first]
    for name, flag in _FLAGS.items():
        value = getattr(options, name)
        if value == getattr(defaults, name):
            continue
        words += [flag] if value is True else [flag, str(value)]
    for name, flag in _REPEATED_FLAGS.items():
        for value in getattr(options, name):
            words += [flag, value]
    return shlex.join(words)


_FLAGS: Final = {
    "episodes": "--episodes",
    "workers": "--workers",
    "timeout_s": "--timeout",
    "strict_spec": "--strict-spec",
    "compress": "--compress",
    "output_dir": "--output-dir",
    "runs_dir": "--runs-dir",
    "scenario": "--scenario",
    "start_method": "--start-method",
    "memory_limit_bytes": "--memory-limit",
    "confinement": "--confinement",
    "keep_runs": "--keep-runs",
    "fsync": "--fsync",
    "sample_interval_s": "--sample-interval",
    "gate": "--gate",
    "no_gate": "--no-gate",
    "verify_determinism": "--verify-determinism",
    "step_summary": "--step-summary",
    "report": "--report",
    "gate_on": "--gate-on",
    "compare_anyway": "--compare-anyway",
    "require_conclusive": "--require-conclusive",
    "accept_changes": "--accept-changes",
}
_REPEATED_FLAGS: Final = {
    "tasks_dirs": "--tasks-dir",
    "thresholds": "--thresholds",
    "threshold": "--threshold",
    "emit": "--emit",
    "baseline": "--baseline",
}
