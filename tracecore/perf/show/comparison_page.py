"""What a comparison of slices came to: its legs, what changed, and the figures of every row."""

from collections.abc import Iterable, Sequence
from typing import Final

from tracecore.perf.compare.wording import UNITS
from tracecore.perf.show.page import (
    Badge,
    Block,
    Bullets,
    Code,
    Fact,
    Facts,
    Figure,
    Line,
    Page,
    Section,
    Sentence,
    Status,
    Table,
    first_rows,
    sections_of,
)
from tracecore.perf.show.terminal import write_text
from tracecore.records import JsonObject

FUNCTIONS_SHOWN: Final = 3  # of those that grew most, per scenario row
STATUSES: Final[dict[str, Status]] = {
    "PASS": "good",
    "FAIL": "bad",
    "NO ANSWER": "warn",
    "regressed": "bad",
    "changed": "bad",
    "missing": "bad",
    "improved": "good",
    "unchanged": "good",
    "inconclusive": "warn",
    "not_comparable": "warn",
}
CELLS: Final = ("row", "behaviour", "work", "cpu", "wall")
FIGURES_HEAD: Final = ("scenario row", "metric", "base", "new", "change", "95% interval", "verdict")


def show_comparison(document: JsonObject) -> str:
    """A comparison, as what ``ab`` or ``compare`` writes to stdout, for a terminal; no line ends
    the text.
    """
    return write_text(comparison_sections(comparison_in(document)))


def comparison_page(document: JsonObject) -> Page:
    """A comparison for the summary of a job: figures and sides folded away."""
    comparison, headline = comparison_in(document), headline_of(document)
    base = document["base"]
    against = f" against {base['ref']}" if isinstance(base, dict) else ""
    return Page(
        title=f"Perf: {headline} - comparison{against}: {_words(document['verdict'])}",
        answer=Badge(STATUSES[headline], headline),
        about=(),
        lead=(),
        sections=(
            *comparison_sections(comparison),
            *sections_of(
                Section("figures", "All figures", _all_figures(comparison), is_folded=True),
                Section("sides", "What was compared", _sides(comparison), is_folded=True),
            ),
        ),
    )


def comparison_in(document: JsonObject) -> JsonObject:
    """Of ``ab`` a part of the document, of ``compare`` the document itself."""
    found: JsonObject = document.get("comparison", document)
    return found


def headline_of(document: JsonObject) -> str:
    """PASS, FAIL or NO ANSWER."""
    headline = document.get("headline") or comparison_in(document).get("headline")
    return str(headline or ("FAIL" if document.get("exit_code") else "PASS"))


def comparison_sections(comparison: JsonObject | None) -> tuple[Section, ...]:
    """The section on a comparison, wherever there was one."""
    if not comparison:
        return ()
    return (
        Section(
            "compared",
            "Comparison",
            (
                *_answer(comparison),
                *_row_table(comparison),
                *_behaviour(comparison),
                *_work(comparison),
                *_moved(comparison),
            ),
        ),
    )


def _answer(comparison: JsonObject) -> Iterable[Block]:
    verdict = str(comparison.get("headline") or _words(comparison["verdict"]))
    status = STATUSES.get(verdict, STATUSES.get(comparison["verdict"], "plain"))
    answer = comparison.get("answer")
    yield Sentence((Badge(status, verdict), f": {answer}" if answer else ""))
    lines = [
        (Badge(STATUSES.get(one["verdict"], "plain"), one["leg"]), f": {one['sentence']}")
        for one in comparison.get("legs", ())
    ]
    if lines or comparison.get("reasons"):
        yield Bullets(tuple(lines or comparison["reasons"]))


def _row_table(comparison: JsonObject) -> tuple[Block, ...]:
    rows = [tuple(str(one.get(name, "")) for name in CELLS) for one in comparison.get("table", ())]
    return (Table("Scenario rows compared", ("", *CELLS[1:]), tuple(rows)),) if rows else ()


def _behaviour(comparison: JsonObject) -> tuple[Block, ...]:
    rows = [
        (
            Code(change["row"]),
            _words(change["quantity"]),
            f"{change['changed']} of {change['compared']}",
            _verdict(change),
            "".join(
                f"seed {one['seed']}: {one['base']!r} to {one['new']!r}"
                for one in change["examples"][:1]
            ),
        )
        for change in comparison.get("exact", {}).get("changes", ())
    ]
    return first_rows(
        rows,
        "Changes of behaviour",
        head=("scenario row", "behaviour", "changed episodes", "verdict", "for example"),
    )


def _work(comparison: JsonObject) -> tuple[Block, ...]:
    """Counts that grew, and the functions in which."""
    rows = [
        (
            Code(one["row"]),
            f"{one['process']} {_words(one['quantity'])}",
            Figure("count", one["base"]),
            Figure("count", one["new"]),
            _change(one),
            _functions(one),
        )
        for one in comparison.get("work", ())
        if one["verdict"] != "unchanged"
    ]
    return first_rows(
        rows,
        "Changes of work",
        head=("scenario row", "work", "base", "new", "change", "most in"),
    )


def _functions(one: JsonObject) -> str:
    return "; ".join(
        f"{part['module']}:{part['function']} {part['base']:,} to {part['new']:,}"
        for part in one.get("grew", ())[:FUNCTIONS_SHOWN]
    )


def _moved(comparison: JsonObject) -> tuple[Block, ...]:
    moved = [
        one
        for one in comparison.get("decisions", ())
        if one["warns"] or one["verdict"] in {"regressed", "improved"}
    ]
    return first_rows(map(_figure_row, moved), "Figures that moved", FIGURES_HEAD)


def _all_figures(comparison: JsonObject) -> tuple[Block, ...]:
    rows = tuple(map(_figure_row, comparison.get("decisions", ())))
    where = "figures, in the comparison's own document"
    return (Table("All figures", FIGURES_HEAD, rows, where),) if rows else ()


def _figure_row(one: JsonObject) -> tuple[Line, ...]:
    words, factor, unit = UNITS[one["metric"]]
    base, new = (f"{one[side] * factor:.2f} {unit}" for side in ("base", "new"))
    interval = " to ".join(f"{100 * (bound - 1):+.1f}%" for bound in one["interval"] or ())
    return Code(one["row"]), words, base, new, _change(one), interval or "unbounded", _verdict(one)


def _change(one: JsonObject) -> str:
    return f"{100 * (one['ratio'] - 1):+.1f}%" if one.get("ratio") else ""


def _verdict(one: JsonObject) -> Line:
    status = STATUSES.get(one["verdict"], "plain")
    return Badge(status, _words(one["verdict"])), "" if one["gates"] else ", does not gate"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _sides(comparison: JsonObject) -> tuple[Block, ...]:
    return (Facts(tuple(_side(side, comparison.get(side, ())) for side in ("base", "new"))),)


def _side(side: str, runs: Sequence[JsonObject]) -> Fact:
    commits = {str(run["git_sha"]) + (" with changes" if run["dirty"] else "") for run in runs}
    classes = {str(run["machine_class"]) for run in runs}
    return Fact(
        side,
        f"{len(runs)} runs, commit {', '.join(sorted(commits))}",
        f"machine class {', '.join(sorted(classes))}",
    )
