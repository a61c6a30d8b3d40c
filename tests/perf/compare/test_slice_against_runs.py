import pytest
from helpers.sets import DEFAULTS, HOST, SAME_BUT_DIFFERENT, TASKS

from tracecore.errors import InputError
from tracecore.perf.compare.baseline import read_baseline
from tracecore.perf.compare.runs import read_runs
from tracecore.perf.documents.rows import Rows
from tracecore.perf.slice.options import JudgeOptions
from tracecore.record import replace


def planned(sets, **changes):
    """The manifest of a slice that is about to begin on the host of the sets."""
    return {**read_runs([sets.write()])[0].manifest, "stamp": "now", **changes}


def finish(baseline, sets, manifest, *, is_complete=True, **changes):
    rows = [sets._row(index, 0.010, {}) for index in range(24)]
    rows[5] = replace(rows[5], **changes)
    return baseline.document("here", manifest, {}, Rows(rows), is_complete=is_complete)


def test_a_slice_that_does_as_its_baseline_did_has_no_breach(sets):
    manifest = planned(sets)
    document = finish(read_baseline([sets.write()], manifest, DEFAULTS), sets, manifest)
    assert (document["verdict"], document["breaches"]) == ("inconclusive", [])
    assert document["answer"].startswith("no answer on shape and time; it takes 3 base runs")


def test_a_slice_that_behaves_otherwise_than_its_baseline_breaches_in_a_sentence(sets):
    manifest = planned(sets)
    document = finish(
        read_baseline([sets.write()], manifest, DEFAULTS), sets, manifest, steps_used=9
    )
    assert document["verdict"] == "regressed"
    assert document["breaches"] == [
        (
            f"{TASKS[1]}: steps used changed in 1 of 6 episodes (seed 16: 5 to 9): regressed;"
            f" {SAME_BUT_DIFFERENT}"
        )
    ]


def test_without_an_answer_a_slice_breaches_only_where_that_is_asked(sets):
    manifest = planned(sets)
    strict = JudgeOptions(require_conclusive=True)
    assert finish(read_baseline([sets.write()], manifest, strict), sets, manifest)["breaches"]


def test_half_a_slice_is_not_compared(sets):
    manifest = planned(sets)
    document = finish(
        read_baseline([sets.write()], manifest, DEFAULTS), sets, manifest, is_complete=False
    )
    assert (document["verdict"], document["breaches"]) == ("not_comparable", [])
    assert "not complete" in document["warnings"][0]


def test_a_baseline_of_another_machine_class_answers_behaviour_and_no_times(sets):
    manifest = planned(
        sets, machine_class="x86_64-4cpu-16gib-py3.11-ffffffff", host={**HOST, "cpus_usable": 4}
    )
    same = finish(read_baseline(sets.five(), manifest, DEFAULTS), sets, manifest)
    assert (same["verdict"], same["breaches"]) == ("inconclusive", [])
    assert "machine_class" in same["warnings"][0]
    worse = {"steps_used": 9, "success": False, "error": "worse"}
    changed = finish(read_baseline(sets.five(), manifest, DEFAULTS), sets, manifest, **worse)
    assert (changed["verdict"], len(changed["breaches"])) == ("regressed", 2)


def test_a_baseline_of_another_scenario_is_refused_before_anything_runs(sets):
    manifest = planned(sets, strict_spec=True)
    with pytest.raises(InputError, match=r"--baseline: strict_spec: found 'False', expected True"):
        read_baseline([sets.write()], manifest, DEFAULTS)
    anyway = JudgeOptions(compare_anyway=True)
    worse = {"steps_used": 9, "artifact_bytes": 10**6, "success": False, "error": "worse"}
    shown = finish(read_baseline([sets.write()], manifest, anyway), sets, manifest, **worse)
    assert (shown["verdict"], shown["breaches"]) == ("not_comparable", [])
    assert {"success", "steps_used", "artifact_bytes"} == {
        change["quantity"] for change in shown["exact"]["changes"]
    }
