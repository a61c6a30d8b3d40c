"""Two answers, never one for the other: whether the slice is right, and what is known of times."""

import pytest

from tracecore.exit_codes import HEADLINES
from tracecore.perf.judge.verdicts import answer_of

GOOD = {
    "episodes": 24,
    "failure_count": 0,
    "failure_reasons": {},
    "determinism": {"checked": 4, "differing": 0},
    "verdict": {
        "exit_code": 0,
        "thresholds": [{"text": "failure_count == 0", "status": "passed"}],
        "reasons": [],
    },
}


def compared(headline, answer):
    return {**GOOD, "comparison": {"headline": headline, "answer": answer}}


@pytest.mark.parametrize(
    ("summary", "word", "times", "advice"),
    [
        (GOOD, "PASS", "Times were not judged: no baseline was given.", "times were not judged"),
        (
            compared("NO ANSWER", "no answer on time"),
            *("NO ANSWER", "Compared with the baseline: no answer on time.", "not answered yet"),
        ),
        (
            compared("PASS", "no change that matters"),
            *("PASS", "Compared with the baseline: no change that matters.", "Ship it."),
        ),
    ],
)
def test_only_a_slice_whose_comparison_is_answered_is_to_be_shipped(summary, word, times, advice):
    answer = answer_of(summary)
    assert (answer.word, answer.times) == (word, times)
    assert advice in answer.advice
    assert ("Ship it" in answer.advice) is (advice == "Ship it.")
    assert answer.correctness == (
        "24 of 24 episodes succeeded; 1 of 1 thresholds hold; 4 of 4 second runs agree."
    )


@pytest.mark.parametrize(
    ("exit_codes", "advice"),
    [
        ((1, 3), "Do not ship before each reason below is understood."),
        ((4, 5, 130), "This slice decides nothing: finish or repeat it."),
    ],
)
def test_a_slice_that_is_not_good_fails_whatever_its_comparison_came_to(exit_codes, advice):
    summary = compared("PASS", "no change that matters")
    for exit_code in exit_codes:
        answer = answer_of({**summary, "verdict": {"exit_code": exit_code}})
        assert (answer.word, answer.is_good, answer.advice) == ("FAIL", False, advice)
        assert answer.headline == HEADLINES[exit_code]


def test_a_summary_without_a_verdict_is_judged_by_its_counts():
    summary = {"episodes": 4, "failure_count": 1, "failure_reasons": {"lost": 1}}
    answer = answer_of(summary)
    assert (answer.exit_code, answer.word, answer.is_good) == (1, "FAIL", False)
    assert answer.reasons == ("1 of 4 episodes failed; most often (1): lost.",)
    good = answer_of({**summary, "failure_count": 0})
    assert (good.exit_code, good.is_good, good.headline) == (0, True, HEADLINES[0])
    assert good.advice.endswith("No gate was asked for either: size is for you to judge.")


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"gate_off": True}, "The gate was switched off."),
        ({"thresholds": []}, "No gate was asked for."),
        ({}, "The thresholds given."),
        ({"profile": "small"}, "The built-in profile for small slices, and what was added to it."),
        ({"profile": "large"}, "no licence to fail"),
    ],
)
def test_what_a_slice_was_held_against_is_said(changes, gate):
    answer = answer_of({**GOOD, "verdict": {**GOOD["verdict"], **changes}})
    assert gate in answer.gate
    assert answer.is_good
    assert (len(answer.gate) > 80) is ("large" in changes.values())
