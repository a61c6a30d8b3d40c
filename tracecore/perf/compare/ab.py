"""The working tree against another commit, on this host, now: whether anything got slower or
behaves differently.

::

    warm-up     base, work                      a few episodes each: compiled files
    screen      base, work, work, base          behaviour, and whether any time moved
    rounds      base, work | work, base | …     only if one did; both stages must agree

Each run is a slice of its own, run by its own side's ``scripts/perf_harness.py``, with folders of
its own. Runs in turns share what the host does, and each gives one number per scenario row and
metric.
"""

import json
import math
import os
import time
from collections.abc import Callable
from typing import Final

from tracecore import clock
from tracecore.errors import one_line
from tracecore.exit_codes import EXIT_INTERRUPTED
from tracecore.files import write_atomic
from tracecore.perf.compare.behaviour import Verdict
from tracecore.perf.compare.comparison import (
    CompareOptions,
    compare_runs,
    exit_code_of,
    gravest,
)
from tracecore.perf.compare.runs import RunRecord, Sides
from tracecore.perf.compare.samples import tests_of
from tracecore.perf.compare.side_runs import Interrupted, SideRunner
from tracecore.perf.compare.timing import FLOORS, Subject, power_of
from tracecore.perf.compare.wording import ONE_SIDED, say_power, tell
from tracecore.perf.compare.worktrees import Side, two_sides
from tracecore.perf.documents.files import check_writable
from tracecore.perf.slice.interrupt import watch_for_interruption
from tracecore.record import field, record, replace
from tracecore.records import JsonObject

WARM_UP_EPISODES: Final = 8
DOCUMENT: Final = "comparison.json"
_CLONE: Final = os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
)


@record
class AbOptions:
    """What the command line says; see ``perf_harness.py ab --help``."""

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
    compare: CompareOptions = field(default_factory=CompareOptions)


@record
class AbEnd:
    """How it ended."""

    exit_code: int
    document: JsonObject  # for stdout


def run_ab(options: AbOptions, say: Callable[[str], None], clone: str = _CLONE) -> AbEnd:
    """Run both sides in turns and compare them.

    Args:
        options: What is compared, and how thoroughly.
        say: Takes a line for people.
        clone: The folder whose working tree is the new side.

    Raises:
        InputError: There is no such commit, or one side cannot run what was asked for.
        EngineError: A run could not be finished.
        OutputError: A file could not be written.
    """
    begun_s = clock.monotonic_s()
    kept = make_folder(options.output_dir) if options.output_dir else None
    with watch_for_interruption() as interruption:
        try:
            with two_sides(clone, options.base) as (base, work, scratch):
                document = compare_sides(
                    options,
                    SideRunner(run_words(options), scratch, kept, interruption, say),
                    base,
                    work,
                )
        except Interrupted:
            return AbEnd(
                EXIT_INTERRUPTED,
                {"ok": False, "exit_code": EXIT_INTERRUPTED, "error": "interrupted: no verdict"},
            )
    exit_code = exit_code_of(
        document["comparison"] | {"verdict": document["verdict"]}, options.compare
    )
    document = {
        "ok": exit_code == 0,
        "exit_code": exit_code,
        **document,
        "elapsed_s": clock.monotonic_s() - begun_s,
    }
    if kept:
        document["folder"] = kept
        write_atomic(os.path.join(kept, DOCUMENT), json.dumps(document, indent=2).encode("ascii"))
    say(
        tell(
            {
                **document["comparison"],
                "verdict": document["verdict"],
                "reasons": document["reasons"],
            }
        )
    )
    say(f"took {document['elapsed_s']:.0f} s; {conclusion(document, options)}")
    return AbEnd(exit_code, document)


def run_words(options: AbOptions) -> list[str]:
    """The options of every run: those of the contract alone, since the other side may be an older
    harness.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = ["--workers", str(options.workers or cores or 1), "--timeout", repr(options.timeout_s)]
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
    """The three stages; the document without its exit code."""
    settings = replace(options.compare, expect_same_scenario=False)
    warm = [
        runner.run(side, min(WARM_UP_EPISODES, options.episodes), "warm-up")
        for side in (base, work)
    ]
    # Not the rows of the warm-up: it is too short for a long scenario.
    tests = tests_of(min(options.episodes, len(warm[1].manifest["scenario"])), settings.gate_on)
    power = power_of(options.rounds, options.rounds, tests)
    runner.say(
        say_power(power) + ("" if power.is_enough else f"; --rounds {options.rounds} was asked for")
    )
    head = {
        "base": {"ref": options.base, "git_sha": base.sha},
        "new": {"git_sha": work.sha, "dirty": warm[1].about()["dirty"]},
        "rounds": options.rounds,
        "episodes": options.episodes,
        "null_control": None,
    }
    screened: dict[Subject, float] | None = None
    screen_document: JsonObject | None = None
    seen: Sides = ((), ())
    if options.screen:
        runs = [runner.run(side, options.episodes, "screen") for side in (base, work, work, base)]
        seen = (runs[0], runs[3]), (runs[1], runs[2])
        screen_document = compare_runs(*seen, settings)
        screened = ratios_in(screen_document)
        moved = subjects_that_moved(screen_document)
        if not moved:
            screen_document = settle_by_screen(screen_document)
            return {
                **_verdict(screen_document),
                **head,
                "stage": "screen",
                "screen": None,
                "comparison": screen_document,
            }
        runner.say(
            f"the screen moved by more than the lower floor: {', '.join(moved)}; running"
            f" {options.rounds} rounds"
        )
    old, new, null = run_rounds(options, runner, base, work)
    document = compare_runs(old, new, settings, screen=screened, seen=seen)
    if options.null_control:
        head["null_control"] = null_document = judge_null(old, null, settings)
        if null_document["fired"]:
            document = void(document, null_document["reasons"])
    return {
        **_verdict(document),
        **head,
        "stage": "rounds",
        "screen": screen_document,
        "comparison": document,
    }


def _verdict(document: JsonObject) -> JsonObject:
    return {"verdict": document["verdict"], "reasons": document["reasons"]}


def run_rounds(
    options: AbOptions, runner: SideRunner, base: Side, work: Side
) -> tuple[list[RunRecord], list[RunRecord], list[RunRecord]]:
    """Base, work and, if asked for, base once more, in turns that mirror each other from round to
    round.
    """
    old: list[RunRecord] = []
    new: list[RunRecord] = []
    null: list[RunRecord] = []
    turns = [(base, old), (work, new), *([(base, null)] if options.null_control else [])]
    for round_ in range(options.rounds):
        for side, runs in turns if round_ % 2 == 0 else reversed(turns):
            runs.append(
                runner.run(side, options.episodes, f"round {round_ + 1} of {options.rounds}")
            )
    return old, new, null


def ratios_in(document: JsonObject) -> dict[Subject, float]:
    """By scenario row and metric, how much more the new side took."""
    return {(one["row"], one["metric"]): one["ratio"] for one in document.get("decisions", ())}


def subjects_that_moved(document: JsonObject) -> list[str]:
    """The rows of which a gating metric moved, either way, by more than the lower floor."""
    moved = []
    for one in document.get("decisions", ()):
        floor = FLOORS[one["metric"]]
        if (
            one["gates"]
            and abs(math.log(one["ratio"])) > math.log1p(floor.warn)
            and abs(one["new"] - one["base"]) > floor.absolute
        ):
            moved.append(f"{one['row']} {one['metric']} {100 * (one['ratio'] - 1):+.1f}%")
    return moved


def settle_by_screen(document: JsonObject) -> JsonObject:
    """The comparison of a screen in which no time moved: that is its answer about time."""
    if document["verdict"] == "not_comparable":
        return document
    why = "the screen moved by less than the lower floor, so that no rounds were run"
    decisions = [
        {**one, "verdict": "unchanged", "why": why, "warns": False}
        for one in document["decisions"]
        if one["gates"]
    ]
    timed = {one["row"] for one in decisions}
    decisions += [one for one in document["decisions"] if not one["gates"]]
    rows = _judge_rows(document, lambda name: "unchanged" if name in timed else "inconclusive")
    on_both_sides = [row for row in rows if row["verdict"] not in ONE_SIDED]
    untimed = [row["row"] for row in on_both_sides if row["row"] not in timed]
    open_questions = (
        [f"no time that gates could be compared in {', '.join(untimed)}"] if untimed else []
    )
    return {
        **document,
        "verdict": gravest([row["verdict"] for row in on_both_sides]),
        "reasons": [*document["exact"]["reasons"], *open_questions, *([why] if timed else [])],
        "decisions": decisions,
        "rows": rows,
    }


def judge_null(old: list[RunRecord], null: list[RunRecord], settings: CompareOptions) -> JsonObject:
    """Base against base: whether the host makes a difference where there is none."""
    document = compare_runs(old, null, settings)
    fired = [
        one
        for one in document["decisions"]
        if one["gates"] and one["verdict"] in {"regressed", "improved"}
    ]
    reasons = [
        f"base against base: {one['row']} {one['metric']} {one['verdict']} by {one['ratio']:.3f}"
        for one in fired
    ]
    return {"fired": bool(fired), "reasons": reasons, "decisions": document["decisions"]}


def void(document: JsonObject, why: list[str]) -> JsonObject:
    """The comparison without its verdicts about time: the host was too noisy for any."""
    decisions = [
        {**one, "verdict": "inconclusive", "why": "noisy host", "warns": False}
        for one in document["decisions"]
    ]
    worst = gravest([*(change["verdict"] for change in _gating_changes(document)), "inconclusive"])
    rows = _judge_rows(document, lambda _name: "inconclusive")
    behaviour = document["exact"]["reasons"]
    reasons = [*behaviour, *why, "noisy host: verdicts about time are void"]
    breaches = [reason for reason in document["breaches"] if reason in behaviour]
    return {
        **document,
        "verdict": worst,
        "reasons": reasons,
        "breaches": breaches,
        "decisions": decisions,
        "rows": rows,
    }


def _judge_rows(document: JsonObject, of_times: Callable[[str], Verdict]) -> list[JsonObject]:
    """Its rows, each judged by behaviour and by what ``of_times`` says to its name; those of one
    side stay as they are.
    """
    rows = []
    for row in document["rows"]:
        verdicts = [
            change["verdict"] for change in _gating_changes(document) if change["row"] == row["row"]
        ]
        judged = (
            row["verdict"]
            if row["verdict"] in ONE_SIDED
            else gravest([*verdicts, of_times(row["row"])])
        )
        rows.append({**row, "verdict": judged})
    return rows


def _gating_changes(document: JsonObject) -> list[JsonObject]:
    return [change for change in document["exact"]["changes"] if change["gates"]]


def conclusion(document: JsonObject, options: AbOptions) -> str:
    """What a maintainer does next, in one sentence."""
    regressed = [
        row["row"]
        for row in document["comparison"].get("rows", ())
        if row["verdict"] == "regressed"
    ]
    match document["verdict"]:
        case "regressed":
            return one_line(
                f"worse than {options.base}: {', '.join(regressed) or 'all tasks together'}"
            )
        case "improved":
            return one_line(f"better than {options.base}, and nothing got worse")
        case "unchanged":
            return one_line(f"no change against {options.base} that matters")
        case "not_comparable":
            return "the two sides cannot be compared"
        case _:
            return "no answer: run again on a quieter host, or with more --rounds"
