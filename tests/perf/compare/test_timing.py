import math
import random
import statistics

import pytest

from tracecore.perf.compare.samples import OVERALL, Sample, power_of, rounds_needed
from tracecore.perf.compare.timing import FLOORS, Conditions, decide

TASKS = ("a@1", "b@1", "c@1", "d@1")


def logs(*values):
    return tuple(math.log(value) for value in values)


def steady(value):
    return logs(*(value * factor for factor in (0.99, 0.995, 1.0, 1.005, 1.01)))


def one(base, new, *, metric="cpu", gates=True, screen=None):
    return decide([Sample("a@1", metric, base, new, gates)], screen=screen)[0]


def session(chance, *, runs=5, spread=0.03, drift=0.0, slower=None, rows=TASKS, noise=None):
    """Runs as they come out in turns on a host whose speed wanders: what all tasks share, and what
    each has by itself.
    """
    sides = {"base": {row: [] for row in rows}, "new": {row: [] for row in rows}}
    for round_ in range(runs):
        for side in ("base", "new") if round_ % 2 == 0 else ("new", "base"):
            shared = (noise or chance.gauss)(0, spread) + drift * round_
            for row in rows:
                effect = math.log1p((slower or {}).get(row, 0.0)) if side == "new" else 0.0
                sides[side][row].append(math.log(0.012) + shared + chance.gauss(0, 0.01) + effect)
    samples = [
        Sample(row, "cpu", tuple(sides["base"][row]), tuple(sides["new"][row]), True)
        for row in rows
    ]
    means = [
        tuple(statistics.fmean(values) for values in zip(*sides[side].values(), strict=True))
        for side in ("base", "new")
    ]
    return [*samples, Sample(OVERALL, "cpu", *means, True)]


def wild(chance):
    """One run in twelve takes more than twice as long."""
    return lambda centre, spread: (
        chance.gauss(centre, spread) + (0.8 if chance.random() < 1 / 12 else 0.0)
    )


def share(trials, happened):
    return sum(happened() for _ in range(trials)) / trials


def rows_called(verdict, made):
    return [one.row for one in made if one.verdict == verdict]


@pytest.mark.parametrize("verdict", ["regressed", "improved"])
@pytest.mark.parametrize(
    ("spread", "drift", "is_wild"),
    [(0.01, 0.0, False), (0.03, 0.05, False), (0.1, 0.0, False), (0.1, 0.05, False), (0, 0, True)],
)
def test_identical_code_is_called_either_in_at_most_one_of_twenty_trials(
    verdict, spread, drift, is_wild
):
    chance = random.Random(1)
    noise = wild(chance) if is_wild else None

    def is_flagged():
        made = decide(session(chance, spread=spread or 0.03, drift=drift, noise=noise))
        return bool(rows_called(verdict, made))

    assert share(300, is_flagged) <= 0.05


@pytest.mark.parametrize(("effect", "verdict"), [(0.15, "regressed"), (-0.15, "improved")])
def test_one_task_that_differs_by_15_percent_is_found_and_no_other(effect, verdict):
    chance = random.Random(4)

    def is_pinned():
        made = decide(session(chance, slower={"c@1": effect}, spread=0.015))
        return rows_called(verdict, made) == ["c@1"]

    assert share(200, is_pinned) >= 0.90


def test_what_slows_all_tasks_is_found_in_all_of_them_and_overall():
    chance = random.Random(6)
    made = decide(session(chance, slower=dict.fromkeys(TASKS, 0.3), spread=0.01))
    assert [one.verdict for one in made] == ["regressed"] * 5


def test_a_sure_but_small_change_is_no_failure():
    made = one(steady(0.012), steady(0.0127))
    assert (made.verdict, made.warns) == ("unchanged", True)
    assert made.ratio == pytest.approx(1.0583, abs=1e-3)
    assert made.p == pytest.approx(1 / 252)


def test_a_large_change_of_almost_nothing_is_no_failure():
    assert one(steady(0.0001), steady(0.0005)).verdict == "inconclusive"


def test_a_large_change_that_may_be_chance_is_inconclusive():
    made = one(logs(1, 1.1, 2, 2.1, 3), logs(1.05, 1.9, 2.5, 3.1, 4))
    assert made.verdict == "inconclusive"
    assert "by chance" in made.why


def test_a_steady_comparison_without_change_is_unchanged():
    made = one(steady(0.012), steady(0.012))
    assert (made.verdict, made.warns, made.ratio) == ("unchanged", False, pytest.approx(1.0))
    assert made.interval[0] < 1 < made.interval[1]
    assert (made.base, made.new) == (pytest.approx(0.012), pytest.approx(0.012))


@pytest.mark.parametrize("runs", [(1, 1), (1, 5), (3, 3)])
def test_few_runs_show_what_is_gross_and_leave_open_what_is_small(runs):
    assert not power_of(*runs, 1).is_enough
    base = steady(0.01)[: runs[0]]
    assert one(base, steady(0.1)[: runs[1]]).verdict == "regressed"
    small = "inconclusive" if runs[0] < 3 else "no_gross_change"
    assert one(base, steady(0.0105)[: runs[1]]).verdict == small


def test_one_run_next_to_three_shows_a_row_that_takes_more_of_its_run():
    base, metric = steady(0.01)[:3], "cpu_adjusted"
    assert one(base, steady(0.0115)[:1], metric=metric).verdict == "regressed"
    assert one(base, steady(0.01)[:1], metric=metric).verdict == "unchanged"


@pytest.mark.parametrize(("tests", "rounds"), [(1, 4), (3, 4), (4, 5), (12, 5), (13, 6), (46, 6)])
def test_how_many_rounds_a_number_of_tests_takes(tests, rounds):
    assert rounds_needed(tests) == rounds
    assert power_of(rounds, rounds, tests).is_enough
    assert not power_of(rounds - 1, rounds - 1, tests).is_enough


@pytest.mark.parametrize(
    ("screen", "new", "verdict"),
    [
        ({("a@1", "cpu"): 1.2}, 0.013, "regressed"),
        ({("a@1", "cpu"): 1.04}, 0.013, "inconclusive"),
        ({}, 0.013, "inconclusive"),
        (None, 0.013, "regressed"),
        ({("a@1", "cpu"): 1.2}, 0.007, "inconclusive"),  # the direction must be the same, too
        ({("a@1", "cpu"): 0.8}, 0.007, "improved"),
    ],
)
def test_both_stages_must_agree(screen, new, verdict):
    assert one(steady(0.01), steady(new), screen=screen).verdict == verdict


def test_ten_noisy_base_runs_widen_the_floor_and_ten_steady_ones_do_not():
    noisy = logs(
        *(0.01 * factor for factor in (0.8, 0.85, 0.9, 0.95, 1.0, 1.0, 1.05, 1.1, 1.15, 1.2))
    )
    assert one(noisy, steady(0.013)).floor > 0.3
    assert one(steady(0.01) * 2, steady(0.013)).floor == FLOORS["cpu"].fail


def test_what_does_not_gate_warns_under_the_looser_correction():
    made = one(steady(0.01), steady(0.02), metric="wall", gates=False)
    assert (made.verdict, made.gates, made.warns) == ("regressed", False, True)


def test_the_more_is_asked_the_more_it_takes():
    def verdicts(count, factor):
        rows = [f"t{number}@1" for number in range(count)]
        base, new = steady(0.01), steady(0.01 * factor)
        return {
            one.verdict for one in decide([Sample(row, "cpu", base, new, True) for row in rows])
        }

    # ranks of five against five carry twelve tests; beyond, a prediction shows what is gross
    assert verdicts(12, 1.2) == {"regressed"}
    assert verdicts(13, 1.2) == {"no_gross_change"}
    assert verdicts(13, 2) == {"regressed"}


def test_on_a_noisy_host_absolute_times_have_no_verdict_and_shares_keep_theirs():
    base, new = steady(0.01), steady(0.02)[:1]
    samples = [
        Sample("a@1", "cpu_adjusted", base, new, True),
        Sample("overall", "cpu", base, new, True),
    ]
    made = decide(samples, Conditions(noisy=True))
    assert [one.verdict for one in made] == ["regressed", "inconclusive"]
