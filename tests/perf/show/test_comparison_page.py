from helpers.github import read_outputs, read_tables
from helpers.sets import DEFAULTS, TASKS, only

from tracecore.perf.compare.comparison import compare_paths, exit_code_of
from tracecore.perf.show.comparison_page import comparison_page
from tracecore.perf.show.github import output_lines, view_of_comparison
from tracecore.perf.show.markdown import write_markdown_within


def page_of(document, bytes_most=900_000):
    return write_markdown_within(comparison_page(document), bytes_most, 3)


def compared(base, new, options=DEFAULTS):
    document = compare_paths(base, new, options)
    return {
        "ok": not exit_code_of(document, options),
        "exit_code": exit_code_of(document, options),
        **document,
    }


def test_the_page_of_a_comparison_names_what_got_worse_first_and_folds_the_rest(sets):
    document = compared(sets.five(), sets.five(slower={TASKS[1]: 1.3}))
    page = page_of(document)
    assert page.startswith("### Perf: FAIL - comparison: regressed\n")
    (rows, _), (header, worse), (_, every) = read_tables(page)
    assert rows[1:] == ["behaviour", "work", "cpu", "wall"]
    assert header == ["scenario row", "metric", "base", "new", "change", "95% interval", "verdict"]
    named = [row for row in worse if row[-1] == "**✘ regressed**"]
    assert [row[0].strip("`") for row in named] == [TASKS[1]]
    assert named[0][2:5] == ["10.10 ms", "13.13 ms", "+30.0%"]
    assert len(every) == len(document["decisions"])
    assert page.index("| scenario row") < page.index("<details>")
    assert page.count("<details>") == page.count("</details>") == 2


def test_the_page_of_the_working_tree_against_a_commit_names_the_commit(sets):
    comparison = compared(sets.five(), sets.five())
    document = {
        **comparison,
        "base": {"ref": "release|1", "git_sha": "a" * 40},
        "comparison": comparison,
    }
    page = page_of(document)
    assert page.startswith("### Perf: PASS - comparison against release\\|1: unchanged\n")
    assert f"| base | 5 runs, commit {'a' * 40}" in page


def test_changed_behaviour_is_a_table_whose_texts_end_no_cell(sets):
    change = only(
        1,
        success=False,
        termination_reason="logic_failure",
        failure_type="logic_failure",
        error="a|b <img>\n`c`",
    )
    page = page_of(compared([sets.write()], [sets.write(change=change)]))
    tables = read_tables(page)
    (behaviour,) = [body for header, body in tables if "changed episodes" in header]
    assert {row[2] for row in behaviour} == {"1 of 6"}
    assert "<img" not in page


def test_runs_that_cannot_be_compared_fail_by_name(sets):
    document = compared([sets.write()], [sets.write(manifest={"strict_spec": True})])
    page = page_of(document)
    assert page.startswith("### Perf: FAIL - comparison: not comparable\n")
    assert "strict\\_spec" in page
    view = view_of_comparison(document)
    assert list(view.errors) == document["reasons"]
    assert read_outputs(output_lines(view.outputs)) == {
        "verdict": "fail",
        "comparison": "not_comparable",
        "exit_code": "2",
        "regressions": "0",
    }


def test_a_page_that_would_be_too_large_loses_figures_first(sets):
    page = page_of(compared(sets.five(), sets.five(slower={TASKS[1]: 1.3})), bytes_most=3500)
    assert len(page.encode()) <= 3500
    assert "more figures" in page
    assert page.rstrip().endswith("</details>")
