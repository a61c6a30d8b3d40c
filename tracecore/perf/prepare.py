"""Every question that is asked before the first episode."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from tracecore.command_line.options import require_packages
from tracecore.confinement import doctor
from tracecore.confinement.layers import State
from tracecore.errors import OptionError
from tracecore.perf.host import provenance
from tracecore.perf.host.facts import host_block, machine_class
from tracecore.perf.host.samples import Samples
from tracecore.perf.judge.gate import Gate, check_selectors, read_gate
from tracecore.perf.local_engine import LocalEngine
from tracecore.perf.resume import drop_lost, find_stamp, open_journal, where_artifacts_lie
from tracecore.perf.show.terminal import Console
from tracecore.perf.slice.commands import REDACTION_VARIABLE, resume_command
from tracecore.perf.slice.engine import Engine
from tracecore.perf.slice.interrupt import Interruption, watch_for_interruption
from tracecore.perf.slice.journal import Journal
from tracecore.perf.slice.models import reach_models
from tracecore.perf.slice.options import RunOptions, SliceOptions
from tracecore.perf.slice.plan import Finders, Plan
from tracecore.perf.slice.plan import plan as plan_rows
from tracecore.perf.slice.scenario import DEFAULT_SCENARIO, ScenarioRow, read_scenario
from tracecore.record import record, replace
from tracecore.records import GatewayAddress, Settings, TaskSource
from tracecore.runtime.task.catalog import find_agent, find_task
from tracecore.runtime.task.task import compile_task
from tracecore.runtime.trace import REDACTIONS

if TYPE_CHECKING:
    from tracecore.perf.compare.baseline import Baseline

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
    confinement: Callable[[], State]  # being tried out, and asked when all is done
    interruption: Interruption
    console: Console


@contextlib.contextmanager
def prepare(options: SliceOptions) -> Iterator[Slice]:
    """Ask every question before the first episode; the slice is there until the end of the ``with``
    block.

    Raises:
        InputError: Something that was given is wrong.
        OutputError: A folder cannot be written into.
        KeyboardInterrupt: A signal came while a cluster was waited for.
    """
    check_together(options)
    with contextlib.ExitStack() as around:
        interruption = around.enter_context(watch_for_interruption())
        console = Console(hurry_fd=interruption.wake_fd)
        if options.output.report:
            require_packages("--report", "matplotlib")
        options = find_stamp(options)
        run = options.run
        gate = read_gate(options.judge, episodes=run.episodes, keep_runs=run.keep_runs)
        engine = around.enter_context(find_engine(options, interruption, console))
        plan = plan_slice(options.run, check_here=options.cluster.address is None)
        gateway = around.enter_context(find_gateway(options, plan))
        plan = replace(plan, settings=replace(plan.settings, gateway=gateway))
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
        if lost := drop_lost(journal, where_artifacts_lie(options)):
            console.write_line(f"perf_harness: {lost}; these episodes run again")
        if trouble := provenance.git_trouble():
            console.write_line(f"perf_harness: {COMMIT_UNKNOWN}: {trouble}")
        interruption.last_words = (
            f"\nperf_harness: ended at once; to finish it: {resume_command(options, stamp)}\n"
        )
        around.enter_context(journal)
        # Tried while the workers start: what agents of this slice are kept from.
        probe = doctor.begin_probe(run.limits, run.method, thorough=False)
        confinement = around.enter_context(probe)
        samples = None
        if interval_s := options.output.sample_interval_s:
            samples = around.enter_context(
                contextlib.closing(
                    Samples(options.output.output_dir, interval_s, already_done=journal.rows)
                )
            )
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
        )


def check_together(options: SliceOptions) -> None:
    """Refuse options that do not go together, or not alone.

    Raises:
        OptionError: The first of them.
    """
    run, cluster, judge = options.run, options.cluster, options.judge
    either = "one of the two: it, or"
    wrong = {
        "--repeat": (run.repeat > 1 and run.resume, str(run.repeat), f"{either} --resume"),
        "--artifacts": (
            cluster.artifacts and not cluster.address,
            cluster.artifacts,
            "--cluster with it: on this machine they lie in --runs-dir",
        ),
        "--models": (run.models and cluster.address, run.models, "no --cluster with it"),
        "--seed": (
            run.seed is not None and not run.task and not run.agent,
            str(run.seed),
            "--task and --agent with it",
        ),
        "--task": (run.task and not run.agent, run.task, "--agent with it"),
        "--agent": (run.agent and not run.task, run.agent, "--task with it"),
        "--scenario": (run.task and run.scenario, run.scenario, f"{either} --task"),
        # a gate that never closes otherwise
        "--require-conclusive": (
            judge.require_conclusive and not judge.baseline,
            "no --baseline",
            "one with it: without, nothing is compared",
        ),
    }
    for flag, (is_wrong, found, expected) in wrong.items():
        if is_wrong:
            raise OptionError(flag, "", found, expected)


def find_engine(
    options: SliceOptions, interruption: Interruption, console: Console
) -> "contextlib.AbstractContextManager[Engine]":
    """What the slice runs on: this machine, or a cluster that has been asked and checked.

    Raises:
        OptionError: The cluster cannot be used.
        KeyboardInterrupt: A signal came before the cluster was ready.
    """
    if options.cluster.address is None:
        engine = LocalEngine(options.run, options.output.output_dir, interruption)
        return contextlib.nullcontext(engine)
    from tracecore.perf.cluster.engine import ClusterEngine  # noqa: PLC0415

    write = console.write_line
    return contextlib.closing(ClusterEngine(options.run, options.cluster, interruption, write))


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
    rows = find_rows(options)
    tasks_dirs = tuple(map(os.path.abspath, options.tasks_dirs))
    return plan_rows(
        rows,
        options.episodes,
        settings,
        Finders(find_agent, functools.partial(find_sound_task, tasks_dirs=tasks_dirs)),
        slice_id=os.urandom(8).hex(),
        scenario=options.scenario or ("--task" if options.task else "the default scenario"),
    )


def find_rows(options: RunOptions) -> tuple[ScenarioRow, ...]:
    """The scenario: a file, one row by its agent and task, or the default.

    Raises:
        ScenarioError: The file is wrong.
    """
    if options.agent and options.task:
        return (ScenarioRow(options.agent, options.task, options.seed or 0),)
    return read_scenario(options.scenario) if options.scenario else DEFAULT_SCENARIO


def find_gateway(
    options: SliceOptions, plan: Plan
) -> "contextlib.AbstractContextManager[GatewayAddress | None]":
    """The gateway to what the agents of a plan may reach; of nothing where that is nothing.

    Raises:
        InputError: The file of models, or an option that goes with it, is wrong.
        EngineError: The gateway could not be started.
    """
    reaches_hosts = any(allow.network for allow in plan.allowances)
    if options.cluster.address and reaches_hosts:
        raise OptionError("--cluster", "", options.cluster.address, "no allow.network with it")
    return reach_models(options.run, reaches_hosts=reaches_hosts)


def find_sound_task(ref: str, tasks_dirs: Sequence[str] = ()) -> TaskSource:
    """The task that ``ref`` means, all of which compiles and has the functions that its manifest
    names.

    Raises:
        TaskError: There is none, or the file and line that are wrong.
    """
    task = find_task(ref, tasks_dirs)
    compile_task(task)
    return task


def find_baseline(options: SliceOptions, plan: Plan, engine: Engine) -> "Baseline | None":
    """The archived runs that this slice is compared with at its end; None where none are given.

    Raises:
        InputError: One cannot be read, or this slice would not be comparable with them.
    """
    judge = options.judge
    if not judge.baseline:
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
    return read_baseline(judge.baseline, planned, judge)


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
