"""`make pictures`: the pictures of the console in the docs, of a small trading day that is played for them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import requests
from playwright.sync_api import Browser
from tests.e2e.browser import running_browser
from tests.e2e.client import CHANGE_BATCH_QUANTITY, Client
from tests.e2e.service import Service
from tests.e2e.waiting import PATIENCE, eventually

FOLDER = Path(__file__).parents[2] / "docs/console"

DESK, PHONE = (1280, 800), (360, 740)

BATCHES: dict[str, list[tuple[str, int, str | None]]] = {
    "FLOOR-LAMP-BRASS": [("WH-2201", 40, None), ("SHIP-31", 120, "2031-02-01")],
    "OAK-TABLE-180": [("WH-2202", 60, None), ("SHIP-32", 40, "2031-01-20"), ("SHIP-33", 40, "2031-03-02")],
    "RED-CHAIR": [("WH-2203", 80, None), ("WH-2204", 40, None), ("SHIP-34", 200, "2031-01-12")],
    "SIDEBOARD-WALNUT": [("WH-2205", 12, None)],
    "TABLE-LAMP-OPAL": [("SHIP-35", 90, "2026-01-12")],
    "WOOL-BLANKET-GREY": [("WH-2206", 500, None), ("SHIP-36", 250, "2031-01-20")],
    "WOOL-BLANKET-RUST": [("WH-2207", 300, None)],
}

LINES = """
    WOOL-BLANKET-GREY 42, RED-CHAIR 12, OAK-TABLE-180 8, RED-CHAIR 6, SIDEBOARD-WALNUT 9, FLOOR-LAMP-BRASS 25,
    RED-CHAIR 20, TABLE-LAMP-OPAL 30, WOOL-BLANKET-RUST 15, RED-CHAIR 4, OAK-TABLE-180 40, RED-CHAIR 8,
    SIDEBOARD-WALNUT 3, WOOL-BLANKET-GREY 120, RED-CHAIR 16, FLOOR-LAMP-BRASS 15, SIDEBOARD-WALNUT 2, RED-CHAIR 7
"""


WAREHOUSE: list[tuple[str, dict[str, Any]]] = [
    ("dispatch", {"orderid": "web-1042", "dispatch_id": "P-77", "lines": [{"lineid": "RED-CHAIR", "qty": 12}]}),
    (
        "return_line",
        {"orderid": "web-1042", "lineid": "RED-CHAIR", "qty": 2, "return_id": "R-5", "condition": "check"},
    ),
    (
        "receive_batch",
        {
            "ref": "SHIP-32",
            "receipt_id": "IN-12",
            "received": 25,
            "damaged": 3,
            "rest": {"ref": "SHIP-32-REST", "eta": "2031-02-20"},
        },
    ),
    ("dispatch", {"orderid": "web-1049", "dispatch_id": "P-78", "lines": [{"lineid": "WOOL-BLANKET-RUST", "qty": 15}]}),
    ("create_batch", {"ref": "WH-2190", "sku": "WOOL-BLANKET-GREY", "qty": 60, "expires": "2026-01-31"}),
    (
        "place_order",
        {
            "orderid": "shop-204",
            "mode": "partial",
            "priority": 8,
            "needed_by": "2031-02-15",
            "lines": [{"sku": "FLOOR-LAMP-BRASS", "qty": 130}, {"sku": "SIDEBOARD-WALNUT", "qty": 6}],
        },
    ),
    ("place_order", {"orderid": "web-1060", "mode": "backorder", "lines": [{"sku": "SIDEBOARD-WALNUT", "qty": 4}]}),
    (
        "place_order",
        {
            "orderid": "web-1061",
            "mode": "backorder",
            "needed_by": (datetime.now(UTC) - timedelta(days=2)).date().isoformat(),
            "lines": [{"sku": "SIDEBOARD-WALNUT", "qty": 2}],
        },
    ),
    ("change_eta", {"ref": "SHIP-31", "eta": "2031-02-20"}),
    ("quarantine", {"ref": "WH-2207", "qty": 20, "reason": "suspect", "document": "Q-9"}),
]


def play(api: Client) -> None:
    for sku, batches in BATCHES.items():
        for ref, qty, eta in batches:
            api.add_batch(ref, sku, qty, eta)
    for number, line in enumerate(LINES.split(",")):
        sku, quantity = line.split()
        api.allocate(f"web-{1041 + number}", sku, int(quantity))
    api.change_batch_quantity("WH-2203", 60)
    eventually(lambda: len(api.events("RED-CHAIR")) > 3 + 7, "the batch has shrunk")
    for kind, data in WAREHOUSE:
        api.send(kind, **data)
    eventually(lambda: "WH-2207" in str(api.events("WOOL-BLANKET-RUST")[2:]), "the warehouse has done all that")
    api.say(CHANGE_BATCH_QUANTITY, json.dumps({"batchref": "WH-2230", "qty": 15}).encode())
    api.say(CHANGE_BATCH_QUANTITY, b'{"batchref": "WH-2205", "qty": "ten"}')
    eventually(lambda: dead_letters(api) == 2, "both letters are dead")


def dead_letters(api: Client) -> int:
    return requests.get(f"{api.url}/console/dead-letters", timeout=PATIENCE).text.count('name="letter"')


@contextmanager
def a_trading_day() -> Iterator[Client]:
    with TemporaryDirectory() as home:
        service = Service(Path(home), smtp_url="")
        service.start()
        try:
            api = service.until_ready()
            play(api)
            yield api
            service.signal(signal.SIGTERM)
            service.until_ended()
        finally:
            service.kill_all()


def take(
    browser: Browser,
    address: str,
    name: str,
    *,
    size: tuple[int, int] = DESK,
    colours: Literal["light", "dark"] = "light",
    until: str = "h1",
) -> None:
    width, height = size
    with browser.new_context(viewport={"width": width, "height": height}, color_scheme=colours) as context:
        page = context.new_page()
        page.goto(address)
        page.locator(until).first.wait_for()
        page.screenshot(path=FOLDER / f"{name}.png", animations="disabled")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with a_trading_day() as api, running_browser() as browser:
        console = f"{api.url}/console"
        live = '[data-state="live"]'
        take(browser, console, "stock", until=live)
        take(browser, console, "stock-dark", colours="dark", until=live)
        take(browser, console, "stock-phone", size=PHONE)
        take(browser, f"{console}/product?sku=RED-CHAIR", "product")
        take(browser, f"{console}/product?sku=RED-CHAIR", "product-phone", size=PHONE, colours="dark")
        take(browser, f"{console}/order?id=web-1042", "order")
        take(browser, f"{console}/backorders", "backorders")
        take(browser, f"{console}/at-risk", "at-risk")
        take(browser, f"{console}/batches", "batches")
        take(browser, f"{console}/dead-letters", "dead-letters")


if __name__ == "__main__":
    main()
