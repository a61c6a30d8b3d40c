from tracecore.perf.documents.rows import Rows
from tracecore.perf.documents.summary import SliceFacts, summary_document
from tracecore.perf.show.slice_page import human_summary

STAMP = "20260131T235959Z"


def document_of(rows, **changes):
    arguments = {
        "episodes_requested": len(rows),
        "workers": 2,
        "runs_root": "runs",
        "system_samples": {},
        "elapsed_s": 0.5,
    }
    return summary_document(Rows(rows), SliceFacts(**{**arguments, **changes}))


def test_a_slice_is_told_in_a_few_lines(make_row):
    rows = [
        make_row(0),
        make_row(1, wall_clock_s=1.5, error="agent raised ValueError: no"),
        make_row(2),
    ]
    text = human_summary(
        document_of(rows), {"summary": "out/s.json"}, stamp=STAMP, next_command="python x --resume"
    )
    assert text.splitlines() == [
        f"slice {STAMP}: 2 passed, 1 failed",
        "  wall clock  p50 250 ms, p95 1.5 s, longest 1.5 s",
        "  throughput  6.0/s, on 2 workers, 500 ms in all",
        "  artifacts   3 kB, 3 files, 1 kB each, in runs",
        "  model calls 6, tokens: 150",
        "  failures",
        "    times  reason",
        "        1  agent raised ValueError: no",
        "  summary     out/s.json",
        "  next        python x --resume",
    ]


def test_waiting_for_models_is_shown_apart_from_computing(make_row):
    rows = [make_row(place, wall_clock_s=1.5, model_calls=2, model_wait_s=1.0) for place in (0, 1)]
    lines = human_summary(document_of(rows), {}, stamp=STAMP).splitlines()
    assert "  computing   p50 500 ms, without 2 s waited for models" in lines


def test_an_empty_or_interrupted_slice_says_how_far_it_came(make_row):
    text = human_summary(document_of([], elapsed_s=None, episodes_requested=4), {}, stamp=STAMP)
    assert text == f"slice {STAMP}: 0 passed, 0 failed, incomplete: 0 of 4"
    document = document_of([make_row(0)], episodes_requested=9, interrupted=True)
    text = human_summary(document, {}, stamp=STAMP)
    assert text.startswith(f"slice {STAMP}: 1 passed, 0 failed, interrupted after 1 of 9\n")


def test_five_reasons_are_shown_the_most_frequent_first(make_row):
    rows = [make_row(index, error=f"reason {index % 8}") for index in range(20)]
    lines = human_summary(document_of(rows), {}, stamp=STAMP).splitlines()
    start = lines.index("  failures")
    assert [line.split(maxsplit=1)[1] for line in lines[start + 2 : start + 7]] == [
        f"reason {index}" for index in range(5)
    ]
    assert lines[start + 7].strip() == "and 3 more in the summary file"


def test_what_agents_say_moves_no_cursor(make_row):
    rows = [make_row(0, error="\x1b[2J\nforged line\r" + "x" * 500)]
    text = human_summary(
        document_of(rows, runs_root="runs\x1b[31m"),
        {"summary": "a\nb"},
        stamp=STAMP,
        next_command="c\rd",
    )
    assert all(line.isprintable() for line in text.split("\n"))
    assert all(len(line) < 130 for line in text.split("\n"))
    assert "\\x1b[2J\\nforged line\\r" in text
