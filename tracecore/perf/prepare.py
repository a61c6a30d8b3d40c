"""Every question that is asked before the first episode."""

import contextlib
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracecore import __version__, processes, provenance
from tracecore.confinement import doctor
from tracecore.errors import InputError, OptionError, OutputError
from tracecore.perf.documents.files import check_writable, reserve_stamp
from tracecore.perf.host.facts import host_block, machine_class
from tracecore.perf.judge.gate import Gate, read_gate
from tracecore.perf.show.console import Console
from tracecore.perf.show.exports import FORMATS
from tracecore.perf.slice.commands import REDACTION_VARIABLE
from tracecore.perf.slice.interrupt import Interruption
from tracecore.perf.slice.journal import Journal, create_journal, journal_path, resume_journal
from tracecore.perf.slice.options import SliceOptions
from tracecore.perf.slice.scenario import DEFAULT_SCENARIO, Plan, plan, read_scenario
from tracecore.record import as_dict, replace
from tracecore.records import JsonObject, Settings, TaskSource
from tracecore.runtime.task.catalog import find_agent, find_task
from tracecore.runtime.task.task import check_task
from tracecore.runtime.trace import REDACTIONS

if TYPE_CHECKING:
    from tracecore.perf.cluster.engine import ClusterEngine
    from tracecore.perf.compare.baseline import Baseline


def find_cluster(
    options: SliceOptions, interruption: Interruption, console: Console
) -> "contextlib.AbstractContextManager[ClusterEngine | None]":
    """The cluster to run on, asked and checked; of nothing where the slice runs on this machine.

    Raises:
        OptionError: It cannot be used, or another option cannot be used with it.
        KeyboardInterrupt: Somebody did not want to wait for it.
    """
    if options.cluster is None:
        if options.artifacts is not None:
            raise OptionError(
                "--artifacts",
                "",
                options.artifacts,
                "--cluster with it: on this machine they lie in --runs-dir",
            )
        return contextlib.nullcontext()
    from tracecore.perf.cluster.engine import use_cluster  # noqa: PLC0415

    return use_cluster(options, interruption, console.say)


def prepare(
    options: SliceOptions, cluster: "ClusterEngine | None" = None
) -> tuple[str, Plan, Journal, "Baseline | None"]:
    """Ask every question before the first episode; gives the stamp, the plan, the open journal and
    what to compare with.

    Raises:
        InputError: Something that was given is wrong.
    """
    if options.report:
        from tracecore.perf.show.report import check_extra  # noqa: PLC0415

        check_extra("--report")
    settings = read_settings(options)
    if cluster is None:  # which asks each of its nodes
        check_confinement(options)
    rows = DEFAULT_SCENARIO if options.scenario is None else read_scenario(options.scenario)
    the_plan = plan(
        rows,
        options.episodes,
        settings,
        find_agent,
        functools.partial(
            find_sound_task, tasks_dirs=tuple(map(os.path.abspath, options.tasks_dirs))
        ),
        slice_id=os.urandom(8).hex(),
        scenario=options.scenario or "the default scenario",
    )
    baseline = prepare_baseline(options, the_plan, cluster) if options.baseline else None
    check_writable(options.output_dir, options.runs_dir)
    if options.resume is None:
        stamp = reserve_stamp(options.output_dir)
        header = {"slice_id": the_plan.slice_id, **what_decides(the_plan)}
        path = journal_path(options.output_dir, stamp)
        try:
            return (
                stamp,
                the_plan,
                create_journal(path, header, options.episodes, fsync=options.fsync),
                baseline,
            )
        except OutputError:
            with contextlib.suppress(OSError):
                os.unlink(path)  # nothing has run: the stamp is free again
            raise
    journal = reopen_journal(options, the_plan)
    the_plan = replace(the_plan, slice_id=journal.header["slice_id"])
    check_rows(journal, the_plan)
    return options.resume, the_plan, journal, baseline


def find_sound_task(ref: str, tasks_dirs: Sequence[str] = ()) -> TaskSource:
    """The task that ``ref`` means, all of which compiles and has the functions that its manifest
    names.

    Raises:
        TaskError: There is none, or the file and line that are wrong.
    """
    task = find_task(ref, tasks_dirs)
    check_task(task)
    return task


def prepare_baseline(
    options: SliceOptions, the_plan: Plan, cluster: "ClusterEngine | None"
) -> "Baseline":
    """The archived runs that this slice is compared with at its end.

    Raises:
        InputError: One cannot be read, or this slice would not be comparable with them.
    """
    from tracecore.perf.compare.baseline import read_baseline  # noqa: PLC0415
    from tracecore.perf.compare.comparison import CompareOptions  # noqa: PLC0415

    host = host_block(options.method, provenance.git_state())
    planned = {
        "episodes": options.episodes,
        "workers": options.workers,
        "strict_spec": options.strict_spec,
        "scenario": the_plan.scenario_document(),
        "host": {**host, **cluster.host()} if cluster else host,
        "machine_class": cluster.machine_class() if cluster else machine_class(host),
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
        InputError: A threshold or a format is wrong, or it is said how to compare and not with
            what.
    """
    for name in options.emit:
        if name not in FORMATS:
            raise OptionError("--emit", "", name, " or ".join(FORMATS))
    # An answer that is required, of a comparison that is not made, would be a gate that never
    # closes.
    if options.require_conclusive and not options.baseline:
        raise OptionError(
            "--require-conclusive", "", "no --baseline", "one with it: without, nothing is compared"
        )
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
        OptionError: The redaction variable holds none of its words, or fork is asked for where
            there is none.
    """
    redaction = os.environ.get(REDACTION_VARIABLE, "off") or "off"
    if redaction not in REDACTIONS:
        raise OptionError(REDACTION_VARIABLE, "", redaction, " or ".join(REDACTIONS))
    if options.start_method == processes.FORK and processes.default_method() != processes.FORK:
        raise OptionError(
            "--start-method", "", options.start_method, "spawn or auto on this platform"
        )
    return Settings(
        runs_dir=os.path.abspath(options.runs_dir),
        timeout_s=options.timeout_s,
        strict_spec=options.strict_spec,
        redaction=redaction,
        git_sha=provenance.git_state()["git_sha"],
        keep_runs=options.keep_runs,
        fsync=options.fsync == "full",
        limits=options.limits,
    )


def check_confinement(options: SliceOptions) -> None:
    """Refuse to go on without a layer where every one is required.

    Raises:
        OptionError: One is not in force; it is named, and why.
    """
    if options.confinement != "require":
        return
    if missing := doctor.missing(doctor.probe(options.limits, options.method)):
        raise OptionError(
            "--confinement",
            "",
            "require",
            f"auto or off where a layer is missing: {'; '.join(missing)}",
        )


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
        InputError: There is none, or it was begun with something else than is given now; the field
            is named.
    """
    path = journal_path(options.output_dir, options.resume or "")
    journal, _recovery = resume_journal(path, fsync=options.fsync)
    now = what_decides(the_plan)
    for name, value in now.items():
        if journal.header.get(name) != value:
            journal.close(sync=False)
            raise InputError(path, *_first_difference(name, journal.header.get(name), value))
    return journal


def check_rows(journal: Journal, the_plan: Plan) -> None:
    """Refuse rows that this slice has not written: found at the end only, they would spoil what has
    been run until then.

    Raises:
        InputError: There is one; the journal has been closed.
    """
    try:
        foreign = next(
            (
                row
                for row in journal.rows_in_order()
                if row.run_id != the_plan.job(row.index).run_id
            ),
            None,
        )
    except BaseException:
        journal.close(sync=False)
        raise
    if foreign:
        journal.close(sync=False)
        expected = f"{the_plan.job(foreign.index).run_id!r}, as this slice would have given"
        raise InputError(
            journal.path, f"row of episode {foreign.index + 1}: run_id", foreign.run_id, expected
        )


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
