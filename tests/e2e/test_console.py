"""The console as a person has it: in a browser, by mouse and by keyboard, on a desk and on a phone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect
from tests.e2e.browser import Watched, running_browser
from tests.e2e.client import CHANGE_BATCH_QUANTITY, Client, random_batchref, random_orderid, random_sku
from tests.e2e.service import Service
from tests.e2e.waiting import PATIENCE, eventually

A_DESK: ViewportSize = {"width": 1280, "height": 800}
A_PHONE: ViewportSize = {"width": 360, "height": 740}
Colours: TypeAlias = Literal["light", "dark"]

expect.set_options(timeout=1000 * PATIENCE)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture
def desk(browser: Browser, api: Client) -> Iterator[Watched]:
    """Whatever is done there, no page may complain or ask another host for anything."""
    with browser.new_context() as context:
        watched = Watched(context, api.url)
        yield watched
    assert watched.complaints == []


@pytest.fixture
def phone(browser: Browser, api: Client) -> Iterator[Watched]:
    with browser.new_context(viewport=A_PHONE, is_mobile=True, has_touch=True, color_scheme="dark") as context:
        watched = Watched(context, api.url)
        yield watched
    assert watched.complaints == []


def focused(page: Page) -> str:
    """The text or name of what has the focus."""
    return str(page.evaluate("document.activeElement.innerText || document.activeElement.name"))


def tab_to(page: Page, what: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if focused(page) == what:
            return
    raise AssertionError(f"the keyboard does not reach {what}")


def test_by_keyboard_alone_one_finds_a_sku_and_why_there_are_as_many_as_there_are(desk: Watched, api: Client) -> None:
    sku, order = random_sku("<b>"), random_orderid()
    api.add_batch(random_batchref(), sku, 50)
    api.allocate(order, sku, 3)
    page = desk.open()

    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    tab_to(page, "q")
    page.keyboard.type(sku[4:].upper())
    page.keyboard.press("Enter")
    expect(page.get_by_role("row", name=sku)).to_contain_text("47")
    tab_to(page, sku)
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1)).to_have_text(sku)
    expect(page.get_by_role("heading", name="Why are 47 available?")).to_be_visible()
    newest = page.get_by_role("table", name="Events of this SKU").get_by_role("row").nth(1)
    expect(newest).to_contain_text(f"Order {order} was promised 3")
    assert newest.get_by_role("cell").all_inner_texts()[1:] == ["−3", "47", "0"]
    tab_to(page, order)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Order {order}")
    expect(page.get_by_role("row", name=sku)).to_contain_text("in the warehouse")


def test_a_bar_is_as_wide_as_what_it_stands_for_and_says_so(desk: Watched, api: Client) -> None:
    sku, batch = random_sku(), random_batchref()
    api.add_batch(batch, sku, 40)
    api.allocate(random_orderid(), sku, 10)

    page = desk.open(f"?q={sku}")

    bar = page.get_by_role("img", name=f"batch {batch}: 10 of 40 allocated, 30 available")
    allocated, available = (bar.locator(f".bar-{kind}").bounding_box() for kind in ("allocated", "available"))
    assert allocated
    assert available
    assert available["width"] == pytest.approx(3 * allocated["width"], abs=2)


def test_what_happens_meanwhile_is_shown_at_once(desk: Watched, api: Client) -> None:
    sku, order = random_sku("</script>"), random_orderid()
    api.add_batch(random_batchref(), sku, 10)
    page = desk.open()
    expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    expect(page.get_by_text("Stock has changed")).to_be_hidden()

    api.allocate(order, sku, 4)

    newest = page.get_by_role("list", name="Latest events").get_by_role("listitem").first
    expect(newest).to_contain_text(f"Order {order} was promised 4 of {sku}", timeout=5_000)
    expect(page.get_by_text("Stock has changed")).to_be_visible()
    newest.get_by_role("link", name=order).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Order {order}")


def test_a_feed_may_be_paused_and_goes_on_without_a_gap(desk: Watched, api: Client) -> None:
    sku, first, second = random_sku(), random_orderid("first"), random_orderid("second")
    api.add_batch(random_batchref(), sku, 10)
    page = desk.open()
    feed = page.get_by_role("list", name="Latest events")
    page.get_by_role("button", name="Pause").click()

    api.allocate(first, sku, 1)
    expect(page.get_by_role("status").filter(has_text="paused")).to_be_visible()
    expect(feed).not_to_contain_text(first)
    page.get_by_role("button", name="Go on").click()
    api.allocate(second, sku, 1)

    expect(feed.get_by_role("listitem").nth(0)).to_contain_text(second)
    expect(feed.get_by_role("listitem").nth(1)).to_contain_text(first)


def test_a_page_that_gets_no_stream_asks_again_and_again(desk: Watched, api: Client) -> None:
    def full(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"has_stream": False})

    desk.context.route("**/console/events?*", full)
    desk.context.route("**/console/events/stream*", lambda _: pytest.fail("it asked for a stream"))
    sku, order = random_sku(), random_orderid()
    api.add_batch(random_batchref(), sku, 10)
    page = desk.open()
    expect(page.get_by_role("status").filter(has_text="every 3 s")).to_be_visible()

    api.allocate(order, sku, 1)

    newest = page.get_by_role("list", name="Latest events").get_by_role("listitem").first
    expect(newest).to_contain_text(order, timeout=10_000)


def test_a_dead_letter_is_retried_once_it_can_be(desk: Watched, api: Client) -> None:
    sku, batch = random_sku(), random_batchref()
    api.say(CHANGE_BATCH_QUANTITY, json.dumps({"batchref": batch, "qty": 7}).encode())
    page = desk.open("/dead-letters")
    letter = page.get_by_role("listitem").filter(has_text=batch)

    def arrived() -> bool:
        page.reload()
        return letter.count() == 1

    eventually(arrived, "the letter is dead")
    letter.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("status")).to_have_text("The message was refused again; the reason is below.")
    api.add_batch(batch, sku, 10)
    letter.get_by_role("button", name="Retry").click()

    expect(page.get_by_role("status")).to_have_text("The message was handled.")
    expect(letter).to_have_count(0)
    page.goto(f"{api.url}/console/product?sku={quote(sku)}")
    expect(page.get_by_role("heading", name="Why are 7 available?")).to_be_visible()


def test_on_a_phone_in_the_dark_nothing_is_wider_than_the_screen(phone: Watched, api: Client) -> None:
    sku, order, batch = random_sku("W" * 150), random_orderid("O" * 150), random_batchref("B" * 150)
    api.add_batch(batch, sku, 123_456_789)
    api.allocate(order, sku, 987_654)
    api.say(CHANGE_BATCH_QUANTITY, json.dumps({"batchref": "X" * 200, "qty": 7}).encode())

    for path in ("", f"?q={sku}", f"/product?sku={sku}", f"/order?id={order}", "/dead-letters", "/nix"):
        page = phone.context.new_page()
        page.goto(f"{api.url}/console{path}")
        wide, screen, ground = page.evaluate(
            "[document.documentElement.scrollWidth, innerWidth, getComputedStyle(document.body).backgroundColor]"
        )
        assert wide <= screen == A_PHONE["width"], path
        assert ground == "rgb(20, 23, 22)", path
        page.close()
    phone.complaints = [said for said in phone.complaints if "404 (Not Found)" not in said]  # of /nix, as it should be


@pytest.mark.parametrize(("size", "colours"), [(A_DESK, "light"), (A_PHONE, "dark")], ids=["desk", "phone"])
def test_no_rule_of_accessibility_is_broken(
    browser: Browser, api: Client, colours: Colours, size: ViewportSize
) -> None:
    sku, order, batch = random_sku(), random_orderid(), random_batchref()
    api.add_batch(batch, sku, 50)
    api.allocate(order, sku, 20)
    api.allocate(order, sku, 40, lineid="2")
    api.send("dispatch", orderid=order, dispatch_id="parcel-1", lines=[{"lineid": sku, "qty": 5}])
    api.send("create_batch", ref=random_batchref("late"), sku=sku, qty=9, eta="2001-01-01")
    api.send("quarantine", ref=batch, qty=3, reason="damaged", document="quarantine-1")
    waits = [{"lineid": "3", "sku": sku, "qty": 99}]
    terms: dict[str, Any] = {"priority": 9, "needed_by": "2020-01-01", "locations": ["x"]}
    api.send("place_order", orderid=order, lines=waits, mode="backorder", **terms)
    eventually(lambda: "allocation.backordered.v1" in {event["type"] for event in api.events(sku)}, "the last is done")
    api.say(CHANGE_BATCH_QUANTITY, json.dumps({"batchref": random_batchref(), "qty": 7}).encode())

    with browser.new_context(viewport=size, color_scheme=colours) as context:
        page = context.new_page()
        of_sku = (
            f"?q={sku}",
            f"/product?sku={sku}",
            f"/order?id={order}",
            f"/backorders?sku={sku}",
            f"/at-risk?sku={sku}",
        )
        lists = "/backorders", "/at-risk", "/batches", "/batches?quarantined=1"
        for path in ("", *of_sku, *lists, "/dead-letters", "/sign-in", "/nix"):
            page.goto(f"{api.url}/console{path}")
            found = Axe().run(page)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"


def test_without_script_all_but_the_feed_works(browser: Browser, api: Client) -> None:
    sku = random_sku()
    api.add_batch(random_batchref(), sku, 10)
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{api.url}/console")
        page.get_by_role("searchbox").fill(sku)
        page.get_by_role("button", name="Search").click()
        page.get_by_role("row", name=sku).get_by_role("link").click()

        assert page.get_by_role("heading", name="Why are 10 available?").is_visible()


def test_with_keys_a_person_signs_in_and_out(browser: Browser, service: Service) -> None:
    made = service.command("keys", "create", random_batchref("ops"), "--scope", "read", "--scope", "operate")
    (key,) = [word for word in made.stdout.split() if word.startswith("alk_")]
    with service.second_api(API_KEYS="required") as (_, api), browser.new_context() as context:
        watched = Watched(context, api.url)
        page = watched.open("/dead-letters")
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")

        expect(page.get_by_role("heading", level=1)).to_have_text("Dead letters")
        (cookie,) = context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/console")
        page.get_by_role("link", name="Stock").click()
        expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        page.go_back()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert watched.complaints == []


def test_whoever_only_looks_does_not_hold_up_the_end(service: Service) -> None:
    with service.second_api() as (process, api):
        looking = [requests.get(f"{api.url}/console/events/stream", stream=True, timeout=PATIENCE) for _ in range(2)]
        assert [answer.status_code for answer in looking] == [200, 200]
        begun = time.monotonic()

        process.terminate()
        for answer in looking:
            list(answer.iter_lines())

        assert time.monotonic() - begun < 2
        assert process.wait(PATIENCE) == 0
