"""The figures as a picture: one panel for each figure, one bar for each peer."""

from __future__ import annotations

import statistics
import textwrap
from pathlib import Path

from benchmarks.figures import BY_KEY
from benchmarks.results import Results

PANELS = (
    "bulk_down", "bulk_many_down", "cpu_down", "round_trip_p50", "requests", "pgbench_1",
    "pgbench_8", "paced_p50", "connections", "idle_memory",
)  # fmt: skip
"""Which figures are drawn, where there are values."""

COLUMNS = 2
LABEL_CHARACTERS = 26
OURS_COLOUR, OTHERS_COLOUR = "#2563eb", "#9ca3af"


class NoPlot(Exception):
    """There is nothing to draw with, or nothing to draw. The message says which."""


def draw(results: Results, folder: Path, name: str) -> list[Path]:
    """Draw the medians, with the lowest and the highest round as a line; give PNG and SVG.

    Raises:
        NoPlot: matplotlib is not installed, or there are no figures to draw.
    """
    peers = [each for each in results.labels if each != "direct"]
    panels = [key for key in PANELS if any(results.values(each, key) for each in peers)]
    if not panels:
        raise NoPlot("no figure that is drawn was measured")
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        raise NoPlot("matplotlib is not installed: pip install 'hybridge[bench]'") from None
    rows = -(-len(panels) // COLUMNS)
    height = 0.9 + 0.3 * len(peers)
    canvas = Canvas(figsize=(12, rows * height), layout="constrained")
    axes = canvas.subplots(rows, COLUMNS, squeeze=False).flatten()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, key in zip(axes, panels, strict=False):
        figure = BY_KEY[key]
        shown = [each for each in peers if results.values(each, key)]
        spans = [results.values(each, key) for each in shown]
        medians = [statistics.median(values) for values in spans]
        below = [middle - min(values) for middle, values in zip(medians, spans, strict=True)]
        above = [max(values) - middle for middle, values in zip(medians, spans, strict=True)]
        axis.barh(
            [textwrap.fill(results.labels[each], LABEL_CHARACTERS) for each in shown],
            medians,
            xerr=(below, above),
            color=[OURS_COLOUR if each.startswith("hybridge") else OTHERS_COLOUR for each in shown],
            error_kw={"elinewidth": 1, "capsize": 2},
        )
        better = "longer is better" if figure.is_better_high else "shorter is better"
        axis.set_title(f"{figure.title}, {figure.unit} ({better})", fontsize=9, loc="right")
        axis.tick_params(labelsize=8)
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        canvas.savefig(path, dpi=110)
    return paths
