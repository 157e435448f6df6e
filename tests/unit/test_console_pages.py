"""What the console's pages say, and that none of them can be made to say, do or load anything else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fake_console import Console, dead_effect, dead_message
from tests.fakes import TODAY
from werkzeug.test import TestResponse

from allocation.domain.commands import (
    Allocate,
    CancelOrder,
    ChangeBatchQuantity,
    ChangeEta,
    CreateBatch,
    Dispatch,
    OrderedLine,
    ParcelLine,
    PlaceHold,
    PlaceOrder,
    Quarantine,
    ReceiveBatch,
    ReleaseLine,
    ReturnLine,
)
from allocation.domain.names import normal
from allocation.entrypoints import console as the_console
from allocation.entrypoints.console.bars import bar
from allocation.entrypoints.http.back_pressure import LONGEST_WAIT, WAITED
from allocation.validation import BadInput
from allocation.views import Batch
from messaging.envelope import Metadata
from messaging.errors import RequestInProgress

JANUARY = date(2031, 1, 1)
NASTY = "<script>alert(1)</script>\"'&"


@pytest.fixture
def console() -> Console:
    return Console()


class Text(HTMLParser):
    """What a person reads, and what a page loads or runs."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.inline: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("a", "bdi"):
            self.words.append(" ")
        for name, value in attrs:
            if name in ("href", "src", "action", "data-poll", "data-stream"):
                self.addresses.append(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(name)
        if tag == "style" or (tag == "script" and not dict(attrs).get("src")):
            self.inline.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def __str__(self) -> str:
        return " ".join("".join(self.words).split())


def said(html: str) -> str:
    return str(Text(html))


def furnish(console: Console, sku: str = "RED-CHAIR") -> None:
    console.given(
        CreateBatch("in-stock", sku, 20),
        CreateBatch("by-ship", sku, 100, date(2031, 1, 1)),
        Allocate("anna-1", sku, 12),
        Allocate("ben-2", sku, 8),
        Allocate("cleo-3", sku, 500),
        ChangeBatchQuantity("in-stock", 15),
    )


# --- stock -----------------------------------------------------------------------


def test_the_stock_is_listed_with_a_bar_of_batches_told_in_words(console: Console) -> None:
    furnish(console)

    page = console.look()

    assert page.status_code == 200
    assert "RED-CHAIR 3 12 92 8 allocated" in said(page.text)
    assert "batch in-stock: 12 of 15 allocated, 3 available" in page.text
    assert "batch by-ship, expected 2031-01-01: 8 of 100 allocated, 92 available" in page.text


def test_an_empty_house_says_so(console: Console) -> None:
    page = said(console.look().text)

    assert "Nothing was purchased yet." in page
    assert "Nothing has happened yet." in page


def test_a_part_of_a_name_finds_skus_and_a_whole_one_an_order_or_a_batch(console: Console) -> None:
    furnish(console)
    console.given(CreateBatch("b9", "OAK-TABLE", 5))

    assert "OAK-TABLE" not in said(console.look(q="chair").text.split("Latest events")[0])
    assert "/console/order?id=anna-1" in console.look(q="anna-1").text
    assert "Batch by-ship of RED-CHAIR" in said(console.look(q="by-ship").text)
    assert "no order or batch is called that" in said(console.look(q="nix").text)


def test_an_order_is_found_that_got_nothing_or_lost_what_it_had(console: Console) -> None:
    console.given(CreateBatch("b1", "CHAIR", 5), Allocate("ben-2", "CHAIR", 5), Allocate("cleo-3", "CHAIR", 500))
    console.given(ChangeBatchQuantity("b1", 1))

    for order in ("ben-2", "cleo-3"):
        page = said(console.look(q=order).text)
        assert f" Order {order}" in page.partition("Latest events")[0]
        assert "is called that" not in page


def test_a_long_list_goes_on_behind_the_last_sku(console: Console) -> None:
    console.given(*(CreateBatch(f"b{number}", f"SKU-{number:03}", 1) for number in range(30)))

    first = console.look()
    (following,) = re.findall(r'rel="next" href="([^"]+)"', first.text)
    second = console.browser.get(unescape(following))

    assert "SKU-024" in first.text.split("Latest events")[0]
    assert "SKU-025" not in first.text.split("Latest events")[0]
    assert "SKU-025" in second.text.split("Latest events")[0]
    assert 'rel="next"' not in second.text


def test_events_on_their_way_are_counted(console: Console) -> None:
    console.given(CreateBatch("b1", "CHAIR", 1), Allocate("o1", "CHAIR", 1))

    assert "events to Redis 2 – 0" in said(console.look().text)


# --- one SKU ---------------------------------------------------------------------


def test_a_skus_history_says_why_there_are_as_many_as_there_are(console: Console) -> None:
    furnish(console)

    page = said(console.look("/product", sku="RED-CHAIR").text)

    assert "Why are 3 available?" in page
    told = page.partition("What happened Change Available To come")[2]
    assert "Order ben-2 was promised 8 from batch by-ship −8 to come 3 92" in told
    assert "Order ben-2 lost its 8 from batch in-stock +8 3 100" in told
    assert "Batch in-stock holds 15 now −5 −5 100" in told
    assert "Order cleo-3 asked for 500: out of stock 0 100" in told
    assert "Batch by-ship will bring 100 on 2031-01-01 +100 to come 20 100" in told
    assert "Batch in-stock brought 20, in the warehouse +20 20 0" in told


def test_the_list_and_the_page_of_a_sku_say_the_same_by_the_same_word(console: Console) -> None:
    furnish(console)

    listed = said(console.look().text)
    page = said(console.look("/product", sku="RED-CHAIR").text)

    assert "SKU Available Allocated To come RED-CHAIR 3 12 92 8 allocated" in listed
    assert "Available now 3 In the warehouse 15 Allocated 12 To come, available 92 To come, allocated 8" in page


def test_a_history_names_whoever_asked(console: Console) -> None:
    console.given(CreateBatch("b1", "CHAIR", 9))
    console.service.bus.handle(Allocate("o1", "CHAIR", 2), Metadata.first("http", principal="api_key:<till>"))

    page = said(console.look("/product", sku="CHAIR").text)

    assert "by <till> Order o1 was promised 2" in page
    assert page.count(" by ") == 1, "nobody had to say who bought the batch"


def test_a_long_history_goes_on_with_what_is_older(console: Console) -> None:
    console.given(CreateBatch("b1", "CHAIR", 1_000), *(Allocate(f"o{number}", "CHAIR", 1) for number in range(60)))

    newest = console.look("/product", sku="CHAIR")
    older = console.look("/product", sku="CHAIR", before=12)

    assert "before=12" in newest.text
    assert "Order o9 was promised 1 from batch b1 −1 990" in said(older.text)
    assert "brought 1,000" in said(older.text)


def test_a_sku_that_was_never_purchased_is_not_found(console: Console) -> None:
    for sku in ("nix", "", "a\0b", "x" * 256):
        page = console.look("/product", sku=sku)
        assert (page.status_code, page.mimetype) == (404, "text/html")


def test_what_was_dispatched_or_cannot_be_sold_is_told_apart_from_what_is_available(console: Console) -> None:
    console.given(
        CreateBatch("by-ship", "LAMP", 50, date(2026, 3, 1)),
        CreateBatch("here", "LAMP", 20),
        CreateBatch("old", "LAMP", 7, expires=date(2026, 3, 1)),
        Allocate("anna-1", "LAMP", 12),
        Dispatch("anna-1", "parcel-1", (ParcelLine("LAMP", 5),)),
        ReturnLine("anna-1", "LAMP", 2, "return-1", "check"),
        PlaceHold("cart", "LAMP", 1, 600),
    )

    assert "LAMP 7 7 50 overdue" in said(console.look().text)
    page = console.look("/product", sku="LAMP")

    told = said(page.text)
    assert (
        "Available now 7 In the warehouse 17 Allocated 7 Held 1 In quarantine 2 Expired 7 To come, available 50" in told
    )
    assert "Batch Available Allocated Held Quarantined Dispatched Purchased" in told
    assert "here in the warehouse 7 7 1 2 3 20" in told
    assert "old expired after 2026-03-01 0 0 0 0 0 7" in told
    assert "by-ship overdue, expected 2026-03-01 50 0 0 0 0 50" in told
    assert "batch here: 7 of 20 allocated, 1 held, 2 in quarantine, 3 dispatched, 7 available" in page.text
    assert "batch old, expired after 2026-03-01: 0 of 7 allocated, 7 not for sale" in page.text
    assert "7 have expired since" in told
    assert "2 in batch here went into quarantine: suspect −2 15 50" in told
    assert "Order anna-1 sent 2 back to batch here, to be checked +2 17 50" in told
    assert "Order anna-1 was sent 5 from batch here, in parcel parcel-1 15 50" in told


def test_what_arrives_is_there_now_and_no_longer_to_come(console: Console) -> None:
    console.given(CreateBatch("by-ship", "LAMP", 50, date(2031, 1, 1)), ReceiveBatch("by-ship", "receipt-1", 48, 3))

    told = said(console.look("/product", sku="LAMP").text)

    assert "Batch by-ship arrived with 48, 3 of them damaged +48 −50 to come 48 0" in told


# --- one order -------------------------------------------------------------------


def test_an_order_has_its_lines_and_what_happened_to_it(console: Console) -> None:
    furnish(console)

    page = said(console.look("/order", id="ben-2").text)

    assert "RED-CHAIR by-ship" in page
    assert "Order ben-2 lost its 8 of RED-CHAIR from batch in-stock" in page
    assert "anna" not in page


def test_an_order_says_what_is_promised_what_has_left_and_what_came_back(console: Console) -> None:
    console.given(
        CreateBatch("here", "LAMP", 20),
        CreateBatch("there", "CHAIR", 20),
        Allocate("anna-1", "LAMP", 12),
        Allocate("anna-1", "CHAIR", 3),
        Dispatch("anna-1", "parcel-1", (ParcelLine("LAMP", 5),)),
        ReturnLine("anna-1", "LAMP", 2, "return-1", "good"),
        ReleaseLine("anna-1", "CHAIR"),
    )

    page = said(console.look("/order", id="anna-1").text)

    assert "Open: something is promised, or waits." in page
    assert "SKU From Allocated Dispatched Returned" in page
    assert "LAMP here in the warehouse 7 3 2" in page
    assert "CHAIR nothing is left 0 0 0" in page


def test_an_order_with_nothing_left_to_do_says_why(console: Console) -> None:
    console.given(CreateBatch("here", "LAMP", 20), *(Allocate(name, "LAMP", 2) for name in ("all", "none", "empty")))
    console.given(
        Dispatch("all", "parcel-1", (ParcelLine("LAMP", 2),)), CancelOrder("none"), ReleaseLine("empty", "LAMP")
    )

    complete = said(console.look("/order", id="all").text)
    assert "Complete: all that is left of it has been dispatched." in complete
    assert "here all of it dispatched 0 2 0" in complete
    assert "Cancelled: nothing more is promised to it." in said(console.look("/order", id="none").text)
    assert "Empty: nothing is left of it." in said(console.look("/order", id="empty").text)


def test_an_order_that_got_nothing_has_a_history_all_the_same(console: Console) -> None:
    furnish(console)

    assert "Order cleo-3 asked for 500 of RED-CHAIR" in said(console.look("/order", id="cleo-3").text)
    assert console.look("/order", id="nobody").status_code == 404


# --- who waits -------------------------------------------------------------------


def queue_up(console: Console) -> None:
    console.given(
        CreateBatch("in-stock", "LAMP", 5, location="hamburg"),
        CreateBatch("few", "SOFA", 1),
        PlaceOrder("gus-1", (OrderedLine("LAMP", 3, "1"), OrderedLine("LAMP", 3, "2")), "backorder"),
        PlaceOrder(
            "anna-2",
            (OrderedLine("LAMP", 9), OrderedLine("SOFA", 4)),
            "partial",
            9,
            date(2031, 1, 15),
            True,
            ("berlin",),
        ),
    )


def test_an_order_says_what_waits_at_which_place_and_what_it_needs(console: Console) -> None:
    queue_up(console)
    gus = said(console.look("/order", id="gus-1").text)
    assert "Open: something is promised, or waits." in gus
    assert "LAMP line 2 3 waiting at place 2 in the queue; needs 3 of one batch, the largest room is 2 0 0 0" in gus
    anna = said(console.look("/order", id="anna-2").text)
    assert "LAMP · priority 9 · needed by 2031-01-15 9 waiting at place 1 in the queue; needs 1 of one batch" in anna
    assert "the largest room is 2; at berlin 0 0 0" in anna


def test_backorders_are_listed_by_turn_of_all_and_of_a_sku(console: Console) -> None:
    queue_up(console)
    every = said(console.look("/backorders").text)
    assert every.index("1 LAMP anna-2") < every.index("2 LAMP gus-1 line 2") < every.index("1 SOFA anna-2")
    of_one = said(console.look("/backorders", sku="SOFA").text)
    assert "Backorders of SOFA" in of_one
    assert "gus-1" not in of_one
    assert "No line waits for it." in said(console.look("/backorders", sku="DESK").text)


def test_a_sku_s_page_shows_who_waits_and_where_its_batches_lie(console: Console) -> None:
    queue_up(console)
    page = console.look("/product", sku="LAMP").text
    assert "in-stock in the warehouse at hamburg" in said(page)
    assert "Who waits" in said(page)
    console.given(CancelOrder("anna-2"), CancelOrder("gus-1"))
    assert "Who waits" not in said(console.look("/product", sku="LAMP").text)


def test_a_long_queue_goes_on_at_its_place(console: Console) -> None:
    console.given(CreateBatch("none", "LAMP", 0))
    console.given(*(PlaceOrder(f"o-{number:02}", (OrderedLine("LAMP", 1),), "backorder") for number in range(51)))
    first = console.look("/backorders").text
    following = unescape(re.findall(r'rel="next" href="([^"]+)"', first)[0])
    assert ("o-49" in first, "o-50" in first) == (True, False)
    second = console.browser.get(following).text
    assert ("o-49" in second, "o-50" in second, 'rel="next"' in second) == (False, True, False)
    assert "o-00" in console.look("/backorders", of="LAMP", turn="1e9", since=-1).text


def late(console: Console, orders: int) -> None:
    """A ship that is expected in February instead, and an order that waits past its day."""
    console.given(
        CreateBatch("by-ship", "LAMP", orders, JANUARY),
        *(
            PlaceOrder(f"o-{number:02}", (OrderedLine("LAMP", 1, "1"),), "backorder", needed_by=JANUARY)
            for number in range(orders)
        ),
        CreateBatch("none", "SOFA", 0),
        PlaceOrder("gus", (OrderedLine("SOFA", 2),), "backorder", needed_by=TODAY - timedelta(days=3)),
        ChangeEta("by-ship", JANUARY + timedelta(days=17)),
    )


def test_lines_at_risk_are_listed_with_by_how_much_and_what_they_wait_for(console: Console) -> None:
    late(console, 1)

    every = said(console.look("/at-risk").text)
    of_one = said(console.look("/at-risk", sku="LAMP").text)

    assert every.index(f"{TODAY - timedelta(days=3)} gus 2 of SOFA waits 3") < every.index("2031-01-01 o-00")
    assert "2031-01-01 o-00 line 1 1 of LAMP 2031-01-18 with by-ship 17" in every
    assert "At risk: LAMP" in of_one
    assert "gus" not in of_one
    assert "No line of it is at risk." in said(console.look("/at-risk", sku="DESK").text)
    console.given(CancelOrder("gus"), CancelOrder("o-00"))
    assert "No line is at risk." in said(console.look("/at-risk").text)


def test_a_long_list_of_lines_at_risk_goes_on_at_its_place(console: Console) -> None:
    late(console, 51)

    first = console.look("/at-risk", sku="LAMP").text
    following = unescape(re.findall(r'rel="next" href="([^"]+)"', first)[0])
    second = console.browser.get(following).text

    assert ("o-49" in first, "o-50" in first) == (True, False)
    assert ("o-49" in second, "o-50" in second, 'rel="next"' in second) == (False, True, False)
    for nowhere in ({"day": "2031-02-31", "version": "60"}, {"day": "2031-02-01", "version": "0"}):
        assert "o-00" in console.look("/at-risk", of="SOFA", **nowhere).text


LONG = "\N{LATIN SMALL LETTER O WITH DIAERESIS}" * 250
"""To be the end of a name as long as one may be."""


def test_batches_are_listed_that_are_overdue_and_those_of_which_something_is_in_quarantine(console: Console) -> None:
    assert "No batch is overdue." in said(console.look("/batches").text)
    assert "Nothing is in quarantine." in said(console.look("/batches", quarantined="1").text)
    console.given(
        *(CreateBatch(f"b-{number:02}{LONG}", "LAMP", 5, TODAY - timedelta(days=1)) for number in range(51)),
        CreateBatch("longest", "SOFA", 7, TODAY - timedelta(days=9)),
        CreateBatch("here", "SOFA", 4),
        Quarantine("here", 3, "damaged", "q"),
    )

    first = console.look("/batches").text
    second = console.browser.get(unescape(re.findall(r'rel="next" href="([^"]+)"', first)[0])).text
    quarantined = said(console.look("/batches", quarantined="1").text)

    assert said(first).index("longest overdue, expected 2026-03-02 SOFA 7 0") < said(first).index("b-00")
    assert ("b-48" in first, "b-49" in first) == (True, False)
    assert ("b-48" in second, "b-49" in second, 'rel="next"' in second) == (False, True, False)
    assert "here in the warehouse SOFA 3 0 1" in quarantined
    assert "b-00" in console.look("/batches", after="nonsense").text


# --- dead letters ----------------------------------------------------------------


def test_dead_letters_are_shown_whole_with_their_reasons(console: Console) -> None:
    console.dead_letters.letters = [dead_message(7, b'{"batchref": "\xff"}')]
    console.dead_letters.dead_effects = [dead_effect("CHAIR:1", 3)]

    page = said(console.look("/dead-letters").text)

    assert "message:7 from change_batch_quantity not a message 1 attempt, the last at 2026-03-04 05:06:07" in page
    assert '{"batchref": "\\xff"}' in page
    assert "events to Redis of CHAIR:1, version 3 refused 5 attempts" in page
    assert "2 more of this SKU wait behind it." in page
    assert "1 dead letter " in said(console.look().text)


def test_of_a_long_message_the_beginning_is_shown_and_its_size(console: Console) -> None:
    console.dead_letters.letters = [dead_message(7, b"x" * 4096 + b"y" * 60_000)]

    page = said(console.look("/dead-letters").text)

    assert "xxx … of 64,096 bytes" in page
    assert "y" * 10 not in page


def test_a_message_is_handled_after_all(console: Console) -> None:
    console.given(CreateBatch("b1", "CHAIR", 10))
    console.dead_letters.letters = [dead_message(7, b'{"batchref": "b1", "qty": 4}')]

    answer = console.send("/dead-letters/retry", letter="message:7")

    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/dead-letters?outcome=handled")
    assert console.dead_letters.letters == []
    assert len(console.service.history("CHAIR")) == 2
    assert "The message was handled." in said(console.browser.get(answer.headers["Location"]).text)


def test_a_message_that_is_refused_again_stays_with_the_new_reason(console: Console) -> None:
    console.dead_letters.letters = [dead_message(7, b'{"batchref": "nix", "qty": 4}')]

    answer = console.send("/dead-letters/retry", letter="message:7")

    assert answer.headers["Location"].endswith("outcome=refused")
    assert "nix" in console.dead_letters.letters[0].reason


def test_a_message_whose_first_try_is_still_at_work_is_left_as_it_is(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_work(_command: object, _metadata: Metadata, message_id: str) -> None:
        raise RequestInProgress(message_id)

    console.dead_letters.letters = [dead_message(7, b'{"batchref": "b1", "qty": 4}')]
    monkeypatch.setattr(console, "bus", SimpleNamespace(handle=at_work))

    answer = console.send("/dead-letters/retry", letter="message:7")

    assert console.dead_letters.letters == [dead_message(7, b'{"batchref": "b1", "qty": 4}')]
    assert "still at work" in said(console.browser.get(answer.headers["Location"]).text)


def test_an_effect_is_given_to_the_relay_again(console: Console) -> None:
    console.dead_letters.dead_effects = [dead_effect("CHAIR:1", 3), dead_effect("CHAIR:1", 4)]

    answer = console.send("/dead-letters/retry", letter="effect:publish_event:3:CHAIR:1")

    assert answer.headers["Location"].endswith("outcome=again")
    assert console.dead_letters.retried == [dead_effect("CHAIR:1", 3)]


@pytest.mark.parametrize(
    "letter", ["message:7", "effect:publish_event:1:CHAIR", "message:x", "message:" + "9" * 30, ""]
)
def test_a_letter_that_is_gone_is_said_to_be(console: Console, letter: str) -> None:
    assert console.send("/dead-letters/retry", letter=letter).headers["Location"].endswith("outcome=gone")


# --- whatever is in it -----------------------------------------------------------


def pages(console: Console, sku: str) -> Iterator[tuple[str, str]]:
    console.dead_letters.letters = [dead_message(1, sku.encode(), reason=sku)]
    console.dead_letters.dead_effects = [dead_effect(sku)]
    for path, asked in (
        ("", {}),
        ("", {"q": sku}),
        ("", {"after": sku}),
        ("/product", {"sku": sku}),
        ("/product", {"sku": sku + "x"}),
        ("/order", {"id": sku}),
        ("/order", {"id": sku + "x"}),
        ("/backorders", {}),
        ("/backorders", {"sku": sku, "of": sku, "turn": sku, "since": sku}),
        ("/at-risk", {}),
        ("/batches", {"of": sku, "day": sku}),
        ("/batches", {"of": sku, "quarantined": sku}),
        ("/at-risk", {"sku": sku, "day": "2031-01-01", "of": sku, "version": "1", "waits": sku}),
        ("/dead-letters", {}),
        ("/dead-letters", {"outcome": sku}),
        ("/sign-in", {"next": sku}),
        (f"/{sku}", {}),
    ):
        yield f"{path}?{asked}", console.look(path, **asked).text


def test_text_is_only_text_wherever_it_comes_from(console: Console) -> None:
    console.given(CreateBatch(NASTY, NASTY, 5), Allocate(NASTY, NASTY, 1, NASTY))

    for where, page in pages(console, NASTY):
        assert "<script>" not in page, where
        assert "alert(1)" not in "".join(re.findall(r"<[^>]*>", re.sub(r'"[^"]*"', "", page))), where
    assert NASTY in Text(console.look().text).words


def test_no_page_has_script_or_style_of_its_own_or_loads_anything_from_elsewhere(console: Console) -> None:
    furnish(console)

    for where, page in pages(console, "RED-CHAIR"):
        text = Text(page)
        assert text.inline == [], where
        assert text.addresses, where
        assert all(re.match(r"/console([/?#]|$)|#", address) for address in text.addresses), text.addresses


@cache
def shared_console() -> Console:
    """For examples that do not mind each other."""
    return Console()


def is_name(text: str) -> bool:
    """In the form in which names are kept."""
    return text.strip() == text and text.isprintable() and normal(text) is text


@given(st.text(min_size=1, max_size=60).filter(is_name))
def test_every_name_leads_to_its_page(name: str) -> None:
    console = shared_console()
    console.given(CreateBatch(f"batch of {name}", name, 5), Allocate(name, name, 1))
    page = console.look("/order", id=name)
    links = {unescape(link) for link in re.findall(r'href="(/console/(?:product|order)[^"]+)"', page.text)}

    assert {link.partition("?")[0] for link in links} == {"/console/product", "/console/order"}
    for link in links:
        assert console.browser.get(link).status_code == 200, link


def test_every_page_forbids_what_it_does_not_need_and_is_kept_nowhere(console: Console) -> None:
    furnish(console)

    for path in (
        "",
        "/product?sku=RED-CHAIR",
        "/order?id=ben-2",
        "/backorders",
        "/at-risk",
        "/batches",
        "/dead-letters",
        "/sign-in",
        "/nix",
        "/events",
    ):
        headers = console.browser.get(f"/console{path}").headers
        assert headers["Cache-Control"] == "no-store", path
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


def test_script_and_style_come_from_here_and_may_be_kept(console: Console) -> None:
    files = [address for address in Text(console.look().text).addresses if "/static/" in address]

    assert len(files) == 3
    for file in files:
        answer = console.browser.get(file, buffered=True)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_without_the_database_a_page_says_so(console: Console) -> None:
    console.log.is_away = True

    page = console.look()

    assert (page.status_code, page.mimetype, page.headers["Retry-After"]) == (503, "text/html", "1")
    assert "Try again in a moment" in page.text


def asked_for_an_order(console: Console, monkeypatch: pytest.MonkeyPatch, error: Exception) -> TestResponse:
    """What is shown when an error gets in between."""

    def fails(_: str) -> None:
        raise error

    monkeypatch.setattr(console.views, "order", fails)
    return console.look("/order", id="ben-1")


@pytest.mark.parametrize("error", [KeyError("secret"), BadInput("secret")])
def test_a_fault_is_a_page_too_and_is_in_the_log(
    console: Console, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    page = asked_for_an_order(console, monkeypatch, error)

    assert (page.status_code, page.mimetype) == (500, "text/html")
    assert "in the log of the service" in page.text
    assert "secret" not in page.text
    assert caplog.messages == ["internal error"]


def test_what_is_still_at_work_is_a_page_too(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    page = asked_for_an_order(console, monkeypatch, RequestInProgress("m1"))

    assert (page.status_code, page.mimetype, page.headers["Retry-After"]) == (409, "text/html", "1")
    assert "still in progress" in page.text


def test_with_more_to_do_than_can_be_done_a_page_says_so(console: Console) -> None:
    page = console.browser.get("/console", environ_overrides={WAITED: LONGEST_WAIT + 1})

    assert (page.status_code, page.mimetype, page.headers["Retry-After"]) == (503, "text/html", "1")
    assert "overloaded; try again" in page.text


def test_a_page_that_is_not_there_is_not_found_in_html(console: Console) -> None:
    page = console.look("/no/such//page")

    assert (page.status_code, page.mimetype) == (404, "text/html")


# --- bars ------------------------------------------------------------------------


def batch(qty: int, allocated: int, eta: date | None) -> Batch:
    return Batch("b", "CHAIR", qty, allocated, qty - allocated, eta)


def kinds(batch: Batch, whole: int | None = None) -> list[tuple[str, float]]:
    return [(piece.kind, piece.width) for piece in bar([batch], whole).pieces]


def test_a_bar_has_the_parts_of_a_batch_and_of_what_has_left_only_where_all_is_shown() -> None:
    here = Batch("b", "CHAIR", 100, 30, 10, None, dispatched=50, quarantined=10)

    assert kinds(here) == [("allocated", 60), ("quarantined", 20), ("available", 20)]
    assert kinds(here, whole=200) == [("allocated", 15), ("quarantined", 5), ("available", 5), ("dispatched", 25)]


def test_what_has_expired_is_drawn_as_not_for_sale() -> None:
    assert kinds(Batch("b", "CHAIR", 10, 4, 6, None, state="expired")) == [("allocated", 40), ("quarantined", 60)]


batches = st.lists(
    st.integers(0, 10**9).flatmap(
        lambda qty: st.builds(batch, st.just(qty), st.integers(0, qty), st.none() | st.just(date(2031, 1, 1)))
    )
)


@given(batches)
def test_a_bar_is_as_long_as_its_batches_and_no_longer(drawn: list[Batch]) -> None:
    pieces = bar(drawn).pieces

    assert sum(piece.width for piece in pieces) == pytest.approx(100 if pieces else 0, abs=0.01)
    for before, after in pairwise(pieces):
        assert after.x == pytest.approx(before.x + before.width, abs=0.01)


# --- colours ---------------------------------------------------------------------

STYLE = Path(the_console.__file__).parent / "static/console.css"


def colours() -> tuple[dict[str, str], dict[str, str]]:
    """Those of the day and of the night."""
    day, night = re.findall(r":root \{(.*?)\}", STYLE.read_text("utf-8"), re.DOTALL)[:2]
    light = dict(re.findall(r"--([\w-]+): (#\w{6});", day))
    return light, light | dict(re.findall(r"--([\w-]+): (#\w{6});", night))


def contrast(one: str, other: str) -> float:
    """By WCAG 2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lower, higher = sorted((luminance(one), luminance(other)))
    return (higher + 0.05) / (lower + 0.05)


@pytest.mark.parametrize("colour", colours(), ids=["day", "night"])
def test_all_text_can_be_read_and_all_bars_seen(colour: dict[str, str]) -> None:
    for ground in ("ground", "card"):
        for text in ("text", "soft", "link", "bad"):
            assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)
        for shape in ("allocated", "available", "incoming", "line-strong", "good", "warn"):
            assert contrast(colour[shape], colour[ground]) >= 3, (shape, ground)
    assert contrast(colour["accent-text"], colour["accent"]) >= 4.5
    assert contrast(colour["text"], colour["notice"]) >= 4.5
    assert contrast(colour["link"], colour["notice"]) >= 4.5
    assert contrast(colour["allocated"], colour["bar-ground"]) >= 3
