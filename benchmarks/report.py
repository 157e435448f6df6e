"""Writes docs/performance.md and its plots from the last results."""

from __future__ import annotations

from pathlib import Path
from string import Template

from benchmarks.plots import draw
from benchmarks.results import Results, Row

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results.json"
PAGE = ROOT / "docs/performance.md"
PLOTS = ROOT / "docs/performance"
_TEMPLATE = Path(__file__).with_name("performance.md")


def write(results: Results) -> None:
    PAGE.write_text(page(results), "utf-8")
    PLOTS.mkdir(exist_ok=True)
    plot(results, PLOTS)


def page(results: Results) -> str:
    with_goals = [row for row in results.rows if row.goal]
    table = ["| what | goal | measured | |", "|---|---|---|---|"]
    table += [f"| {row.what} | {row.wanted} | **{row.value}**{_behind(row)} | {row.verdict} |" for row in with_goals]
    others = ["| what | measured |", "|---|---|"]
    others += [f"| {row.what} | **{row.value}**{_behind(row)} |" for row in results.rows if not row.goal]
    met = sum(row.met for row in with_goals)
    return Template(_TEMPLATE.read_text("utf-8")).substitute(
        results.about, table="\n".join(table), others="\n".join(others), met=met, goals=len(with_goals)
    )


def _behind(row: Row) -> str:
    return f": {row.behind}" if row.behind else ""


def plot(results: Results, folder: Path) -> None:
    series = results.series
    answers = {"good answers": series["overload-rate"]}
    draw(folder / "throughput.svg", answers, x="clients", y="good answers a second")
    draw(
        folder / "latency.svg",
        {name: series[f"overload-{name}"] for name in ("p50", "p99")},
        x="clients",
        y="milliseconds",
        log_y=True,
    )
    draw(
        folder / "growth.svg",
        {"open batches": series["growth-open-batches"], "lines": series["growth-lines"]},
        x="lines, or open batches, that the SKU has already",
        y="milliseconds an allocation",
    )
