"""The history of archived slices as a page: what each release took, and where something changed."""

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tracecore.files import write_atomic
from tracecore.perf.documents.files import check_writable
from tracecore.perf.show.charts.drawing import STYLE, figure_with_axes, picture, styled
from tracecore.perf.show.page import (
    Badge,
    Block,
    Code,
    Figure,
    Line,
    Page,
    Picture,
    Section,
    Sentence,
    Status,
    Table,
)
from tracecore.perf.show.report import write_page
from tracecore.record import replace
from tracecore.records import JsonObject
from tracecore.units import NONE_TEXT, counted, seconds_text

# Each with the legs of a comparison whose changes it shows.
MEASURES: Final = (
    ("work_lines", "Python lines of an episode", {"work"}),
    ("cpu_s", "CPU time, median of the runs' medians", {"shape", "time"}),
    ("wall_s", "Wall clock, median of the runs' medians", {"shape", "time"}),
    ("artifact_bytes", "Bytes of a run artifact, mean", {"behaviour"}),
)
STATUSES: Final[dict[str, Status]] = {"regressed": "bad", "improved": "good"}


def write_history(document: JsonObject, folder: str) -> dict[str, str]:
    """Write ``perf-history.json``, ``.md`` and ``.html``, with charts where matplotlib is there.

    Returns:
        The paths, by what they are.

    Raises:
        InputError: ``folder`` cannot be made.
        OutputError: A file could not be written.
    """
    check_writable(folder)
    pictures = _pictures(document)
    path = os.path.join(folder, "perf-history")
    write_atomic(f"{path}.json", f"{json.dumps(document, indent=2)}\n".encode())
    paths = write_page(history_page(document, pictures), pictures, path)
    return {"history": f"{path}.json", "markdown": paths["markdown"], **paths}


def history_page(document: JsonObject, pictures: Sequence[Picture] = ()) -> Page:
    """The history as a page; ``pictures`` by class and measure."""
    releases = [one for found in document["classes"] for one in found["releases"]]
    latest, answer = releases[-1]["verdict"], releases[-1].get("answer")
    status = STATUSES.get(latest, "plain")
    lead = f"Against the one before: {answer}" if latest else "There is none before it."
    return Page(
        title="History",
        answer=Badge(status, f"latest release: {(latest or 'the first').replace('_', ' ')}"),
        about=tuple(
            f"{found['machine_class']}: {counted(len(found['releases']), 'release')}"
            for found in document["classes"]
        ),
        lead=(Sentence(lead),),
        sections=tuple(
            Section(
                f"class-{place}", found["machine_class"], tuple(_blocks(found, place, pictures))
            )
            for place, found in enumerate(document["classes"])
        ),
    )


def _blocks(found: JsonObject, place: int, pictures: Sequence[Picture]) -> Iterator[Block]:
    yield Table(
        "Releases",
        ("release", "from", "runs", "against the one before"),
        tuple(_release_row(one) for one in found["releases"]),
    )
    for name, words, legs in MEASURES:
        rows = tuple(_measure_row(row, name, legs, found["releases"]) for row in found["rows"])
        yield Sentence(words)
        yield Table(words, ("", *(one["name"] for one in found["releases"])), rows)
        yield from (one for one in pictures if one.name == f"{place}-{name}")


def _release_row(release: JsonObject) -> tuple[Line, ...]:
    verdict = release["verdict"]
    answer = (
        (
            Badge(STATUSES.get(verdict, "plain"), verdict.replace("_", " ")),
            f" {release['answer']}",
        )
        if verdict
        else NONE_TEXT
    )
    return Code(release["name"]), release["from"], Figure("count", release["runs"]), answer


def _measure_row(
    row: JsonObject, name: str, legs: set[str], releases: Sequence[JsonObject]
) -> tuple[Line, ...]:
    cells: list[Line] = [Code(row["row"])]
    for point, release in zip(row["points"], releases, strict=True):
        text = _value_text(name, point[name])
        is_changed = not legs.isdisjoint(release["changes"].get(row["row"], ()))
        cells.append((text, Badge("warn", " changed")) if is_changed else text)
    return tuple(cells)


def _value_text(name: str, value: Any) -> str:
    if value is None:
        return NONE_TEXT
    if not isinstance(value, dict):
        return f"{value:,.0f} B" if name == "artifact_bytes" else f"{value:,}"
    median, low, high = (seconds_text(value[part]) for part in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def _pictures(document: JsonObject) -> list[Picture]:
    """A chart per class and measure; none without matplotlib."""
    try:
        import matplotlib as mpl  # noqa: PLC0415  # the report extra
    except ModuleNotFoundError:
        return []
    with mpl.rc_context(STYLE):
        return [
            _draw_measure(found, f"{place}-{name}", name, words)
            for place, found in enumerate(document["classes"])
            for name, words, _ in MEASURES
            if any(point[name] is not None for row in found["rows"] for point in row["points"])
        ]


def _draw_measure(found: JsonObject, picture_name: str, name: str, words: str) -> Picture:
    """One measure of the scenario rows of a machine class, with the spread between runs as bars."""
    figure, (axes,) = figure_with_axes()
    for row, colour, marker, dash in styled(found["rows"]):
        places = [place for place, point in enumerate(row["points"]) if point[name] is not None]
        values = [_ends(name, row["points"][place][name]) for place in places]
        middles = [middle for _, middle, _ in values]
        bars = [
            [middle - low for low, middle, _ in values],
            [high - middle for _, middle, high in values],
        ]
        axes.errorbar(
            places, middles, bars, color=colour, marker=marker, linestyle=dash,
            label=row["row"], capsize=2, markersize=5,
        )  # fmt: skip
    names = [release["name"][:7] for release in found["releases"]]
    axes.set_xticks(range(len(names)), names)
    axes.set(ylim=(0, None), ylabel="ms" if name.endswith("_s") else words)
    drawn = picture(
        figure,
        name=picture_name,
        title=words,
        caption=f"{words}, over the releases of {found['machine_class']}, oldest first.",
    )
    return replace(drawn, file=f"perf-history-{picture_name}.svg")


def _ends(name: str, value: Any) -> tuple[float, float, float]:
    """The lowest, the middle and the highest of the runs, in the unit of the axis."""
    if name.endswith("_s"):
        return value["low"] * 1e3, value["median"] * 1e3, value["high"] * 1e3
    return value, value, value
