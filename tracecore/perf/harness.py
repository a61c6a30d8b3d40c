"""A slice from beginning to end: plan, run, reduce, judge, write.

The only place where an episode's runtime meets the process pool: here ``run_job`` becomes the
pool's function, and each ending becomes a row.
"""

import contextlib
import functools
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from tracecore import clock, processes, provenance
from tracecore.batch.pool import BatchOptions, run_batch
from tracecore.confinement import doctor
from tracecore.confinement.readable import secret_folders
from tracecore.errors import EngineError, OutputError
from tracecore.exit_codes import EXIT_BREACHED, EXIT_FAILED, EXIT_GOOD, EXIT_UNWRITTEN
from tracecore.perf.host.facts import SystemSampler, host_block
from tracecore.perf.host.noise import HostWatch
from tracecore.perf.host.samples import Samples
from tracecore.perf.judge.abort import AbortWatch
from tracecore.perf.judge.gate import Gate
from tracecore.perf.judge.verdicts import Evidence, judge, verdict_document
from tracecore.perf.prepare import find_cluster, prepare, read_conditions
from tracecore.perf.reduce import Reduced, Run, manifest_document, reduce_rows, write_files
from tracecore.perf.show.console import Console
from tracecore.perf.show.github import tell_github
from tracecore.perf.show.progress import TICK_S, Progress, Watch
from tracecore.perf.show.slice_page import human_summary
from tracecore.perf.slice.cleanup import (
    remove_doubtful_artifacts,
    remove_stray_artifacts,
    remove_stray_documents,
    remove_what_nobody_owns,
)
from tracecore.perf.slice.interrupt import Interruption, watch_for_interruption
from tracecore.perf.slice.journal import Journal
from tracecore.perf.slice.options import (
    SliceOptions,
    limit_behind_timeout,
    repro_of,
    resume_command,
    without_cluster,
)
from tracecore.perf.slice.scenario import Plan
from tracecore.perf.slice.second_runs import (
    Determinism,
    choose_episodes,
    compare_runs,
    second_runs_folder,
)
from tracecore.record import record, replace
from tracecore.records import EpisodeResult, Job, JsonObject, Verdict
from tracecore.runtime.agent.process import Preparation
from tracecore.runtime.job import make_ready, run_job, settle
from tracecore.runtime.replay import first_difference

if TYPE_CHECKING:
    from tracecore.perf.cluster.engine import ClusterEngine

FINISHED: Final = frozenset({EXIT_GOOD, EXIT_FAILED, EXIT_BREACHED})  # every episode has its result


@record
class SliceEnd:
    """How a slice ended."""

    exit_code: int
    document: JsonObject  # for stdout


def run_slice(options: SliceOptions) -> SliceEnd:
    """Run a slice and write its files.

    Raises:
        InputError: Something that was given is wrong; nothing has run.
        OutputError: Nothing could be written at all.
    """
    with contextlib.ExitStack() as around:
        interruption = around.enter_context(watch_for_interruption())
        console = Console(hurry_fd=interruption.wake_fd)
        cluster = around.enter_context(find_cluster(options, interruption, console))
        if cluster:
            options = replace(options, workers=cluster.slots)
        gate = read_conditions(options)
        stamp, the_plan, journal, baseline = prepare(options, cluster)
        interruption.last_words = (
            f"\nperf_harness: ended at once; to finish it: {resume_command(options, stamp)}\n"
        )
        # Begun while the workers start, and asked when all is done: what agents of this slice were
        # kept from.
        confinement = doctor.Probe(options.limits, options.method, thorough=False)
        with journal, confinement, take_samples(options, journal) as samples:
            already_done = journal.rows
            watch = Watch(watch_progress(options, journal, console), samples)
            run = run_episodes(options, the_plan, journal, gate, watch, interruption, cluster)
            try:
                determinism = run_again(
                    options, the_plan, journal, gate, run, stamp, console, interruption, cluster
                )
                run = replace(run, interrupted=interruption.is_set)
                episodes_run = journal.rows - already_done
                manifest = manifest_document(
                    options, the_plan, gate, run, stamp, confinement.state()
                )
                reduced = reduce_rows(
                    options,
                    journal,
                    gate,
                    run,
                    determinism,
                    stamp,
                    episodes_run,
                    manifest,
                    baseline,
                )
                verdict = judge_slice(gate, reduced, run)
                paths = write_files(options, stamp, reduced, samples)
            except OutputError as error:
                return end_unwritten(options, stamp, journal, console, run.trouble or str(error))
            if verdict.exit_code in FINISHED:
                journal.remove()
        if cluster and cluster.is_gone:
            options = without_cluster(options)
        resume = None if verdict.exit_code in FINISHED else resume_command(options, stamp)
        if run.trouble:
            console.say(f"perf_harness: {run.trouble}")
        console.say(human_summary(reduced.summary, paths, stamp=stamp, next_command=resume))
        tell_github(
            reduced.summary, reduced.figures, reduced.manifest, paths, options.step_summary, console
        )
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


def end_unwritten(
    options: SliceOptions, stamp: str, journal: Journal, console: Console, trouble: str
) -> SliceEnd:
    """The end of a slice whose perf files could not be written: what had finished stays in the
    journal.
    """
    journal.restore()
    resume = resume_command(options, stamp)
    console.say(f"perf_harness: {trouble}")
    console.say(f"{journal.rows} of {options.episodes} episodes are kept; to finish: {resume}")
    return SliceEnd(
        EXIT_UNWRITTEN,
        {
            "ok": False,
            "exit_code": EXIT_UNWRITTEN,
            "error": trouble,
            "stamp": stamp,
            "resume": resume,
        },
    )


# --- run -------------------------------------------------------------------------------------------------------------


def run_episodes(
    options: SliceOptions,
    the_plan: Plan,
    journal: Journal,
    gate: Gate,
    watch: Watch,
    interruption: Interruption,
    cluster: "ClusterEngine | None" = None,
) -> Run:
    """Run what the journal lacks; every finished episode is in it before the next is looked at."""
    host = host_block(options.method, provenance.git_state())
    abort = AbortWatch(gate.thresholds, the_plan.episodes)
    aborted = first_broken(abort, journal.rows_in_order()) if abort.is_watching else None
    noise = HostWatch(host)
    sampler = SystemSampler()
    sampler.start()
    begun_s = clock.monotonic_s()
    trouble = None
    missing = functools.partial(indices_without_row, the_plan, journal)
    if options.resume is not None:
        remove_doubtful_artifacts(
            options.runs_dir, (job.run_id for job in the_plan.jobs(missing()))
        )
    try:
        jobs = the_plan.jobs(iter(()) if aborted else missing())
        if cluster:
            finished = cluster.episodes(
                the_plan, jobs, 0 if aborted else the_plan.episodes - journal.rows, watch.look
            )
        else:
            finished = finished_episodes(options, jobs, interruption, watch)
        with contextlib.closing(finished) as rows:
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
        # Of episodes that were killed while they wrote, and of a harness that was killed before
        # this one resumed.
        remove_stray_artifacts(options.runs_dir, (job.run_id for job in the_plan.jobs()))
        if options.resume is not None:
            remove_stray_documents(options.output_dir, options.resume)
        remove_what_nobody_owns(options.output_dir)
    elapsed_s = clock.monotonic_s() - begun_s
    return Run(
        elapsed_s,
        sampler.sample(),
        interruption.is_set,
        trouble,
        {**host, **cluster.host()} if cluster else host,
        aborted,
        noise.figures(),
        cluster.document() if cluster else None,
    )


def indices_without_row(the_plan: Plan, journal: Journal) -> Iterator[int]:
    """The episodes that are still to be run."""
    return (index for index in range(the_plan.episodes) if not journal.has(index))


def first_broken(abort: AbortWatch, rows: Iterator[EpisodeResult]) -> str | None:
    """The threshold that the episodes before a resumption have broken already."""
    return next((broken.text for broken in map(abort.add, rows) if broken), None)


def finished_episodes(
    options: SliceOptions,
    jobs: Iterator[Job],
    interruption: Interruption,
    watch: Watch | None = None,
) -> Generator[EpisodeResult, None, None]:
    """The rows of ``jobs`` as they end, until they all have or somebody interrupts."""
    if interruption.is_set:
        return
    batch_options = BatchOptions(
        workers=options.workers,
        limit_s=limit_behind_timeout(options.method),
        prepare=Preparation(
            options.limits, secret_folders(options.tasks_dirs, options.runs_dir, options.output_dir)
        ),
        make_ready=make_ready,
        method=options.method,
        stop_fd=interruption.wake_fd,
        adopt_orphans=True,
        on_tick=watch.look if watch else None,
        tick_s=TICK_S,
    )
    with contextlib.closing(run_batch(run_job, jobs, batch_options)) as endings:
        yield from map(settle, endings)


def run_again(
    options: SliceOptions,
    the_plan: Plan,
    journal: Journal,
    gate: Gate,
    run: Run,
    stamp: str,
    console: Console,
    interruption: Interruption,
    cluster: "ClusterEngine | None" = None,
) -> JsonObject:
    """Run some episodes a second time, on new workers, and hold them against the first; the
    ``determinism`` block.
    """
    count = gate.episodes_to_verify(the_plan.episodes, len(the_plan.rows))
    if not count or run.is_cut_short:
        return Determinism(requested=count).document()
    rows = journal.rows_in_order()
    chosen = choose_episodes(
        rows, count, episodes=the_plan.episodes, scenario_rows=len(the_plan.rows)
    )
    requested = len(chosen) or count
    try:
        with second_runs_folder(options.output_dir, stamp) as folder:
            settings = replace(the_plan.settings, runs_dir=folder, keep_runs="all")
            jobs = (replace(the_plan.job(row.index), settings=settings) for row in chosen)
            if cluster:
                finished = cluster.episodes_again(
                    replace(the_plan, settings=settings), jobs, len(chosen)
                )
            else:
                finished = finished_episodes(options, jobs, interruption)
            with contextlib.closing(finished) as second_rows:
                return compare_runs(
                    chosen,
                    second_rows,
                    requested=requested,
                    runs_dir=options.runs_dir,
                    second_runs_dir=folder,
                    first_difference=first_difference,
                ).document()
    # the slice itself is whole, and is told; that it was not checked is too
    except (EngineError, OutputError) as error:
        console.say(f"perf_harness: the second runs could not go on: {error}")
        return Determinism(requested).document()


def run_one(job: Job, start_method: str = "auto", tasks_dirs: Sequence[str] = ()) -> EpisodeResult:
    """Run a single episode just as a slice does, for ``python -m tracecore``.

    Args:
        job: The episode.
        start_method: ``fork``, ``spawn`` or ``auto``.
        tasks_dirs: Folders of tasks, none of which the agent may read.

    Raises:
        EngineError: No worker could be started.
        OutputError: The artifact could not be written.
        KeyboardInterrupt: Somebody asked for an end before it had ended.
    """
    method = processes.method_of(start_method)
    # Not an exception out of a signal handler: raised while some object is being finalised, Python
    # would swallow it.
    with watch_for_interruption() as interruption:
        batch_options = BatchOptions(
            workers=1,
            limit_s=limit_behind_timeout(method),
            prepare=Preparation(job.settings.limits, secret_folders(tasks_dirs)),
            make_ready=make_ready,
            method=method,
            stop_fd=interruption.wake_fd,
        )
        rows = [settle(ended) for ended in run_batch(run_job, [job], batch_options)]
    if not rows:
        raise KeyboardInterrupt
    return rows[0]


def take_samples(options: SliceOptions, journal: Journal) -> Samples | contextlib.nullcontext[None]:
    """The samples of this slice, begun now; of nothing where none are wanted."""
    if not options.sample_interval_s:
        return contextlib.nullcontext()
    return Samples(options.output_dir, options.sample_interval_s, already_done=journal.rows)


def watch_progress(options: SliceOptions, journal: Journal, console: Console) -> Progress:
    """The progress of this slice, begun now."""
    mode: Any = options.progress
    return Progress(
        options.episodes, console, mode=mode, already_done=journal.rows, repro=repro_of(options)
    )


# --- judge -----------------------------------------------------------------------------------------------------------


def judge_slice(gate: Gate, reduced: Reduced, run: Run) -> Verdict:
    """Hold the slice against its thresholds; the verdict, which the summary gains as its last
    block.
    """
    statuses = tuple(
        reduced.readings.status(threshold, reduced.summary) for threshold in gate.thresholds
    )
    comparison = reduced.summary.get("comparison", {})
    breaches, warnings = (tuple(comparison.get(name, ())) for name in ("breaches", "warnings"))
    if gate.is_off:
        breaches, warnings = (), (*breaches, *warnings)
    verdict = judge(
        reduced.summary, Evidence(statuses, run.trouble, run.aborted, breaches, warnings)
    )
    reduced.summary["verdict"] = verdict_document(verdict, gate)
    return verdict
