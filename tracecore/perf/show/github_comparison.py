"""A comparison as GitHub shows it: what ``github.py`` does for a slice."""

from collections.abc import Callable, Mapping
from typing import Final

from tracecore.perf.compare.wording import UNITS
from tracecore.perf.show.github import (
    ROWS_SHOWN,
    SUMMARY_BYTES_MOST,
    commands,
    escape,
    more_rows,
    output_lines,
    page_with_rows,
    write_where_asked,
)
from tracecore.records import JsonObject


def tell_github_of_comparison(
    document: JsonObject,
    step_summary: str | None,
    say: Callable[[str], None],
    environ: Mapping[str, str] | None = None,
) -> None:
    """Write the page, annotations and outputs as far as GitHub, or ``--step-summary``, asks for
    them.

    Args:
        document: What ``ab`` or ``compare`` says on stdout.
        step_summary: A file for the page, ``off`` for nothing of all this, or None for what the
            environment says.
        say: Takes a line for stderr: annotations, and what could not be written.
        environ: The environment; this process's own unless a test says otherwise.
    """
    write_where_asked(
        step_summary,
        say,
        environ,
        page=lambda: comparison_page(document),
        annotations=lambda: comparison_annotations(document),
        outputs=lambda: comparison_outputs(document),
    )


def comparison_page(document: JsonObject, *, bytes_most: int = SUMMARY_BYTES_MOST) -> str:
    """The page in GitHub's Markdown: the verdict and what it rests on; as many figures as there is
    room for, folded away.
    """
    comparison = _comparison_in(document)
    top = "\n".join([_headline(document), *_time_table(comparison), *_behaviour_table(comparison)])
    tail = "\n".join(["", *_side_lines(document), "", "</details>", ""])
    head = ["<details><summary>All figures, and what was compared</summary>", "", *_FIGURES_HEAD]
    rows = [_figure_row(one) for one in comparison.get("decisions", ())]
    return page_with_rows(
        [top, "", *head], rows, "figures, in the comparison's own document", tail, bytes_most
    )


def _comparison_in(document: JsonObject) -> JsonObject:
    """Of ``ab`` a part of the document, of ``compare`` the document itself."""
    found: JsonObject = document.get("comparison", document)
    return found


def _headline(document: JsonObject) -> str:
    word = "PASS" if document["exit_code"] == 0 else "FAIL"
    base = document["base"]
    against = f" against {escape(base['ref'])}" if isinstance(base, dict) else ""
    verdict = document["verdict"].replace("_", " ")
    reasons = [f"- {escape(reason)}" for reason in document["reasons"][:ROWS_SHOWN]]
    return "\n".join(
        [
            f"### Perf: {word} - comparison{against}: {verdict}",
            "",
            *reasons,
            *more_rows(document["reasons"]),
            "",
        ]
    )


def _time_table(comparison: JsonObject) -> list[str]:
    moved = [
        one
        for one in comparison.get("decisions", ())
        if one["warns"] or one["verdict"] in {"regressed", "improved"}
    ]
    if not moved:
        return []
    return [*_FIGURES_HEAD, *map(_figure_row, moved[:ROWS_SHOWN]), *more_rows(moved), ""]


_FIGURES_HEAD: Final = (
    "| scenario | metric | base | new | change | 95% interval | verdict |",
    "|---|---|---|---|---|---|---|",
)


def _figure_row(one: JsonObject) -> str:
    words, factor, unit = UNITS[one["metric"]]
    interval = "unbounded"
    if one["interval"]:
        interval = " to ".join(f"{100 * (bound - 1):+.1f}%" for bound in one["interval"])
    verdict = one["verdict"].replace("_", " ") + ("" if one["gates"] else ", does not gate")
    figures = [f"{one[side] * factor:.2f} {unit}" for side in ("base", "new")]
    cells = [
        escape(one["row"]),
        words,
        *figures,
        f"{100 * (one['ratio'] - 1):+.1f}%",
        interval,
        verdict,
    ]
    return f"| {' | '.join(cells)} |"


def _behaviour_table(comparison: JsonObject) -> list[str]:
    changes = comparison.get("exact", {}).get("changes", [])
    if not changes:
        return []
    head = [
        "| scenario | behaviour | changed episodes | for example | verdict |",
        "|---|---|---|---|---|",
    ]
    return [*head, *map(_change_row, changes[:ROWS_SHOWN]), *more_rows(changes), ""]


def _change_row(change: JsonObject) -> str:
    example = ""
    if change["examples"]:
        first = change["examples"][0]
        example = f"seed {first['seed']}: {first['base']!r} to {first['new']!r}"
    verdict = change["verdict"].replace("_", " ") + ("" if change["gates"] else ", does not gate")
    amount = f"{change['changed']} of {change['compared']}"
    cells = [
        escape(change["row"]),
        change["quantity"].replace("_", " "),
        amount,
        escape(example),
        verdict,
    ]
    return f"| {' | '.join(cells)} |"


def _side_lines(document: JsonObject) -> list[str]:
    comparison = _comparison_in(document)
    lines = [""]
    for side in ("base", "new"):
        runs = comparison.get(side, [])
        commits = sorted(
            {str(run["git_sha"]) + (" with changes" if run["dirty"] else "") for run in runs}
        )
        classes = sorted({str(run["machine_class"]) for run in runs})
        of_what = (
            f"{side}: {len(runs)} runs, commit {', '.join(commits)}, machine class"
            f" {', '.join(classes)}"
        )
        lines.append(f"- {escape(of_what)}")
    return lines


# --- annotations and outputs


def comparison_annotations(document: JsonObject) -> list[str]:
    """Workflow commands: an error per reason of a bad verdict, a warning per figure that warns;
    five of each at most.
    """
    comparison = _comparison_in(document)
    errors = (comparison.get("breaches") or document["reasons"]) if document["exit_code"] else []
    warnings = [
        f"{one['row']}: {UNITS[one['metric']][0]} {100 * (one['ratio'] - 1):+.1f}%"
        for one in comparison.get("decisions", ())
        if one["warns"]
    ]
    return [*commands("error", errors), *commands("warning", warnings)]


def comparison_outputs(document: JsonObject) -> str:
    """Lines for ``GITHUB_OUTPUT``: as of a slice, with ``comparison``, the verdict's own word."""
    values = {
        "verdict": "pass" if document["exit_code"] == 0 else "fail",
        "comparison": document["verdict"],
        "exit_code": document["exit_code"],
        "regressions": len(_comparison_in(document).get("breaches", ())),
        **({"folder": document["folder"]} if "folder" in document else {}),
    }
    return output_lines(values.items())
