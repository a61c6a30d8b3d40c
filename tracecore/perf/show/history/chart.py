"""Charts of a history: one measure of every scenario row, over releases."""

from typing import Any

import matplotlib as mpl

from tracecore.perf.show.charts.drawing import (
    DASHES,
    MARKERS,
    SERIES,
    STYLE,
    figure_with_axes,
    picture,
)
from tracecore.perf.show.page import Picture
from tracecore.records import JsonObject


def draw_measure(found: JsonObject, name: str, words: str) -> Picture:
    """One measure of the scenario rows of a machine class, with the spread between runs as bars."""
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_with_axes()
        styles = zip(found["rows"], SERIES, MARKERS, DASHES, strict=False)
        for row, colour, marker, dash in styles:
            places = [place for place, point in enumerate(row["points"]) if point[name] is not None]
            values = [_figures(name, row["points"][place][name]) for place in places]
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
        axes.set_ylim(bottom=0)
        axes.set_ylabel("ms" if name.endswith("_s") else words)
        caption = f"{words}, over the releases of {found['machine_class']}, oldest first."
        return picture(figure, name, words, caption)


def _figures(name: str, value: Any) -> tuple[float, float, float]:
    if name.endswith("_s"):
        return value["low"] * 1e3, value["median"] * 1e3, value["high"] * 1e3
    return value, value, value
