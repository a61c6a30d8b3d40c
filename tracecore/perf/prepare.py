"""Every question that is asked before the first episode."""

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from tracecore import __version__
from tracecore.command_line.extras import require_packages
from tracecore.confinement import doctor
from tracecore.errors import InputError, OptionError, OutputError
from tracecore.perf.documents.files import check_writable, reserve_stamp
from tracecore.perf.host import provenance
from tracecore.perf.host.facts import host_block, machine_class
from tracecore.perf.host.samples import Samples
from tracecore.perf.judge.gate import Gate, check_selectors, read_gate
from tracecore.perf.local_engine import LocalEngine
from tracecore.perf.show.console import Console
from tracecore.perf.slice.commands import REDACTION_VARIABLE, resume_command
from tracecore.perf.slice.engine import Engine
from tracecore.perf.slice.interrupt import Interruption, watch_for_interruption
from tracecore.perf.slice.journal import Journal, create_journal, journal_path, resume_journal
from tracecore.perf.slice.models import reach_models
from tracecore.perf.slice.options import JudgeOptions, OutputOptions, RunOptions, SliceOptions
from tracecore.perf.slice.plan import Plan
from tracecore.perf.slice.plan import plan as plan_rows
from tracecore.perf.slice.scenario import DEFAULT_SCENARIO, read_scenario
from tracecore.record import as_dict, record, replace
from tracecore.records import JsonObject, Settings, TaskSource
from tracecore.runtime.task.catalog import find_agent, find_task
from tracecore.runtime.task.task import check_task
from tracecore.runtime.trace import REDACTIONS

if TYPE_CHECKING:
    from tracecore.perf.compare.baseline import Baseline
    from tracecore.perf.compare.comparison import CompareOptions


COMMIT_UNKNOWN: Final = "the commit is not known, and artifact hashes differ from those with one"


@record
class Slice:
    """A slice of which every question has been answered, and nothing has run."""

    options: SliceOptions
    stamp: str
    plan: Plan
    gate: Gate
    baseline: "Baseline | None"  # archived runs to compare with
    engine: Engine
    journal: Journal
    samples: Samples | None
    confinement: doctor.Probe  # begun, and asked when all is done
    interruption: Interruption
    console: Console
    already_done: int  # episodes that had finished before, of a resumed slice


@contextlib.contextmanager
def prepare(options: SliceOptions) -> Iterator[Slice]:
    """Ask every question before the first episode; the slice is there until the end of the ``with``
    block.

    Raises:
        InputError: Something that was given is wrong.
        OutputError: A folder cannot be written into.
        KeyboardInterrupt: A signal came while a cluster was waited for.
    """
    with contextlib.ExitStack() as around:
        interruption = around.enter_context(watch_for_interruption())
        console = Console(hurry_fd=interruption.wake_fd)
        check_extras(options.output)
        gate = find_gate(options)
        engine = around.enter_context(find_engine(options, interruption, console))
        plan = plan_slice(options.run, check_here=options.cluster.address is None)
        plan = replace(plan, settings=around.enter_context(find_gateway(options, plan)))
        check_selectors(
            gate.thresholds,
            [
                (agent.ref, task.ref, row.seed)
                for row, (agent, task) in zip(plan.rows, plan.sources, strict=True)
            ],
            plan.episodes,
        )
        baseline = find_baseline(options, plan, engine)
        stamp, plan, journal = open_journal(options, plan)
        if trouble := provenance.git_trouble():
            console.say(f"perf_harness: {COMMIT_UNKNOWN}: {trouble}")
        interruption.last_words = (
            f"\nperf_harness: ended at once; to finish it: {resume_command(options, stamp)}\n"
        )
        around.enter_context(journal)
        # Tried while the workers start: what agents of this slice are kept from.
        run = options.run
        confinement = around.enter_context(doctor.Probe(run.limits, run.method, thorough=False))
        samples = around.enter_context(take_samples(options.output, journal))
        yield Slice(
            options=options,
            stamp=stamp,
            plan=plan,
            gate=gate,
            baseline=baseline,
            engine=engine,
            journal=journal,
            samples=samples,
            confinement=confinement,
            interruption=interruption,
            console=console,
            already_done=journal.rows,
        )


def find_engine(
    options: SliceOptions, interruption: Interruption, console: Console
) -> "contextlib.AbstractContextManager[Engine]":
    """What the slice runs on: this machine, or a cluster that has been asked and checked.

    Raises:
        OptionError: The cluster cannot be used, or another option cannot be used with it.
        KeyboardInterrupt: A signal came before the cluster was ready.
    """
    cluster = options.cluster
    if cluster.address is None:
        if cluster.artifacts is not None:
            expected = "--cluster with it: on this machine they lie in --runs-dir"
            raise OptionError("--artifacts", "", cluster.artifacts, expected)
        engine = LocalEngine(options.run, options.output.output_dir, interruption)
        return contextlib.nullcontext(engine)
    from tracecore.perf.cluster.engine import use_cluster  # noqa: PLC0415

    return use_cluster(options.run, cluster, interruption, console.say)


def check_extras(options: OutputOptions) -> None:
    """Refuse what cannot be written here.

    Raises:
        OptionError: A package that a report needs is missing.
    """
    if options.report:
        require_packages("--report", "matplotlib")


def find_gate(options: SliceOptions) -> Gate:
    """What the slice is held against.

    Raises:
        ThresholdError: A threshold is wrong.
    """
    judge = options.judge
    return read_gate(
        episodes=options.run.episodes,
        builtin=judge.gate,
        off=judge.no_gate,
        files=judge.thresholds,
        expressions=judge.threshold,
        verify=judge.verify_determinism,
        keep_runs=options.run.keep_runs,
        work=judge.work,
    )


def plan_slice(options: RunOptions, *, check_here: bool) -> Plan:
    """The episodes of a slice, each with its agent and task.

    Args:
        options: What is run.
        check_here: Whether episodes run on this machine, whose confinement then has to suffice.

    Raises:
        InputError: A scenario row, an agent, a task or an option is wrong.
    """
    settings = read_settings(options)
    if check_here:
        check_confinement(options)
    rows = DEFAULT_SCENARIO if options.scenario is None else read_scenario(options.scenario)
    tasks_dirs = tuple(map(os.path.abspath, options.tasks_dirs))
    return plan_rows(
        rows,
        options.episodes,
        settings,
        find_agent,
        functools.partial(find_sound_task, tasks_dirs=tasks_dirs),
        slice_id=os.urandom(8).hex(),
        scenario=options.scenario or "the default scenario",
    )


@contextlib.contextmanager
def find_gateway(options: SliceOptions, plan: Plan) -> Iterator[Settings]:
    """The settings of a plan, with the gateway to what its agents may reach.

    Raises:
        InputError: The file of models, or an option that goes with it, is wrong.
        EngineError: The gateway could not be started.
    """
    reaches_hosts = any(allow.network for allow in plan.allowances)
    if options.cluster.address and (options.run.models or reaches_hosts):
        raise OptionError("--cluster", "", "--models or allow.network", "one of the two")
    with reach_models(options.run, reaches_hosts=reaches_hosts) as gateway:
        yield replace(plan.settings, gateway=gateway)


def open_journal(options: SliceOptions, plan: Plan) -> tuple[str, Plan, Journal]:
    """The stamp of the slice and its journal, new or begun; and the plan, which goes by the slice
    that is finished where one is.

    Raises:
        InputError: There is no such slice to finish, or it is another.
        OutputError: A folder cannot be written into.
    """
    run, folder = options.run, options.output.output_dir
    fsync: Any = run.fsync
    check_writable(folder, run.runs_dir)
    if run.resume is not None:
        path = journal_path(folder, run.resume)
        journal = reopen_journal(path, plan, fsync)
        plan = replace(plan, slice_id=journal.header["slice_id"])
        check_rows(journal, plan)
        return run.resume, plan, journal
    stamp = reserve_stamp(folder)
    header = {"slice_id": plan.slice_id, **what_decides(plan)}
    path = journal_path(folder, stamp)
    try:
        return stamp, plan, create_journal(path, header, run.episodes, fsync=fsync)
    except OutputError:
        with contextlib.suppress(OSError):
            os.unlink(path)  # nothing has run: the stamp is free again
        raise


def take_samples(
    options: OutputOptions, journal: Journal
) -> "contextlib.AbstractContextManager[Samples | None]":
    """The samples of this slice, begun now; of nothing where none are wanted."""
    if not options.sample_interval_s:
        return contextlib.nullcontext()
    return Samples(options.output_dir, options.sample_interval_s, already_done=journal.rows)


def find_sound_task(ref: str, tasks_dirs: Sequence[str] = ()) -> TaskSource:
    """The task that ``ref`` means, all of which compiles and has the functions that its manifest
    names.

    Raises:
        TaskError: There is none, or the file and line that are wrong.
    """
    task = find_task(ref, tasks_dirs)
    check_task(task)
    return task


def find_baseline(options: SliceOptions, plan: Plan, engine: Engine) -> "Baseline | None":
    """The archived runs that this slice is compared with at its end; None where none are given.

    Raises:
        InputError: One cannot be read, or this slice would not be comparable with them; or an
            answer is required of a comparison that is not made.
    """
    judge = options.judge
    if not judge.baseline:
        # A gate that never closes otherwise.
        if judge.require_conclusive:
            expected = "one with it: without, nothing is compared"
            raise OptionError("--require-conclusive", "", "no --baseline", expected)
        return None
    from tracecore.perf.compare.baseline import read_baseline  # noqa: PLC0415

    host = {**host_block(options.run.method, provenance.git_state()), **engine.host()}
    planned = {
        "episodes": options.run.episodes,
        "workers": engine.slots,
        "strict_spec": options.run.strict_spec,
        "scenario": plan.scenario_document(),
        "host": host,
        "machine_class": engine.machine_class() or machine_class(host),
    }
    return read_baseline(judge.baseline, planned, compare_options(judge))


def compare_options(judge: JudgeOptions) -> "CompareOptions":
    """How strict a comparison is."""
    from tracecore.perf.compare.comparison import CompareOptions  # noqa: PLC0415

    return CompareOptions(
        gate_on=judge.gate_on,
        compare_anyway=judge.compare_anyway,
        require_conclusive=judge.require_conclusive,
        accept_changes=judge.accept_changes,
    )


def read_settings(options: RunOptions) -> Settings:
    """What all episodes share.

    Raises:
        OptionError: The redaction variable holds none of its words.
    """
    redaction = os.environ.get(REDACTION_VARIABLE, "off") or "off"
    if redaction not in REDACTIONS:
        raise OptionError(REDACTION_VARIABLE, "", redaction, " or ".join(REDACTIONS))
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


def check_confinement(options: RunOptions) -> None:
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


def what_decides(plan: Plan) -> JsonObject:
    """Everything that an episode's outcome depends on: two parts of one slice must agree in it."""
    settings = plan.settings
    return {
        "tracecore": __version__,
        "git_sha": settings.git_sha,
        "episodes": plan.episodes,
        "scenario": plan.scenario_document(),
        "timeout_s": settings.timeout_s,
        "strict_spec": settings.strict_spec,
        "redaction": settings.redaction,
        "keep_runs": settings.keep_runs,
        "limits": as_dict(settings.limits),
    }


def reopen_journal(path: str, plan: Plan, fsync: Any) -> Journal:
    """The journal of the slice to resume.

    Raises:
        InputError: There is none, or it was begun with something else than is given now; the field
            is named.
    """
    journal, _recovery = resume_journal(path, fsync=fsync)
    now = what_decides(plan)
    for name, value in now.items():
        if journal.header.get(name) != value:
            journal.close(sync=False)
            raise InputError(path, *_first_difference(name, journal.header.get(name), value))
    return journal


def check_rows(journal: Journal, plan: Plan) -> None:
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
                if row.run_id != plan.job(row.episode_index).run_id
            ),
            None,
        )
    except BaseException:
        journal.close(sync=False)
        raise
    if foreign:
        journal.close(sync=False)
        expected = f"{plan.job(foreign.episode_index).run_id!r}, as this slice would have given"
        raise InputError(
            journal.path,
            f"row of episode {foreign.episode_index + 1}: run_id",
            foreign.run_id,
            expected,
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
