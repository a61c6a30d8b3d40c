import pytest
from helpers.sets import DEFAULTS, HOST, only

from tracecore.errors import InputError
from tracecore.perf.compare.comparison import compare_paths, exit_code_of
from tracecore.perf.compare.runs import find_mismatches, read_runs
from tracecore.perf.slice.options import JudgeOptions
from tracecore.perf.slice.scenario import DEFAULT_SCENARIO
from tracecore.record import as_dict


@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        ({"strict_spec": True}, "strict_spec"),
        ({"scenario": [as_dict(DEFAULT_SCENARIO[0])]}, "scenario"),
    ],
)
def test_slices_of_other_things_are_not_compared_and_the_difference_is_named(sets, manifest, field):
    base, new = sets.five(), [sets.write(cpu_s=0.1, manifest=manifest) for _ in range(5)]
    document = compare_paths(base, new, DEFAULTS)
    assert (document["verdict"], document["headline"]) == ("not_comparable", "FAIL")
    assert (document["gates"], document["differences"][0]["field"]) == (False, field)
    assert field in document["reasons"][0]
    assert exit_code_of(document, DEFAULTS) == 2
    anyway = JudgeOptions(compare_anyway=True)
    shown = compare_paths(base, new, anyway)
    assert shown["verdict"] == "not_comparable"
    assert next(one["ratio"] for one in shown["decisions"]) == pytest.approx(10, rel=0.05)
    assert not any(one["gates"] for one in shown["decisions"])
    assert exit_code_of(shown, anyway) == 0


@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        (
            {"machine_class": "x86_64-4cpu-py3.11", "host": {**HOST, "cpus_usable": 4}},
            "machine_class",
        ),
        ({"workers": 4}, "workers"),
    ],
)
def test_slices_of_another_machine_are_compared_by_behaviour_and_never_by_times(
    sets, manifest, field
):
    new = [sets.write(cpu_s=0.1, manifest=manifest) for _ in range(5)]
    document = compare_paths(sets.five(), new, DEFAULTS)
    legs = {leg["leg"]: leg for leg in document["legs"]}
    assert (document["verdict"], document["headline"]) == ("inconclusive", "NO ANSWER")
    assert legs["behaviour"]["verdict"] == "unchanged"
    assert legs["time"]["verdict"] == legs["shape"]["verdict"] == "inconclusive"
    assert field in legs["time"]["sentence"]
    assert document["decisions"] == []
    changed = sets.write(manifest=manifest, change=only(7, steps_used=9))
    assert compare_paths(sets.five(), [changed], DEFAULTS)["verdict"] == "regressed"


OTHER_CLASS = {
    "machine_class": "x86_64-4cpu-16gib-py3.11-ffffffff",
    "host": {**HOST, "cpus_usable": 4},
}


def test_the_facts_in_which_two_machine_classes_differ_are_named(sets):
    document = compare_paths([sets.write()], [sets.write(manifest=OTHER_CLASS)], DEFAULTS)
    text = " ".join(document["reasons"])
    assert "x86_64-2cpu-16gib-py3.11-0a1b2c3d" in text
    assert "x86_64-4cpu-16gib-py3.11-ffffffff" in text
    assert "host.cpus_usable is 2 on the base side and 4" in text


@pytest.mark.parametrize(
    ("manifest", "difference"),
    [
        (OTHER_CLASS, {"field": "host.cpus_usable", "base": "2, 4", "new": 2}),
        ({"workers": 3}, {"field": "workers", "base": "2, 3", "new": "2"}),
    ],
)
def test_the_facts_in_which_runs_of_one_side_differ_are_named_too(sets, manifest, difference):
    base = [sets.write(), sets.write(manifest=manifest)]
    assert difference in compare_paths(base, [sets.write()], DEFAULTS)["differences"]


def test_scenarios_that_differ_are_told_by_the_first_row_in_which_they_part(sets):
    rows = [as_dict(DEFAULT_SCENARIO[0]) | {"seed": 42 + 1000 * number} for number in range(3000)]
    other = sets.write(manifest={"scenario": [*rows[:1], *map(as_dict, DEFAULT_SCENARIO[1:])]})
    (reason,) = compare_paths([sets.write(manifest={"scenario": rows})], [other], DEFAULTS)[
        "reasons"
    ]
    assert (
        reason
        == "not comparable: scenario is agents/toy_agent.py on filesystem_hidden_config@1 from seed"
        " 1042 in row 2 of 3000 on the base side and agents/rate_limit_agent.py on"
        " rate_limited_api@1 from seed 11 in row 2 of 4 on the new"
    )
    (reason,) = compare_paths(
        [sets.write(manifest={"scenario": rows[:1]})], [sets.write()], DEFAULTS
    )["reasons"]
    assert "nothing in row 2 of 1 on the base side" in reason


def test_sets_of_no_known_class_are_not_comparable_either(sets):
    unknown = {"machine_class": None}
    document = compare_paths(
        [sets.write(manifest={"host": {}}), sets.write()],
        [sets.write(manifest={"workers": 2})],
        DEFAULTS,
    )
    assert document["verdict"] != "not_comparable"
    with pytest.raises(InputError, match="machine_class"):
        compare_paths([sets.write(manifest=unknown)], [sets.write()], DEFAULTS)


def test_where_scenarios_may_differ_the_workers_still_may_not(sets):
    base, new = (read_runs([sets.write(manifest={"workers": count})]) for count in (2, 3))
    (found,) = find_mismatches(base, new, expect_same_scenario=False)
    assert (found.field, found.of_times_alone) == ("workers", True)
