"""A slice from beginning to end: prepare, run, run some again, reduce and judge, write, show."""

import contextlib
from typing import Any

from tracecore import clock
from tracecore.errors import EngineError, OutputError
from tracecore.exit_codes import EXIT_GOOD, EXIT_UNWRITTEN, FINISHED
from tracecore.perf.host import provenance
from tracecore.perf.host.facts import SystemSampler, host_block
from tracecore.perf.host.noise import HostWatch
from tracecore.perf.judge.abort import AbortWatch
from tracecore.perf.prepare import Slice, prepare
from tracecore.perf.reduce import Reduced, Run, reduce_rows, write_files
from tracecore.perf.show.github import show_in_job, view_of_slice
from tracecore.perf.show.progress import Progress, Watch
from tracecore.perf.show.slice_page import human_summary
from tracecore.perf.slice.cleanup import (
    remove_doubtful_artifacts,
    remove_stray_artifacts,
    remove_stray_documents,
    remove_unowned,
)
from tracecore.perf.slice.commands import repro_of, resume_command
from tracecore.perf.slice.options import ClusterOptions, SliceOptions
from tracecore.perf.slice.second_runs import (
    Determinism,
    choose_episodes,
    compare_runs,
    second_runs_folder,
)
from tracecore.record import replace
from tracecore.records import JsonObject


def run_slice(options: SliceOptions) -> JsonObject:
    """Run a slice and write its files; how it ended, for stdout.

    Raises:
        InputError: Something that was given is wrong; nothing has run.
        OutputError: Nothing could be written at all.
    """
    with prepare(options) as slice_:
        run = run_episodes(slice_)
        try:
            run = run_again(slice_, run)
            reduced = reduce_rows(slice_, run)
            paths = write_files(slice_, reduced)
        except OutputError as error:
            return end_unwritten(slice_, run.trouble or str(error))
        return show(slice_, reduced, paths)


# --- run --------------------------------------------------------------------------------------


def run_episodes(slice_: Slice) -> Run:
    """Run what the journal lacks; every finished episode is in it before the next is looked at."""
    options, plan, journal, engine = slice_.options, slice_.plan, slice_.journal, slice_.engine
    watch = Watch(watch_progress(slice_), slice_.samples)
    host = host_block(options.run.method, provenance.git_state())
    abort = AbortWatch(slice_.gate.thresholds, plan.episodes)
    # of a resumed slice: the threshold that the episodes before have broken already
    before = journal.rows_in_order() if abort.is_watching else iter(())
    aborted = next((broken.text for broken in map(abort.add, before) if broken), None)
    noise = HostWatch(host)
    sampler = SystemSampler()
    begun_s = clock.monotonic_s()
    trouble = None
    remove_leftovers(slice_)
    try:
        jobs = plan.jobs(() if aborted else journal.missing())
        count = 0 if aborted else plan.episodes - journal.rows
        with contextlib.closing(engine.episodes(plan, jobs, count, watch.look)) as rows:
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
        remove_stray_artifacts(options.run.runs_dir, (job.run_id for job in plan.jobs()))
        remove_unowned(options.output.output_dir)
    return Run(
        elapsed_s=clock.monotonic_s() - begun_s,
        system_samples=sampler.sample(),
        interrupted=slice_.interruption.is_set,
        trouble=trouble,
        host={**host, **engine.host()},
        aborted=aborted,
        noise=noise.figures(),
    )


def remove_leftovers(slice_: Slice) -> None:
    """Remove what the harness that began a resumed slice left half done."""
    options, plan = slice_.options, slice_.plan
    if options.run.resume is not None:
        run_ids = (job.run_id for job in plan.jobs(slice_.journal.missing()))
        remove_doubtful_artifacts(options.run.runs_dir, run_ids)
        remove_stray_documents(options.output.output_dir, options.run.resume)


def watch_progress(slice_: Slice) -> Progress:
    """The progress of this slice, begun now."""
    options = slice_.options
    mode: Any = "never" if options.output.quiet else options.output.progress
    return Progress(
        options.run.episodes,
        slice_.console,
        mode=mode,
        already_done=slice_.journal.rows,
        repro=repro_of(options.run),
    )


def run_again(slice_: Slice, run: Run) -> Run:
    """Run some episodes a second time, on new workers, and hold them against the first; the run,
    with its ``determinism`` block.
    """
    plan, gate = slice_.plan, slice_.gate
    count = gate.episodes_to_verify(plan.episodes, len(plan.rows))
    determinism = Determinism(requested=count)
    if count and not run.is_cut_short:
        try:
            determinism = compare_with_second_runs(slice_, count)
        # the slice itself is whole, and is shown; that it was not checked is too
        except (EngineError, OutputError) as error:
            slice_.console.write_line(f"perf_harness: the second runs could not go on: {error}")
    return replace(run, determinism=determinism, interrupted=slice_.interruption.is_set)


def compare_with_second_runs(slice_: Slice, count: int) -> Determinism:
    """What ``count`` second runs came to.

    Raises:
        EngineError: No worker is left.
        OutputError: Their folder could not be made, or an artifact not be written.
    """
    options, plan = slice_.options, slice_.plan
    chosen = choose_episodes(
        slice_.journal.rows_in_order(),
        count,
        episodes=plan.episodes,
        scenario_rows=len(plan.rows),
    )
    with second_runs_folder(options.output.output_dir, slice_.stamp) as folder:
        settings = replace(plan.settings, runs_dir=folder, keep_runs="all")
        jobs = (
            replace(plan.job(row.episode_index), settings=settings, count_work=True)
            for row in chosen
        )
        finished = slice_.engine.episodes_again(replace(plan, settings=settings), jobs, len(chosen))
        with contextlib.closing(finished) as second_rows:
            return compare_runs(
                chosen,
                second_rows,
                requested=len(chosen) or count,
                runs_dir=options.run.runs_dir,
                second_runs_dir=folder,
            )


# --- show -------------------------------------------------------------------------------------


def show(slice_: Slice, reduced: Reduced, paths: dict[str, str]) -> JsonObject:
    """Show what came of the slice on the console, and in the job of a code host where it runs in
    one; the end, for stdout.
    """
    options, console, summary = slice_.options, slice_.console, reduced.summary
    exit_code, resume = summary["verdict"]["exit_code"], None
    if exit_code in FINISHED:
        slice_.journal.remove()
    else:
        resume = resume_command(
            replace(options, cluster=ClusterOptions()) if slice_.engine.is_gone else options,
            slice_.stamp,
        )
    if trouble := reduced.manifest["trouble"]:
        console.write_line(f"perf_harness: {trouble}")
    if aliens := slice_.journal.alien_lines:
        console.write_line(
            f"perf_harness: {aliens} foreign lines in {slice_.journal.path}, passed over"
        )
    if not options.output.quiet:
        console.write_line(
            human_summary(
                summary,
                paths,
                stamp=slice_.stamp,
                next_command=resume,
                width=console.page_width(),
                has_colour=console.has_colour,
            )
        )
    view = view_of_slice(summary, reduced.manifest, reduced.metrics, paths)
    show_in_job(view, options.output.step_summary, console.write_line)
    return {
        "ok": exit_code == EXIT_GOOD,
        "stamp": slice_.stamp,
        "artifacts": paths,
        "summary": summary,
        "exit_code": exit_code,
        "reasons": summary["verdict"]["reasons"],
    }


def end_unwritten(slice_: Slice, trouble: str) -> JsonObject:
    """The end of a slice whose perf files could not be written: what had finished stays in the
    journal.
    """
    slice_.journal.restore()
    resume = resume_command(slice_.options, slice_.stamp)
    kept = f"{slice_.journal.rows} of {slice_.plan.episodes} episodes are kept"
    slice_.console.write_line(f"perf_harness: {trouble}")
    slice_.console.write_line(f"{kept}; to finish: {resume}")
    return {
        "ok": False,
        "exit_code": EXIT_UNWRITTEN,
        "error": trouble,
        "stamp": slice_.stamp,
        "resume": resume,
    }
