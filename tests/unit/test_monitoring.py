"""The dashboard and the alerts ask for what is there: every metric and label in them is one that is exposed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from allocation.observability.metrics import Metrics
from allocation.observability.server_metrics import BackingServicesCollector, Probe
from allocation.views import due_dates
from messaging.redis.lag import Lag
from messaging.sql.backlog import Backlog, Waiting

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "monitoring/grafana.json").read_text())
ALERTS = yaml.safe_load((ROOT / "monitoring/alerts.yml").read_text())
OF_PROMETHEUS = {"le", "instance", "job"}

_NAME = re.compile(r"\ballocation_\w+")
_SELECTED = re.compile(r"(allocation_\w+)\{([^}]*)\}")


def exposed() -> dict[str, set[str]]:
    """The labels of each series that can be asked for."""
    found: dict[str, set[str]] = {}
    for metric in Metrics().__dict__.values():
        if hasattr(metric, "describe"):
            [family] = metric.describe()
            endings = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}[family.type]
            for ending in endings:
                found[family.name + ending] = set(metric._labelnames)
    look = Probe(
        lambda: Waiting([Backlog("mail")], 0), lambda: Lag(0, 0, None), lambda: 0, lambda: due_dates.Backlog(0.0, 0)
    )
    for gauge in BackingServicesCollector(look, "1").collect():
        found[gauge.name] = {label for sample in gauge.samples for label in sample.labels}
    return found


EXPOSED = exposed()


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def rules() -> Iterator[dict[str, Any]]:
    yield from (rule for group in ALERTS["groups"] for rule in group["rules"])


QUERIES = [
    *((f"{panel['title']}", target["expr"]) for panel in panels() for target in panel["targets"]),
    *((rule["alert"], rule["expr"]) for rule in rules()),
    ("instance", DASHBOARD["templating"]["list"][1]["query"]["query"]),
]


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_every_query_is_about_what_is_exposed(title: str, query: str) -> None:
    names = set(_NAME.findall(query.replace('job="allocation"', "")))

    assert names <= EXPOSED.keys()
    assert names or title == "AllocationDown"
    assert query.count("(") == query.count(")")


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_every_label_is_one_that_the_series_has(title: str, query: str) -> None:
    known = set[str]().union(*(EXPOSED[name] for name in _NAME.findall(query) if name in EXPOSED)) | OF_PROMETHEUS
    for name, selectors in _SELECTED.findall(query):
        assert set(re.findall(r"(\w+)\s*(?:=~|!=|=)", selectors)) <= EXPOSED[name] | OF_PROMETHEUS
    for grouped in re.findall(r"by \(([^)]*)\)", query):
        assert set(re.split(r",\s*", grouped)) <= known


def test_every_metric_is_on_the_dashboard_and_in_the_docs() -> None:
    shown = {name for _, query in QUERIES for name in _NAME.findall(query)}
    explained = set(re.findall(r"`(allocation_\w+)`", (ROOT / "docs/metrics.md").read_text()))
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in EXPOSED}

    assert {re.sub("_(bucket|count|sum)$", "", name) for name in shown} >= families
    assert explained == families


def test_panels_have_places_of_their_own_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert all(panel["description"] for panel in panels())
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_an_alert_says_how_bad_it_is_and_what_is_wrong() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
