import pytest
from helpers.sets import DEFAULTS, HOST, TASKS, work_of

from tracecore.errors import InputError
from tracecore.perf.compare.comparison import compare_paths, exit_code_of
from tracecore.perf.compare.runs import read_runs


def compared(sets, old, new, **manifest):
    host = {"host": {**HOST, **manifest}} if manifest else None
    return compare_paths([sets.write(work=old)], [sets.write(work=new, manifest=host)], DEFAULTS)


def work_leg(document):
    return next(leg for leg in document["legs"] if leg["leg"] == "work")


@pytest.mark.parametrize(
    ("factor", "verdict", "warns"),
    [(1.0002, "unchanged", False), (1.05, "unchanged", True), (1.2, "regressed", False)],
)
def test_more_lines_are_found_always_warn_from_2_percent_and_fail_from_10(
    sets, factor, verdict, warns
):
    document = compared(sets, work_of(), work_of(lines={TASKS[1]: factor}))
    lines = next(
        one for one in document["work"] if (one["process"], one["quantity"]) == ("both", "lines")
    )
    assert (lines["row"], lines["verdict"], lines["warns"]) == (TASKS[1], verdict, warns)
    assert (lines["base"], lines["new"]) == (5800, 5800 + round(5000 * (factor - 1)))
    assert work_leg(document)["verdict"] == verdict
    sentence = work_leg(document)["sentence"]
    assert sentence.startswith(f"{TASKS[1]} 5,800 to {lines['new']:,} lines (+")
    assert sentence.count(TASKS[1]) == 1
    assert exit_code_of(document, DEFAULTS) == (3 if verdict == "regressed" else 0)


def test_fewer_lines_are_an_improvement(sets):
    document = compared(sets, work_of(), work_of(lines={TASKS[1]: 0.5}))
    assert work_leg(document)["verdict"] == "improved"


def test_what_grew_most_is_named_by_function_and_by_module(sets):
    document = compared(sets, work_of(), work_of(lines={TASKS[1]: 10}))
    counts = {"process": "episode", "module": "task/setup.py", "base": 5000, "new": 50_000}
    assert document["work"][0]["grew"] == ({**counts, "function": "setup"},)
    assert document["work"][0]["modules"] == (counts,)
    assert "grew most: task/setup.py:setup 5,000 to 50,000" in document["breaches"][0]


def test_page_faults_warn_and_never_fail(sets):
    document = compared(sets, work_of(), work_of(faults={TASKS[1]: 3}))
    assert {(one["quantity"], one["warns"], one["gates"]) for one in document["work"]} == {
        ("page_faults", True, False)
    }
    assert work_leg(document)["verdict"] == "unchanged"
    assert any("page faults" in reason for reason in document["reasons"])


def test_one_call_more_and_some_page_faults_are_within_the_slack(sets):
    more = work_of(faults={TASKS[1]: 1.2})  # as far as runs of one row differ, and some more
    more[0]["counts"]["agent"]["calls"] += 1
    assert compared(sets, work_of(), more)["work"] == []
    more[0]["counts"]["agent"]["calls"] += 1
    assert {one["quantity"] for one in compared(sets, work_of(), more)["work"]} == {"calls"}


def test_runs_that_do_not_agree_on_a_count_leave_their_difference_as_slack(sets):
    base = [sets.write(work=work_of(lines={TASKS[1]: factor})) for factor in (1, 1.3)]
    for factor, changed in ((1.1, False), (1.3, False), (1.5, True)):
        new = sets.write(work=work_of(lines={TASKS[1]: factor}))
        assert bool(compare_paths(base, [new], DEFAULTS)["work"]) is changed


@pytest.mark.parametrize(
    ("old", "new", "host", "why"),
    [
        ([], work_of(), {}, "not counted on the base side; --work counts it"),
        ([], [], {}, "not counted on the base and the new side; --work counts it"),
        (work_of(), work_of(), {"python_version": "3.13.0"}, "counted under Python 3.11 and 3.13"),
        (work_of()[:1], work_of()[1:], {}, "no episode was counted on both sides"),
    ],
)
def test_work_that_cannot_be_compared_is_not_asked_and_the_reason_is_given(
    sets, old, new, host, why
):
    leg = work_leg(compared(sets, old, new, **host))
    assert (leg["verdict"], why in leg["sentence"]) == ("not_asked", True)


def test_the_work_of_rows_that_one_side_alone_counted_is_left_out(sets):
    document = compared(sets, work_of()[:2], work_of(lines={TASKS[3]: 9}))
    assert document["work"] == []
    assert work_leg(document)["sentence"] == (
        f"the same in 2 scenario rows; not counted in {TASKS[2]}, {TASKS[3]}"
    )
    assert document["table"][3]["work"] == "\N{EN DASH}"


@pytest.mark.parametrize(
    "damage",
    [
        lambda work: work[0].pop("counts"),
        lambda work: work[0]["counts"].update(episode=None),
        lambda work: work[0]["counts"]["agent"].update(lines="many"),
        lambda work: work[0]["counts"]["agent"].update(lines=-1),
        lambda work: work[0]["counts"]["functions"].update(agent={"x:y": []}),
        lambda work: work.append(7),
    ],
)
def test_counts_that_are_none_are_refused_with_their_file(sets, damage):
    work = work_of()
    damage(work)
    with pytest.raises(InputError, match=r"perf-summary-s1.json: work: found"):
        read_runs([sets.write(work=work)])
