"""Small plots whose colours can be read on white and on black."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Points: TypeAlias = Sequence[tuple[float, float]]

_INK = "#808890"
_COLOURS = ("#3b8eea", "#e8833a", "#2fa36b", "#b06fd8")


def draw(
    file: Path,
    lines: Mapping[str, Points],
    *,
    x: str,
    y: str,
    log_y: bool = False,
) -> None:
    """Each line with its name beside its end; x grows by factors."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    text = {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "the same every time"}  # letters stay letters
    style: Any = text | dict.fromkeys(inked, _INK)
    with mpl.rc_context(style):
        figure = Figure(figsize=(6.4, 2.8), layout="constrained")
        axes = figure.add_subplot()
        for (name, points), colour in zip(lines.items(), _COLOURS, strict=False):
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, color=colour, marker="o", markersize=3.5, linewidth=1.6)
            axes.annotate(name, (xs[-1], ys[-1]), xytext=(8, 0), textcoords="offset points", color=colour, va="center")
        ticks = sorted({at for points in lines.values() for at, _ in points})
        axes.set_xscale("symlog" if ticks[0] == 0 else "log")
        axes.set_xticks(ticks, [f"{at:,.0f}" for at in ticks])
        if log_y:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda at, _: f"{at:,g}")
        else:
            axes.set_ylim(bottom=0)
        axes.minorticks_off()
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(axis="y", color=_INK, alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, transparent=True, metadata={"Date": None, "Creator": None})
