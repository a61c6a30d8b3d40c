"""The working tree against another commit, on this host, now: whether anything got slower or
behaves differently.

::

    warm-up     base, work                      a few episodes each: compiled files
    screen      base, work, work, base          behaviour, work, and whether any time moved
    rounds      base, work | work, base | …     only if one did; both stages must agree
    more        base, work | work, base | …     only if rounds found by time alone what no count
                                                of work explains; all stages must agree

Each run is a slice of its own, run by its own side's ``scripts/perf_harness.py``, with folders of
its own. Runs in turns share what the host does, and each gives one number per scenario row and
metric.
"""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Final

from tracecore import clock
from tracecore.exit_codes import EXIT_INTERRUPTED
from tracecore.files import write_atomic
from tracecore.perf.compare.comparison import Turns, compare_runs, exit_code_of
from tracecore.perf.compare.runs import RunRecord, Sides
from tracecore.perf.compare.samples import OVERALL, power_of, rounds_needed, tests_of
from tracecore.perf.compare.timing import FLOORS, Decision, Subject, withdrawn
from tracecore.perf.compare.wording import share_text
from tracecore.perf.compare.worktrees import Interrupted, Side, SideRunner, two_sides
from tracecore.perf.documents.files import check_writable
from tracecore.perf.host.provenance import ROOT
from tracecore.perf.slice.interrupt import watch_for_interruption
from tracecore.perf.slice.options import JudgeOptions
from tracecore.record import field, record, replace
from tracecore.records import JsonObject
from tracecore.units import counted

WARM_UP_EPISODES: Final = 8
SCREEN_CHANCE: Final = 0.2  # one-sided, by prediction: identical runs go on as often, at the most
SCREEN_DETECTS: Final = 1.0
DOCUMENT: Final = "comparison.json"
NULL_FIRED: Final = "base differs from base: a noisy host, on which times have no verdict"


@record
class AbOptions:
    """What was asked for; see ``perf_harness.py ab --help``."""

    base: str
    rounds: int = 5
    episodes: int = 384
    workers: int | None = None  # as many as there are usable cores
    timeout_s: float = 180.0
    scenario: str | None = None
    tasks_dirs: tuple[str, ...] = ()
    null_control: bool = False
    screen: bool = True
    # where the perf files of all runs and the comparison stay, in a folder of their own
    output_dir: str | None = None
    judge: JudgeOptions = field(default_factory=JudgeOptions)


def run_ab(options: AbOptions, write: Callable[[str], None]) -> JsonObject:
    """Run both sides, base and this clone's working tree, in turns and compare them; gives the
    document for stdout.

    Args:
        options: What is compared, and how thoroughly.
        write: Takes a line for people.

    Raises:
        InputError: There is no such commit, or one side cannot run what was asked for.
        EngineError: A run could not be finished.
        OutputError: A file could not be written.
    """
    begun_s = clock.monotonic_s()
    kept = make_folder(options.output_dir) if options.output_dir else None
    try:
        with (
            watch_for_interruption() as interruption,
            two_sides(ROOT, options.base) as (base, work, scratch),
        ):
            runner = SideRunner(run_words(options), scratch, kept, interruption, write)
            document = compare_sides(options, runner, base, work)
    except Interrupted:
        about = {"ok": False, "exit_code": EXIT_INTERRUPTED}
        return {**about, "error": "interrupted: no verdict"}
    exit_code = exit_code_of(document["comparison"], options.judge)
    document = {
        "ok": exit_code == 0,
        "exit_code": exit_code,
        **document,
        "elapsed_s": clock.monotonic_s() - begun_s,
    }
    if kept:
        document["folder"] = kept
        write_atomic(os.path.join(kept, DOCUMENT), json.dumps(document, indent=2).encode("ascii"))
    return document


def run_words(options: AbOptions) -> list[str]:
    """The options of every run: those of the contract alone, since the other side may be an older
    harness.
    """
    workers = options.workers or len(os.sched_getaffinity(0))
    words = ["--workers", str(workers), "--timeout", repr(options.timeout_s)]
    words += [] if options.scenario is None else ["--scenario", options.scenario]
    return [*words, *(word for folder in options.tasks_dirs for word in ("--tasks-dir", folder))]


def make_folder(output_dir: str) -> str:
    """A new folder there for this comparison.

    Raises:
        OptionError: It cannot be written.
    """
    check_writable(output_dir)
    second = int(time.time())
    while True:
        folder = os.path.join(os.path.abspath(output_dir), f"ab-{clock.utc_stamp(second)}")
        try:
            os.mkdir(folder)
        except FileExistsError:
            second += 1
        else:
            return folder


def compare_sides(options: AbOptions, runner: SideRunner, base: Side, work: Side) -> JsonObject:
    """All stages; the document without its exit code."""
    episodes = min(WARM_UP_EPISODES, options.episodes)
    warm = [runner.run(side, episodes, "warm-up", count_work=True) for side in (base, work)]
    # Not the rows of the warm-up: it is too short for a long scenario.
    rows = min(options.episodes, len(warm[1].manifest["scenario"]))
    runner.write(power_text(options.rounds, tests_of(rows, options.judge.gate_on)))
    head: JsonObject = {
        "base": {"ref": options.base, "git_sha": base.sha},
        "new": {"git_sha": work.sha, "dirty": warm[1].about()["dirty"]},
        "rounds": options.rounds,
        "episodes": options.episodes,
        "null_control": None,
    }
    turns, screen, stage = Turns(), None, "rounds"
    if options.screen:
        seen = run_screen(options, runner, base, work)
        screen = compare_runs(*seen, options.judge, turns)
        moved = subjects_that_moved(screen)
        if not moved:
            settled = compare_runs(*seen, options.judge, Turns(revise=settle))
            return _document(head, "screen", None, settled)
        runner.write(f"{'; '.join(moved)}: running {counted(options.rounds, 'round')}")
        turns = Turns(screen=ratios_in(screen), seen=seen)
    old, new, null = run_rounds(options, runner, base, work)
    document = compare_runs(old, new, options.judge, turns)
    if is_found_by_time_alone(document):
        runner.write(
            f"{document['answer']}, which no count of work explains: running"
            f" {counted(options.rounds, 'round')} more"
        )
        seen = [*turns.seen[0], *old], [*turns.seen[1], *new]
        turns = Turns(screen=ratios_in(document), seen=seen)
        stage, (old, new, more) = "confirmation", run_rounds(options, runner, base, work)
        null += more
        document = compare_runs(old, new, options.judge, turns)
    if options.null_control:
        head["null_control"] = control = judge_null(old, null, options.judge)
        if control["fired"]:
            document = compare_runs(old, new, options.judge, replace(turns, revise=give_no_answer))
            document["reasons"] = [*document["reasons"], *control["reasons"], NULL_FIRED]
    return _document(head, stage, screen, document)


def _document(
    head: JsonObject, stage: str, screen: JsonObject | None, comparison: JsonObject
) -> JsonObject:
    first = {name: comparison[name] for name in ("verdict", "headline", "answer", "reasons")}
    return {**first, **head, "stage": stage, "screen": screen, "comparison": comparison}


def is_found_by_time_alone(document: JsonObject) -> bool:
    """Whether shape or time show a change where neither behaviour nor work got worse. Five rounds
    of identical code differ that much once in some hundred comparisons; ten never did.
    """
    worse = {leg["leg"] for leg in document["legs"] if leg["verdict"] == "regressed"}
    return document["verdict"] in {"regressed", "improved"} and not worse & {"behaviour", "work"}


def power_text(rounds: int, tests: int) -> str:
    """Whether so many rounds can show anything in so many tests, as a sentence."""
    if not tests:
        return "nothing about time can fail this comparison: no metric gates"
    asked = f"{rounds} runs against {rounds}"
    if power_of(rounds, rounds, tests).is_enough:
        return f"{asked}: enough to show a change in each of {tests} tests"
    return (
        f"underpowered: {asked} cannot reach significance in {tests} tests by ranks;"
        f" {rounds_needed(tests)} rounds would, and prediction intervals stand in"
    )


def run_screen(options: AbOptions, runner: SideRunner, base: Side, work: Side) -> Sides:
    """Base, work, work, base; of each side the first run counts work."""

    def run(side: Side, number: int) -> RunRecord:
        return runner.run(side, options.episodes, "screen", count_work=number == 0)

    old, new = run_in_turns(run, (base, work), 2)
    return old, new


def run_rounds(
    options: AbOptions, runner: SideRunner, base: Side, work: Side
) -> tuple[list[RunRecord], list[RunRecord], list[RunRecord]]:
    """Base, work and, if asked for, base once more."""

    def run(side: Side, number: int) -> RunRecord:
        return runner.run(side, options.episodes, f"round {number + 1} of {options.rounds}")

    sides = (base, work, base) if options.null_control else (base, work)
    old, new, *null = run_in_turns(run, sides, options.rounds)
    return old, new, null[0] if null else []


def run_in_turns(
    run: Callable[[Side, int], RunRecord], sides: Sequence[Side], rounds: int
) -> list[list[RunRecord]]:
    """The runs of each side, in turns that mirror each other from round to round."""
    turns: list[tuple[Side, list[RunRecord]]] = [(side, []) for side in sides]
    for number in range(rounds):
        for side, runs in turns if number % 2 == 0 else reversed(turns):
            runs.append(run(side, number))
    return [runs for _, runs in turns]


def ratios_in(document: JsonObject) -> dict[Subject, float]:
    """By scenario row and metric, how much more the new side took."""
    return {(one["row"], one["metric"]): one["ratio"] for one in document.get("decisions", ())}


def subjects_that_moved(document: JsonObject) -> list[str]:
    """What a screen found to look into: gating metrics that moved, either way, by more than their
    floor and than runs of one side differ among themselves. The floor is the lower one, and the
    upper one where work was counted and did not change: Python executes the same then.

    A screen so noisy that twice as much would not have shown is looked into as well.
    """
    changed = {one["row"] for one in document["work"]}
    counted_rows = {row["row"] for row in document["rows"] if row["is_counted"]}
    same = counted_rows - changed
    if same == {row["row"] for row in document["rows"]}:
        same.add(OVERALL)
    moved = []
    for one in document["decisions"]:
        floor = FLOORS[one["metric"]]
        share = floor.fail if one["row"] in same else floor.warn
        if (
            one["gates"]
            and one["p"] < SCREEN_CHANCE
            and abs(math.log(one["ratio"])) > math.log1p(share)
            and abs(one["new"] - one["base"]) > floor.absolute
        ):
            moved.append(f"{one['row']} {one['metric']} moved by {share_text(one['ratio'])}")
    detects = max((leg["detects"] or 0.0 for leg in document["legs"]), default=0.0)
    if not moved and detects > SCREEN_DETECTS:
        return [f"too noisy a screen, which would have shown no less than {detects:+.0%}"]
    return moved


def settle(decision: Decision) -> Decision:
    """What a screen in which no time moved makes of its decisions: its answer about time."""
    if not decision.gates:
        return decision
    if abs(math.log(decision.ratio)) <= math.log1p(decision.floor):
        why = "the screen moved by less than its floor, so that no rounds were run"
        return replace(decision, verdict="unchanged", warns=False, why=why)
    why = "the screen moved by no more than runs of one side differ by; no rounds were run"
    return replace(decision, verdict="no_gross_change", warns=False, why=why)


def give_no_answer(decision: Decision) -> Decision:
    """What a null control that fired makes of decisions: the host was too noisy for any."""
    return withdrawn(decision, NULL_FIRED)


def judge_null(old: list[RunRecord], null: list[RunRecord], judge: JudgeOptions) -> JsonObject:
    """Base against base: whether the host makes a difference where there is none."""
    document = compare_runs(old, null, judge, Turns())
    reasons = [
        f"base against base: {one['row']} {one['metric']} {one['verdict']} by {one['ratio']:.3f}"
        for one in document["decisions"]
        if one["gates"] and one["verdict"] in {"regressed", "improved"}
    ]
    return {"fired": bool(reasons), "reasons": reasons, "decisions": document["decisions"]}
