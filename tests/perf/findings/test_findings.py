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


def only(document, kind):
    (finding,) = document["findings"]
    assert finding["id"] == kind
    assert document["finding_counts"][kind] == 1
    assert set(finding) == {"id", "severity", "text", "evidence", "episodes", "repro"}
    assert finding["text"].endswith(".")
    json.dumps(document, allow_nan=False)
    return finding


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("episodes", [24, 1000])
def test_an_even_slice_on_a_quiet_machine_has_no_finding(make_row, seed, episodes):
    document = look(
        slice_rows(make_row, episodes, seed=seed), determinism=Determinism(4, 4).document()
    )
    assert document["findings"] == []
    assert set(document["finding_counts"]) == set(KINDS)
    trends = {"late_drift", "memory_growth", "artifact_growth_nonlinear"}
    expected = {kind: None if episodes == 24 and kind in trends else 0 for kind in KINDS}
    assert document["finding_counts"] == expected


def test_an_empty_slice_answers_nothing():
    document = look([])
    assert document["findings"] == document["failures"] == []
    assert set(document["finding_counts"].values()) == {None}
    assert document["failure_spread"] is None


# --- scenario_spike and tail_outliers


def test_a_scenario_with_most_of_the_outliers_is_named(make_row):
    def plant(index, fields):
        if index in {22, 62, 102, 202, 302, 362}:
            fields["wall_clock_s"] = 0.4

    finding = only(look(slice_rows(make_row, change=plant)), "scenario_spike")
    assert finding["evidence"]["task_ref"] == "gamma@1"
    assert finding["evidence"]["outliers"] == 6
    assert sorted(finding["episodes"]) == [23, 63, 103, 203, 303, 363]
    assert "--agent c.py --task gamma@1 --seed" in finding["repro"]


def test_outliers_in_every_scenario_are_a_tail_and_no_spike(make_row):
    def plant(index, fields):
        if index % 37 == 5:
            fields["wall_clock_s"] *= 4

    finding = only(look(slice_rows(make_row, change=plant)), "tail_outliers")
    assert finding["evidence"]["outliers"] == 11
    assert finding["repro"].startswith("python -m tracecore run --agent ")


def test_a_tail_beside_a_spike_is_one_of_the_other_scenarios(make_row):
    def plant(index, fields):
        if index % 20 == 2 or index in {5, 44, 151, 204, 301}:
            fields["wall_clock_s"] *= 20

    spike, tail = look(slice_rows(make_row, change=plant))["findings"]
    assert spike["text"].startswith("20 of 100 episodes of gamma@1")
    assert tail["text"].startswith("5 of 300 other episodes took far longer")
    assert tail["text"].endswith("no other scenario stands out.")
    assert tail["evidence"]["share"] == pytest.approx(5 / 300)


def test_a_single_extreme_episode_is_a_tail(make_row):
    def plant(index, fields):
        if index == 77:
            fields["wall_clock_s"] = 5.0

    assert only(look(slice_rows(make_row, change=plant)), "tail_outliers")["episodes"] == [78]


def test_a_few_slow_episodes_are_no_finding(make_row):
    def plant(index, fields):
        if index in {50, 151, 252}:
            fields["wall_clock_s"] *= 3

    assert ids(look(slice_rows(make_row, change=plant))) == []


def test_a_scenario_that_is_slow_throughout_is_no_spike(make_row):
    def plant(index, fields):
        if index % 4 == 2:
            fields["wall_clock_s"] *= 20

    assert ids(look(slice_rows(make_row, change=plant))) == []


@pytest.mark.parametrize("reason", ["timeout", "agent_crashed", "episode_crashed"])
def test_timeouts_and_crashes_are_no_slow_episodes(make_row, reason):
    def plant(index, fields):
        if index in {22, 102}:
            fields |= {"wall_clock_s": 180.0, "termination_reason": reason, "error": reason}

    assert ids(look(slice_rows(make_row, change=plant))) == []


# --- failure_cluster


def fail(fields):
    fields["error"] = "went wrong"


def test_failures_of_one_task_are_a_cluster_that_is_told_once(make_row):
    def plant(index, fields):
        if index % 4 == 1 and index % 40 < 8:
            fail(fields)

    document = look(slice_rows(make_row, change=plant))
    finding = only(document, "failure_cluster")
    assert finding["evidence"]["dimension"] == "task"
    assert finding["evidence"]["value"] == "beta@1"
    assert finding["evidence"]["failures"] == finding["evidence"]["failures_total"] == 20
    assert finding["episodes"][:2] == [2, 6]
    assert document["failure_spread"] == "clustered"


def test_failures_of_one_agent_on_several_tasks_are_its_cluster(make_row):
    def plant(index, fields):
        fields["agent"] = "x.py" if index % 4 < 2 else "y.py"
        if index % 4 < 2 and index % 20 in {4, 5, 8, 9}:
            fail(fields)

    finding = only(look(slice_rows(make_row, change=plant)), "failure_cluster")
    assert (finding["evidence"]["dimension"], finding["evidence"]["value"]) == ("agent", "x.py")


def test_failures_of_one_seed_are_a_cluster(make_row):
    def plant(index, fields):
        fields["seed"] = index // 8
        if index // 8 == 30:
            fail(fields)

    document = look(slice_rows(make_row, change=plant))
    assert ("seed", 30) in [
        (f["evidence"]["dimension"], f["evidence"]["value"]) for f in document["findings"]
    ]


def test_failures_on_one_worker_are_a_cluster(make_row):
    def plant(index, fields):
        if fields["worker"] == 3 and index % 3 == 0:
            fail(fields)

    finding = only(look(slice_rows(make_row, change=plant)), "failure_cluster")
    assert (finding["evidence"]["dimension"], finding["evidence"]["value"]) == ("worker", 3)


def test_failures_at_one_time_are_a_cluster(make_row):
    def plant(index, fields):
        if 320 <= index < 332:
            fail(fields)

    finding = only(look(slice_rows(make_row, change=plant)), "failure_cluster")
    assert (finding["evidence"]["dimension"], finding["evidence"]["value"]) == ("time", 8)
    assert "tenth 9 of the slice's time" in finding["text"]


def test_a_second_cluster_counts_what_the_first_has_left_and_says_so(make_row):
    def plant(index, fields):
        if index >= 360 or (index % 4 == 1 and index % 20 == 5):
            fail(fields)

    first, second = look(slice_rows(make_row, change=plant))["findings"]
    assert (
        first["text"]
        == "40 of 58 failures are in tenth 10 of the slice's time, which ran 40 of 400 episodes."
    )
    assert (
        second["text"]
        == "18 of 18 other failures are in task beta@1, which ran 90 of 360 other episodes."
    )
    told = second["evidence"]
    chance = math.comb(told["episodes"], 18) / math.comb(told["episodes_total"], 18)
    assert told["p"] == pytest.approx(chance)


def test_failures_all_over_are_spread_evenly(make_row):
    chance = random.Random(5)

    def plant(_index, fields):
        if chance.random() < 0.1:
            fail(fields)

    document = look(slice_rows(make_row, change=plant))
    assert ids(document) == []
    assert document["failure_spread"] == "even"


def test_two_failures_are_too_few_to_tell(make_row):
    document = look(
        slice_rows(make_row, change=lambda index, fields: fail(fields) if index in {4, 8} else None)
    )
    assert (ids(document), document["failure_spread"]) == ([], "too_few")


def test_where_everything_fails_there_is_no_cluster(make_row):
    document = look(slice_rows(make_row, change=lambda _, fields: fail(fields)))
    assert (ids(document), document["failure_spread"]) == ([], "even")


def test_every_failure_has_the_command_that_repeats_it_and_twenty_are_shown(make_row):
    rows = list(
        slice_rows(
            make_row,
            change=lambda _, fields: fail(fields) or fields.update(agent="my agents/a b.py"),
        )
    )
    failures = look(rows)["failures"]
    assert [failure["episode"] for failure in failures] == list(range(1, 21))
    assert failures[0] == {
        "episode": 1,
        "run_id": f"{0:032x}",
        "agent": "my agents/a b.py",
        "task_ref": "alpha@1",
        "seed": 42,
        "termination_reason": "logic_failure",
        "error": "went wrong",
        "repro": "python -m tracecore run --agent 'my agents/a b.py' --task alpha@1 --seed 42",
        "wall_clock_s": rows[0].wall_clock_s,
        "artifact": f"{0:032x}.json",
    }


# --- over the course


def drift(index, fields):
    fields["wall_clock_s"] *= 1 + 0.3 * index / 400


def test_episodes_that_take_longer_and_longer_are_a_drift(make_row):
    finding = only(look(slice_rows(make_row, change=drift)), "late_drift")
    assert 1.15 < finding["evidence"]["ratio"] < 1.3
    assert len(finding["evidence"]["blocks"]) == 20
    assert finding["repro"] == "python scripts/perf_harness.py"


def test_a_drift_is_seen_in_the_order_of_start_and_not_of_index(make_row):
    def plant(index, fields):
        fields["start_s"] = (400 - index) * 0.02
        drift(index, fields)

    assert ids(look(slice_rows(make_row, change=plant))) == []


def test_a_resumed_slice_is_looked_at_in_the_order_of_its_episodes(make_row):
    def plant(index, fields):
        fields["start_s"] = (index % 200) * 0.02  # the clock began twice
        drift(index, fields)

    assert ids(look(slice_rows(make_row, change=plant), is_resumed=True)) == ["late_drift"]


def test_becoming_faster_or_wandering_is_no_drift(make_row):
    def faster(index, fields):
        fields["wall_clock_s"] *= 1.3 - 0.3 * index / 400

    def wandering(index, fields):
        fields["wall_clock_s"] *= 1.2 if index // 50 % 2 else 1.0

    assert ids(look(slice_rows(make_row, change=faster))) == []
    assert ids(look(slice_rows(make_row, change=wandering))) == []


def test_the_time_before_all_workers_were_there_is_no_baseline(make_row):
    def plant(index, fields):
        if index < 60:
            fields["wall_clock_s"] *= 0.6
            fields["worker"] = index % 2
        else:
            fields["wall_clock_s"] *= 1 + 0.08 * index / 400

    assert ids(look(slice_rows(make_row, change=plant))) == []


def test_memory_that_grows_is_a_finding(make_row):
    def plant(index, fields):
        fields["peak_rss_bytes"] += 40_000 * index

    finding = only(look(slice_rows(make_row, change=plant)), "memory_growth")
    assert finding["evidence"]["ratio"] > 1.4


def test_memory_that_grows_by_little_is_none(make_row):
    def plant(index, fields):
        fields["peak_rss_bytes"] += 8000 * index  # 3 MB in all

    assert ids(look(slice_rows(make_row, change=plant))) == []


def test_a_harness_that_keeps_what_it_should_not_is_a_finding(make_row):
    host = HostNoise(
        load1_before=0.5,
        cpus_total=4,
        cpus_usable=4,
        steal_share=0.0,
        harness_growth_bytes=90 << 20,
    )
    assert (
        only(look(slice_rows(make_row), host=host), "memory_growth")["evidence"][
            "harness_growth_bytes"
        ]
        == 90 << 20
    )


def test_artifacts_that_grow_are_a_finding(make_row):
    def plant(index, fields):
        fields["artifact_bytes"] += 20 * index

    finding = only(look(slice_rows(make_row, change=plant)), "artifact_growth_nonlinear")
    assert finding["evidence"]["ratio"] > 1.3


def test_artifacts_of_different_sizes_are_none(make_row):
    def plant(index, fields):
        fields["artifact_bytes"] *= 1 + index % 7

    assert ids(look(slice_rows(make_row, change=plant))) == []


# --- cold_start


def slow_first(factor):
    seen = set()

    def plant(_index, fields):
        if fields["worker"] not in seen:
            seen.add(fields["worker"])
            fields["wall_clock_s"] *= factor

    return plant


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


def test_a_cold_start_that_costs_nothing_to_speak_of_is_none(make_row):
    assert ids(look(slice_rows(make_row, 400, change=slow_first(3)))) == []
    assert ids(look(slice_rows(make_row, 48, change=slow_first(1.2)))) == []


# --- noisy_host


@pytest.mark.parametrize(
    ("host", "sign"),
    [
        ({"load1_before": 5.1}, "load1_before"),
        ({"steal_share": 0.03}, "steal_share"),
    ],
)
def test_a_machine_that_was_not_quiet_is_told(make_row, host, sign):
    noise = HostNoise(
        **{"load1_before": 0.5, "cpus_total": 4, "cpus_usable": 4, "steal_share": 0.0, **host}
    )
    finding = only(look(slice_rows(make_row, 48), host=noise), "noisy_host")
    assert list(finding["evidence"]) == [sign]


@pytest.mark.parametrize(
    ("running", "found"), [(None, ["noisy_host"]), (4, ["noisy_host"]), (3, []), (0, [])]
)
def test_a_load_that_is_over_already_is_no_noise(make_row, running, found):
    noise = HostNoise(
        load1_before=9.0, running_before=running, cpus_total=4, cpus_usable=4, steal_share=0.0
    )
    assert ids(look(slice_rows(make_row, 48), host=noise)) == found


def test_at_its_limits_a_machine_counts_as_quiet(make_row):
    noise = HostNoise(load1_before=5.0, cpus_total=4, cpus_usable=2, steal_share=0.02)
    assert ids(look(slice_rows(make_row, 48), host=noise)) == []


def test_a_machine_that_tells_nothing_is_not_called_quiet(make_row):
    assert look(slice_rows(make_row, 48), host=HostNoise())["finding_counts"]["noisy_host"] is None


# --- determinism_mismatch


def test_a_second_run_that_differs_is_a_finding(make_row):
    difference = {
        "episode": 9,
        "episode_index": 8,
        "task_ref": "alpha@1",
        "seed": 50,
        "step": 2,
        "field": "result.value",
    }
    block = Determinism(4, 4, [difference]).document()
    finding = only(look(slice_rows(make_row, 48), determinism=block), "determinism_mismatch")
    assert "first differs in step 2, result.value" in finding["text"]
    assert finding["episodes"] == [9]
    assert finding["repro"] == "python -m tracecore run --agent toy.py --task alpha@1 --seed 50"


def test_second_runs_that_were_not_made_are_no_answer(make_row):
    assert look(slice_rows(make_row, 48))["finding_counts"]["determinism_mismatch"] is None


# --- oversubscribed


def busy(slots, cpu_s):
    def plant(index, fields):
        fields |= {"slot": index % slots, "cpu_user_s": cpu_s, "start_s": index * 0.01}

    return plant


@pytest.mark.parametrize(
    ("slots", "cpu_s", "found"), [(9, 0.04, ["oversubscribed"]), (9, 0.01, []), (4, 0.04, [])]
)
def test_more_episodes_than_cpus_that_all_have_work_to_do_are_told(make_row, slots, cpu_s, found):
    host = HostNoise(load1_before=0.5, cpus_total=4, cpus_usable=4, steal_share=0.0)
    rows = slice_rows(make_row, 48, change=busy(slots, cpu_s))
    assert ids(look(rows, host=host)) == found
