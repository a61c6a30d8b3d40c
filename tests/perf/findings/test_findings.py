"""Each condition is planted in synthetic rows, and so is its absence."""

import json
import math
import random

import pytest

from tracecore.perf.documents.rows import Rows
from tracecore.perf.findings.findings import KINDS, Circumstances, findings_document
from tracecore.perf.host.noise import HostNoise
from tracecore.perf.slice.second_runs import Determinism

SCENARIOS = [("toy.py", "alpha@1"), ("b.py", "beta@1"), ("c.py", "gamma@1"), ("d.py", "delta@1")]
QUIET = HostNoise(
    load1_before=0.5, cpus_total=4, cpus_usable=4, steal_share=0.0, harness_growth_bytes=100_000
)
WORKERS = 4


def slice_rows(make_row, episodes=400, *, seed=1, change=None):
    """Rows as a quiet machine makes them: medians of the scenarios differ, episodes vary by 5
    percent.

    ``change(index, fields)`` plants a condition: it may set ``wall_clock_s``, ``peak_rss_bytes``
    and any field of the row.
    """
    chance = random.Random(seed)
    for index in range(episodes):
        agent, task_ref = SCENARIOS[index % 4]
        fields = {
            "agent": agent,
            "task_ref": task_ref,
            "wall_clock_s": (0.02 + 0.01 * (index % 4)) * chance.gauss(1, 0.05),
            "peak_rss_bytes": int(16e6 + chance.gauss(0, 1e5)),
            "artifact_bytes": 10_000 + 1000 * (index % 4) + chance.randrange(100),
            "worker": chance.randrange(WORKERS),
            "start_s": index * 0.02,
        }
        if change is not None:
            change(index, fields)
        wall_s, start_s = fields.pop("wall_clock_s"), fields.pop("start_s")
        yield make_row(
            index,
            wall_clock_s=wall_s,
            start_offset_s=start_s,
            end_offset_s=start_s + wall_s,
            **fields,
        )


def look(rows, *, host=QUIET, determinism=None, is_resumed=False):
    about = Circumstances(
        host=host,
        determinism=determinism or Determinism().document(),
        is_resumed=is_resumed,
        slice_command="python scripts/perf_harness.py",
    )
    return findings_document(Rows(rows), about)


def ids(document):
    return [finding["id"] for finding in document["findings"]]


def scaled(field, factor_of):
    """Multiply a field by what the index gives."""

    def plant(index, fields):
        fields[field] = type(fields[field])(fields[field] * factor_of(index))

    return plant


def slow(is_slow, factor):
    return scaled("wall_clock_s", lambda index: factor if is_slow(index) else 1)


def failing(fails, **changes):
    """Let episodes fail; every row has the changes, which may depend on its index."""

    def plant(index, fields):
        fields.update({name: change(index) for name, change in changes.items()})
        if fails(index, fields):
            fields["error"] = "went wrong"

    return plant


def quiet(**changes):
    return HostNoise(
        **{"load1_before": 0.5, "cpus_total": 4, "cpus_usable": 4, "steal_share": 0.0, **changes}
    )


def only(document, kind):
    (finding,) = document["findings"]
    assert finding["id"] == kind
    assert document["finding_counts"][kind] == 1
    assert set(finding) == {"id", "severity", "text", "evidence", "episodes", "repro"}
    assert finding["text"].endswith(".")
    json.dumps(document, allow_nan=False)
    return finding


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("episodes", [0, 24, 1000])
def test_an_even_slice_on_a_quiet_machine_has_no_finding(make_row, seed, episodes):
    document = look(
        slice_rows(make_row, episodes, seed=seed), determinism=Determinism(4, 4).document()
    )
    assert document["findings"] == document["failures"] == []
    trends = {"late_drift", "memory_growth", "artifact_growth_nonlinear"}
    unknown = {0: KINDS, 24: trends, 1000: ()}[episodes]
    assert document["finding_counts"] == {kind: None if kind in unknown else 0 for kind in KINDS}
    assert document["failure_spread"] is None


def backwards(index, fields):
    """Later episodes take longer, and began earlier."""
    fields["start_s"] = (400 - index) * 0.02
    drift(index, fields)


def late_workers(index, fields):
    """Two of the workers came after 60 episodes; until then the machine was less busy."""
    if index < 60:
        fields["worker"] = index % 2
    fields["wall_clock_s"] *= 0.6 if index < 60 else 1 + 0.08 * index / 400


def timeouts(reason):
    def plant(index, fields):
        if index in {22, 102}:
            fields |= {"wall_clock_s": 180.0, "termination_reason": reason, "error": reason}

    return plant


def slow_first(factor):
    seen = set()

    def plant(_index, fields):
        if fields["worker"] not in seen:
            seen.add(fields["worker"])
            fields["wall_clock_s"] *= factor

    return plant


@pytest.mark.parametrize(
    ("change", "episodes"),
    [
        (slow(lambda index: index in {50, 151, 252}, 3), 400),  # too few for a tail
        (slow(lambda index: index % 4 == 2, 20), 400),  # a scenario that is slow throughout
        *((timeouts(reason), 400) for reason in ("timeout", "agent_crashed", "episode_crashed")),
        (scaled("wall_clock_s", lambda index: 1.3 - 0.3 * index / 400), 400),
        (slow(lambda index: index // 50 % 2, 1.2), 400),
        (backwards, 400),
        (late_workers, 400),
        (scaled("peak_rss_bytes", lambda index: 1 + index / 2000), 400),  # 3 MB in all
        (scaled("artifact_bytes", lambda index: 1 + index % 7), 400),
        (slow_first(3), 400),
        (slow_first(1.2), 48),
        (failing(lambda _index, _fields: True), 400),  # everything fails, and so no part of it
        (failing(lambda index, _fields: index in {4, 8}), 400),
    ],
)
def test_what_only_looks_like_a_condition_is_no_finding(make_row, change, episodes):
    assert ids(look(slice_rows(make_row, episodes, change=change))) == []


# --- scenario_spike and tail_outliers


def test_a_scenario_with_most_of_the_outliers_is_named(make_row):
    change = slow(lambda index: index in {22, 62, 102, 202, 302, 362}, 10)
    finding = only(look(slice_rows(make_row, change=change)), "scenario_spike")
    assert finding["evidence"]["task_ref"] == "gamma@1"
    assert finding["evidence"]["outliers"] == 6
    assert sorted(finding["episodes"]) == [23, 63, 103, 203, 303, 363]
    assert "--agent c.py --task gamma@1 --seed" in finding["repro"]


@pytest.mark.parametrize(
    ("change", "outliers"),
    [(slow(lambda index: index % 37 == 5, 4), 11), (slow(lambda index: index == 77, 100), 1)],
)
def test_outliers_in_every_scenario_are_a_tail_and_no_spike(make_row, change, outliers):
    finding = only(look(slice_rows(make_row, change=change)), "tail_outliers")
    assert finding["evidence"]["outliers"] == outliers
    assert finding["repro"].startswith("python -m tracecore run --agent ")


def test_a_tail_beside_a_spike_is_one_of_the_other_scenarios(make_row):
    change = slow(lambda index: index % 20 == 2 or index in {5, 44, 151, 204, 301}, 20)
    spike, tail = look(slice_rows(make_row, change=change))["findings"]
    assert spike["text"].startswith("20 of 100 episodes of gamma@1")
    assert tail["text"].startswith("5 of 300 other episodes took far longer")
    assert tail["text"].endswith("no other scenario stands out.")
    assert tail["evidence"]["share"] == pytest.approx(5 / 300)


# --- failure_cluster


@pytest.mark.parametrize(
    ("change", "dimension", "value", "count"),
    [
        (failing(lambda index, _: index % 4 == 1 and index % 40 < 8), "task", "beta@1", 20),
        (
            failing(
                lambda index, _: index % 4 < 2 and index % 20 in {4, 5, 8, 9},
                agent=lambda index: "x.py" if index % 4 < 2 else "y.py",
            ),
            *("agent", "x.py", 80),
        ),
        (failing(lambda index, fields: fields["worker"] == 3 and index % 3 == 0), "worker", 3, 31),
        (failing(lambda index, _: 320 <= index < 332), "time", 8, 12),
    ],
)
def test_failures_that_share_something_are_a_cluster_that_is_told_once(
    make_row, change, dimension, value, count
):
    document = look(slice_rows(make_row, change=change))
    finding = only(document, "failure_cluster")
    evidence = finding["evidence"]
    assert (evidence["dimension"], evidence["value"]) == (dimension, value)
    assert evidence["failures"] == evidence["failures_total"] == count
    assert document["failure_spread"] == "clustered"
    assert ("tenth 9 of the slice's time" in finding["text"]) is (dimension == "time")


def test_failures_of_one_seed_are_a_cluster(make_row):
    change = failing(lambda index, _: index // 8 == 30, seed=lambda index: index // 8)
    found = look(slice_rows(make_row, change=change))["findings"]
    assert ("seed", 30) in [
        (one["evidence"]["dimension"], one["evidence"]["value"]) for one in found
    ]


def test_a_second_cluster_counts_what_the_first_has_left_and_says_so(make_row):
    change = failing(lambda index, _: index >= 360 or (index % 4 == 1 and index % 20 == 5))
    first, second = look(slice_rows(make_row, change=change))["findings"]
    assert first["text"] == (
        "40 of 58 failures are in tenth 10 of the slice's time, which ran 40 of 400 episodes."
    )
    assert second["text"] == (
        "18 of 18 other failures are in task beta@1, which ran 90 of 360 other episodes."
    )
    evidence = second["evidence"]
    chance = math.comb(evidence["episodes"], 18) / math.comb(evidence["episodes_total"], 18)
    assert evidence["p"] == pytest.approx(chance)


CHANCE = random.Random(5)


@pytest.mark.parametrize(
    ("change", "spread"),
    [
        (failing(lambda _index, _fields: CHANCE.random() < 0.1), "even"),
        (failing(lambda _index, _fields: True), "even"),
        (failing(lambda index, _fields: index in {4, 8}), "too_few"),
    ],
)
def test_failures_all_over_are_spread_evenly(make_row, change, spread):
    document = look(slice_rows(make_row, change=change))
    assert (ids(document), document["failure_spread"]) == ([], spread)


def test_every_failure_has_the_command_that_repeats_it_and_twenty_are_shown(make_row):
    change = failing(lambda _index, _fields: True, agent=lambda _: "my agents/a b.py")
    rows = list(slice_rows(make_row, change=change))
    failures = look(rows)["failures"]
    assert [failure["episode"] for failure in failures] == list(range(1, 21))
    assert failures[0] == {
        **{name: getattr(rows[0], name) for name in ("run_id", "agent", "task_ref", "seed")},
        **{name: getattr(rows[0], name) for name in ("wall_clock_s", "artifact", "episode")},
        "termination_reason": "logic_failure",
        "error": "went wrong",
        "repro": "python -m tracecore run --agent 'my agents/a b.py' --task alpha@1 --seed 42",
    }


# --- over the course


drift = scaled("wall_clock_s", lambda index: 1 + 0.3 * index / 400)


def test_episodes_that_take_longer_and_longer_are_a_drift(make_row):
    finding = only(look(slice_rows(make_row, change=drift)), "late_drift")
    assert 1.15 < finding["evidence"]["ratio"] < 1.3
    assert len(finding["evidence"]["blocks"]) == 20
    assert finding["repro"] == "python scripts/perf_harness.py"


def test_a_resumed_slice_is_looked_at_in_the_order_of_its_episodes(make_row):
    def plant(index, fields):
        fields["start_s"] = (index % 200) * 0.02  # the clock began twice
        drift(index, fields)

    assert ids(look(slice_rows(make_row, change=plant), is_resumed=True)) == ["late_drift"]


@pytest.mark.parametrize(
    ("field", "share", "kind"),
    [
        ("peak_rss_bytes", 1 / 400, "memory_growth"),
        ("artifact_bytes", 1 / 500, "artifact_growth_nonlinear"),
    ],
)
def test_memory_or_artifacts_that_grow_are_a_finding(make_row, field, share, kind):
    change = scaled(field, lambda index: 1 + share * index)
    assert only(look(slice_rows(make_row, change=change)), kind)["evidence"]["ratio"] > 1.3


def test_a_harness_that_keeps_what_it_should_not_is_a_finding(make_row):
    document = look(slice_rows(make_row), host=quiet(harness_growth_bytes=90 << 20))
    assert only(document, "memory_growth")["evidence"]["harness_growth_bytes"] == 90 << 20


# --- cold_start


def test_a_slow_first_episode_of_each_worker_is_a_cold_start(make_row):
    rows = slice_rows(make_row, 48, change=slow_first(3))
    finding = only(look(rows), "cold_start")
    assert finding["evidence"]["workers"] == 4
    assert len(finding["episodes"]) == 4


def test_the_share_of_a_cold_start_is_one_of_seconds(make_row):
    def plant(index, fields):
        fields["worker"] = index % 2
        fields["wall_clock_s"] = {0: 3.0, 1: 0.02}.get(index, (1.0, 0.01)[index % 2])

    (finding,) = look(slice_rows(make_row, 24, change=plant))["findings"]
    assert finding["evidence"]["share_of_time"] == pytest.approx(
        (2.0 + 0.01) / (3.0 + 11.0 + 0.02 + 0.11)
    )
    assert "the excess is 14% of all" in finding["text"]


# --- noisy_host


@pytest.mark.parametrize(
    ("changes", "signs"),
    [
        ({"load1_before": 5.1}, ["load1_before"]),
        ({"steal_share": 0.03}, ["steal_share"]),
        ({"load1_before": 9.0, "running_before": 4}, ["load1_before"]),
        # a load that is over already, and what is still at the limits
        ({"load1_before": 9.0, "running_before": 3}, []),
        ({"load1_before": 9.0, "running_before": 0}, []),
        ({"load1_before": 5.0, "cpus_usable": 2, "steal_share": 0.02}, []),
    ],
)
def test_a_machine_that_was_not_quiet_is_told(make_row, changes, signs):
    document = look(slice_rows(make_row, 48), host=quiet(**changes))
    assert [sign for finding in document["findings"] for sign in finding["evidence"]] == signs
    assert ids(document) == ["noisy_host"] * len(signs)
    counts = look(slice_rows(make_row, 48), host=HostNoise())["finding_counts"]
    assert counts["noisy_host"] is counts["determinism_mismatch"] is None


# --- determinism_mismatch


def test_a_second_run_that_differs_is_a_finding(make_row):
    where = {"episode": 9, "episode_index": 8, "task_ref": "alpha@1", "seed": 50}
    difference = {**where, "step": 2, "field": "result.value"}
    block = Determinism(4, 4, [difference]).document()
    finding = only(look(slice_rows(make_row, 48), determinism=block), "determinism_mismatch")
    assert "first differs in step 2, result.value" in finding["text"]
    assert finding["episodes"] == [9]
    assert finding["repro"] == "python -m tracecore run --agent toy.py --task alpha@1 --seed 50"


# --- oversubscribed


def busy(slots, cpu_s):
    def plant(index, fields):
        fields |= {"slot": index % slots, "cpu_user_s": cpu_s, "start_s": index * 0.01}

    return plant


@pytest.mark.parametrize(
    ("slots", "cpu_s", "found"), [(9, 0.04, ["oversubscribed"]), (9, 0.01, []), (4, 0.04, [])]
)
def test_more_episodes_than_cpus_that_all_have_work_to_do_are_told(make_row, slots, cpu_s, found):
    rows = slice_rows(make_row, 48, change=busy(slots, cpu_s))
    assert ids(look(rows, host=quiet())) == found
