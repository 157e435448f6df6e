"""The API under /v1 without a database: what it refuses and how it says so, and what its document says."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, cast

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import TypeAdapter
from tests import fakes
from tests.fake_console import FakeViews, held_by, view_of
from tests.one_app import client_of
from tests.unit.test_docs import DOCS, public_names
from werkzeug.exceptions import ImATeapot
from werkzeug.test import TestResponse

from allocation.bootstrap import Service
from allocation.domain import errors
from allocation.domain.batches import Batch as DomainBatch
from allocation.domain.errors import DomainError
from allocation.domain.events import BatchCreated
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http import conditions, cursors, problems
from allocation.entrypoints.http.access import UNRESTRICTED
from allocation.entrypoints.http.back_pressure import LONGEST_WAIT, WAITED
from allocation.entrypoints.http.cursors import cursor_at
from allocation.entrypoints.http.input import TWO_KEYS
from allocation.entrypoints.http.routes import LARGEST_BODY, declarations
from allocation.validation import Text
from allocation.views import BackorderCursor, Batch, BatchCursor, HoldCursor, Moved, Order, Room
from messaging.errors import RequestInProgress, Unavailable


class Api:
    """The app's client, and what the app was wired with: a service in memory, with as many views as a change needs."""

    def __init__(self) -> None:
        self.service = fakes.Service()
        self.bus = self.service.bus
        self.views = self
        self.client = client_of(self)
        self.app = self.client.application

    def batch(self, reference: str) -> Batch | None:
        with self.service.unit_of_work() as uow:
            try:
                product = uow.products.get_by_batchref(reference)
            except errors.UnknownBatch:
                return None
        return next(one for one in held_by(product) if one.ref == reference)

    def moved(self, places: Mapping[str, int] | None) -> list[Moved]:
        return []

    def order(self, orderid: str) -> Order | None:
        return FakeViews(self.service).order(orderid)

    def room(self, sku: str) -> Room:
        with self.service.unit_of_work() as uow:
            batches = uow.products.get(sku).batches.of(sku)
        room = [batch.available_quantity for batch in batches]
        purchased = sum(batch.purchased_quantity for batch in batches)
        return Room(purchased, purchased - sum(room), sum(room), max(room), None)


@pytest.fixture
def api() -> Api:
    return Api()


BATCH = {"ref": "b1", "sku": "TABLE", "qty": 10}
ETAG = '"10-0-0-0-0-0-0"'
"""Of that, as it was created."""

PROXIED = ['W/"10-0"', '"10-0-gzip"', '"10-0--gzip"', '"10-0;br"', 'W/"10-0-gzip"', 'W/"9-0"']

STALE = [
    f"W/{ETAG}",
    ETAG.replace('0"', '0-1-1"'),
    '"10-0"',
    '"ten"',
    '"9-0-0-0-0-0-0"',
    '"99999999999999999999-0-0-0-0-0-0"',
]
LINE = {"orderid": "o1", "sku": "TABLE", "qty": 7}


def is_problem(answer: TestResponse, kind: problems.Problem) -> dict[str, Any]:
    """The problem, once it has been found to be what every problem is."""
    assert answer.status_code == kind.status, answer.text
    assert answer.content_type == "application/problem+json"
    said: dict[str, Any] = answer.json or {}
    assert (said["type"], said["title"], said["status"]) == (kind.type, kind.title, kind.status)
    assert said["detail"]
    assert said["instance"] == f"urn:request:{answer.headers['X-Request-ID']}"
    return said


# --- changes -------------------------------------------------------------------


def test_a_batch_is_created_once_and_found_again(api: Api) -> None:
    first = api.client.post("/v1/batches", json=BATCH | {"ref": "b/1"})
    again = api.client.post("/v1/batches", json=BATCH | {"ref": "b/1"})

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json == {
        "ref": "b/1",
        "sku": "TABLE",
        "qty": 10,
        "allocated": 0,
        "available": 10,
        "eta": None,
        "held": 0,
        "dispatched": 0,
        "quarantined": 0,
        "expires": None,
        "state": "received",
        "location": "",
    }
    assert first.headers["Location"] == "/v1/batches/b%2F1"
    assert api.client.get(first.headers["Location"]).json == first.json


def test_a_batch_that_was_created_is_answered_though_the_database_is_away_right_after(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batch(reference: str) -> Batch:
        raise Unavailable(reference)

    monkeypatch.setattr(api, "batch", batch)

    assert api.client.post("/v1/batches", json=BATCH | {"eta": None}).status_code == 201
    is_problem(api.client.post("/v1/batches", json=BATCH | {"eta": None}), problems.UNAVAILABLE)


def test_another_batch_under_its_reference_is_a_conflict(api: Api) -> None:
    api.client.post("/v1/batches", json=BATCH)

    said = is_problem(
        api.client.post("/v1/batches", json=BATCH | {"qty": 11}), problems.OF_REFUSALS[errors.BatchConflict]
    )

    assert (
        said["detail"]
        == "Batch b1 exists already, created with 10 of TABLE, eta none (in the warehouse); asked for: qty 11"
    )


def test_a_line_is_allocated_once_and_its_batch_and_eta_are_told(api: Api) -> None:
    api.client.post("/v1/batches", json=BATCH | {"eta": "2031-01-01"})

    first, again = (api.client.post("/v1/allocations", json=LINE) for _ in range(2))

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json == LINE | {"lineid": "TABLE", "batchref": "b1", "eta": "2031-01-01"}
    assert again.json == first.json
    assert first.headers["Location"] == "/v1/orders/o1"
    assert "ETag" not in first.headers, "an allocation can't be asked for under its own name"


def test_out_of_stock_is_a_problem_with_its_arithmetic(api: Api) -> None:
    api.client.post("/v1/batches", json=BATCH)
    api.client.post("/v1/allocations", json=LINE)

    answer = api.client.post("/v1/allocations", json=LINE | {"orderid": "o2", "qty": 8})

    said = is_problem(answer, problems.OUT_OF_STOCK)
    assert (
        said["detail"]
        == "requested 8; purchased 10 − allocated 7 − held 0 − dispatched 0 − quarantined 0 = 3 available"
    )
    assert (said["requested"], said["purchased"], said["allocated"], said["available"]) == (8, 10, 7, 3)
    assert (said["orderid"], said["lineid"], said["sku"], said["next_eta"]) == ("o2", "TABLE", "TABLE", None)


def test_a_line_that_fits_into_no_single_batch_is_told_so(api: Api) -> None:
    for ref in ("b1", "b2"):
        api.client.post("/v1/batches", json=BATCH | {"ref": ref})

    said = is_problem(api.client.post("/v1/allocations", json=LINE | {"qty": 15}), problems.OUT_OF_STOCK)

    assert said["detail"] == (
        "requested 15; purchased 20 − allocated 0 − held 0 − dispatched 0 − quarantined 0 = 20 available, "
        "at most 10 in one batch"
    )


def test_what_has_come_since_the_decision_is_said_to_have(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.client.post("/v1/batches", json=BATCH)

    def room(sku: str) -> Room:
        api.client.post("/v1/batches", json=BATCH | {"ref": "b2", "qty": 50})
        return Api.room(api, sku)

    monkeypatch.setattr(api, "room", room)

    said = is_problem(api.client.post("/v1/allocations", json=LINE | {"qty": 15}), problems.OUT_OF_STOCK)

    assert said["detail"].endswith("= 60 available, since just now: ask again")


def test_a_shortage_that_is_told_again_says_how_to_try_anew(api: Api) -> None:
    api.client.post("/v1/batches", json=BATCH)
    key = {"Idempotency-Key": "k1"}
    first = is_problem(api.client.post("/v1/allocations", json=LINE | {"qty": 15}, headers=key), problems.OUT_OF_STOCK)
    api.client.post("/v1/batches", json=BATCH | {"ref": "b2", "qty": 50})

    again = is_problem(api.client.post("/v1/allocations", json=LINE | {"qty": 15}, headers=key), problems.OUT_OF_STOCK)

    assert (
        first["detail"]
        == "requested 15; purchased 10 − allocated 0 − held 0 − dispatched 0 − quarantined 0 = 10 available"
    )
    assert again["detail"] == (
        "requested 15; purchased 60 − allocated 0 − held 0 − dispatched 0 − quarantined 0 = 60 available "
        "by now; this is the first answer to this Idempotency-Key again, and stands: to try anew send another key, or "
        "none"
    )
    assert api.client.post("/v1/allocations", json=LINE | {"qty": 15}).status_code == 201


def test_who_has_sent_a_key_is_not_told_to_ask_again_with_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.client.post("/v1/batches", json=BATCH)

    def room(sku: str) -> Room:
        api.client.post("/v1/batches", json=BATCH | {"ref": "b2", "qty": 50})
        return Api.room(api, sku)

    monkeypatch.setattr(api, "room", room)

    answer = api.client.post("/v1/allocations", json=LINE | {"qty": 15}, headers={"Idempotency-Key": "k1"})

    said = is_problem(answer, problems.OUT_OF_STOCK)
    assert said["detail"].endswith("= 60 available, since just now: ask again, with another Idempotency-Key")


def test_a_line_id_that_is_left_out_is_the_sku_for_the_same_key_too(api: Api) -> None:
    api.client.post("/v1/batches", json=BATCH)
    key = {"Idempotency-Key": "k1"}

    first = api.client.post("/v1/allocations", json=LINE, headers=key)
    again = api.client.post("/v1/allocations", json=LINE | {"lineid": "TABLE"}, headers=key)

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json == first.json


def test_a_sku_that_was_never_purchased_and_a_changed_line_have_problems_of_their_own(api: Api) -> None:
    is_problem(api.client.post("/v1/allocations", json=LINE), problems.OF_REFUSALS[errors.InvalidSku])
    api.client.post("/v1/batches", json=BATCH)
    api.client.post("/v1/allocations", json=LINE)

    is_problem(api.client.post("/v1/allocations", json=LINE | {"qty": 6}), problems.OF_REFUSALS[errors.LineConflict])


def test_every_refusal_of_the_domain_is_a_problem() -> None:
    refusals = {getattr(errors, name) for name in public_names(errors)}

    assert problems.OF_REFUSALS.keys() == {
        kind for kind in refusals if issubclass(kind, DomainError) and kind is not DomainError
    }


# --- If-Match ------------------------------------------------------------------


def change(api: Api, qty: int, if_match: str | None, **headers: str) -> TestResponse:
    given = {"If-Match": if_match} if if_match is not None else {}
    return api.client.patch("/v1/batches/b1", json={"qty": qty}, headers=given | headers)


def test_a_batch_is_changed_by_those_who_have_seen_what_it_is(api: Api) -> None:
    seen = api.client.post("/v1/batches", json=BATCH).headers["ETag"]

    answer = change(api, 8, seen)

    assert (answer.status_code, (answer.json or {})["qty"]) == (200, 8)
    assert answer.headers["ETag"] != seen
    is_problem(change(api, 7, seen), problems.PRECONDITION_FAILED)
    assert change(api, 7, f"{seen}, {answer.headers['ETag']}").status_code == 200, "any of several will do"


def test_an_allocation_makes_what_was_seen_stale(api: Api) -> None:
    seen = api.client.post("/v1/batches", json=BATCH).headers["ETag"]
    api.client.post("/v1/allocations", json=LINE)

    said = is_problem(change(api, 5, seen), problems.PRECONDITION_FAILED)

    assert said["detail"] == "Batch b1 has changed: 10 purchased and 7 allocated now"
    assert len(api.service.history("TABLE")) == 2, "nothing has changed"


def test_a_star_is_for_whatever_is_there(api: Api) -> None:
    api.client.post("/v1/batches", json=BATCH)

    assert change(api, 8, "*").status_code == 200


@pytest.mark.parametrize("given", [None, ""])
def test_who_says_nothing_of_what_was_seen_is_asked_to(api: Api, given: str | None) -> None:
    api.client.post("/v1/batches", json=BATCH)

    is_problem(change(api, 8, given), problems.PRECONDITION_REQUIRED)


@pytest.mark.parametrize(
    "given",
    ['"', '"10', "10-0-0-0-0-0-0", f"{ETAG} {ETAG}", f"{ETAG}-gzip", f"*, {ETAG}", "W/10", '\\"10\\"', "w/" + ETAG],
)
def test_what_is_no_list_of_etags_is_said_so(api: Api, given: str) -> None:
    api.client.post("/v1/batches", json=BATCH)

    said = is_problem(change(api, 8, given), problems.INVALID_REQUEST)

    assert said["detail"].startswith("If-Match: must be ETags as GET gives them")
    assert repr(given) in said["detail"]
    assert len(api.service.history("TABLE")) == 1


@pytest.mark.parametrize(
    "given", ['""', 'W/""', '"x", ""', f', "", {ETAG.replace("10", "9")},', '"!~-ä"'.encode().decode("latin1")]
)
def test_an_etag_may_be_anything_between_quotes_and_is_stale(api: Api, given: str) -> None:
    api.client.post("/v1/batches", json=BATCH)

    is_problem(change(api, 8, given), problems.PRECONDITION_FAILED)
    assert change(api, 8, f"{given.strip(',')}, {ETAG}").status_code == 200


def test_who_says_what_they_have_seen_where_nothing_is_compared_is_told_so(api: Api) -> None:
    api.client.post("/v1/batches", json=BATCH)
    routes: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/batches/b1/receipts", {"receipt_id": "r", "received": 10}),
        ("POST", "/v1/batches/b1/quarantine", {"qty": 1, "reason": "suspect", "document": "d"}),
        ("POST", "/v1/orders/o1/cancellation", {}),
        ("POST", "/v1/allocations", LINE),
    ]
    for method, path, body in routes:
        said = is_problem(
            api.client.open(path, method=method, json=body, headers={"If-Match": ETAG}), problems.INVALID_REQUEST
        )
        assert said["detail"].startswith("If-Match: nothing is compared here")
    assert len(api.service.history("TABLE")) == 1
    assert api.client.post("/v1/allocations", json=LINE, headers={"If-Match": "*"}).status_code == 201


@pytest.mark.parametrize(
    "given", [each.replace("10-0", "10-0-0-0-0-0-0").replace("9-0", "9-0-0-0-0-0-0") for each in PROXIED]
)
def test_an_etag_that_a_proxy_has_changed_is_named_with_the_one_to_send(api: Api, given: str) -> None:
    api.client.post("/v1/batches", json=BATCH)

    said = is_problem(change(api, 8, given), problems.PRECONDITION_FAILED)

    ours = ETAG.replace("10", "9") if "9" in given else ETAG
    assert said["detail"].startswith(f"{given} is not the ETag that this service gave: a proxy has changed it")
    assert f"Send {ours}" in said["detail"]
    assert len(api.service.history("TABLE")) == 1
    if "9" not in given:
        assert change(api, 8, f"{given}, {ours}").status_code == 200


@pytest.mark.parametrize("given", STALE)
def test_an_etag_that_is_none_of_ours_is_stale(api: Api, given: str) -> None:
    api.client.post("/v1/batches", json=BATCH)

    is_problem(change(api, 8, given), problems.PRECONDITION_FAILED)


def test_a_change_with_a_key_may_be_repeated_although_its_etag_is_stale_by_then(api: Api) -> None:
    api.client.post("/v1/batches", json=BATCH)
    key = {"Idempotency-Key": "k1"}

    assert change(api, 8, ETAG, **key).status_code == 200
    assert change(api, 8, ETAG, **key).status_code == 200
    is_problem(change(api, 8, ETAG.replace("10", "8"), **key), problems.IDEMPOTENCY_KEY_REUSED)
    assert len(api.service.history("TABLE")) == 2


def test_a_stale_change_with_a_key_stays_refused(api: Api) -> None:
    api.client.post("/v1/batches", json=BATCH)
    key = {"Idempotency-Key": "k1"}

    first = is_problem(change(api, 8, ETAG.replace("10", "9"), **key), problems.PRECONDITION_FAILED)
    change(api, 9, "*")
    again = is_problem(change(api, 8, ETAG.replace("10", "9"), **key), problems.PRECONDITION_FAILED)

    assert again["detail"] == first["detail"]


def test_a_batch_that_is_not_there_can_t_be_changed(api: Api) -> None:
    is_problem(change(api, 8, "*"), problems.NOT_FOUND)
    is_problem(api.client.patch("/v1/batches/%00", json={"qty": 1}, headers={"If-Match": "*"}), problems.NOT_FOUND)


def test_the_body_can_t_name_another_batch_than_the_path(api: Api) -> None:
    for ref in ("b1", "b2"):
        api.client.post("/v1/batches", json=BATCH | {"ref": ref})

    answer = api.client.patch("/v1/batches/b1", json={"qty": 3, "batchref": "b2"}, headers={"If-Match": "*"})

    said = is_problem(answer, problems.INVALID_VALUES)
    assert said["errors"] == [{"detail": "is in the address already", "pointer": "#/batchref"}]
    for ref in ("b1", "b2"):
        assert api.batch(ref) == Batch(ref, "TABLE", 10, 0, 10, None)


@pytest.mark.parametrize(
    ("path", "body", "pointer", "detail"),
    [
        (
            "/v1/batches",
            BATCH | {"ETA": "2031-01-01"},
            "#/ETA",
            "did you mean eta? known: ref, sku, qty, eta, expires, location",
        ),
        (
            "/v1/allocations",
            LINE | {"line_id": "1"},
            "#/line_id",
            "did you mean lineid? known: orderid, sku, qty, lineid",
        ),
        ("/v1/allocations", LINE | {"a/ä~": 1}, "#/a~1%C3%A4~0", "known: orderid, sku, qty, lineid"),
    ],
)
def test_a_key_that_is_not_known_is_refused_by_name(
    api: Api, path: str, body: dict[str, Any], pointer: str, detail: str
) -> None:
    api.client.post("/v1/batches", json=BATCH)
    before = len(api.service.memory.log["TABLE"])

    said = is_problem(api.client.post(path, json=body), problems.INVALID_VALUES)

    assert said["errors"] == [{"detail": f"is no known key; {detail}", "pointer": pointer}]
    assert len(api.service.memory.log["TABLE"]) == before


def test_of_many_problems_the_first_are_listed_and_the_others_counted(api: Api) -> None:
    body = LINE | {f"key-{number:04}": 1 for number in range(4_000)}

    said = is_problem(api.client.post("/v1/allocations", json=body), problems.INVALID_VALUES)

    assert [one["pointer"] for one in said["errors"]] == [f"#/key-{number:04}" for number in range(20)]
    assert said["detail"].endswith("key-0019: is no known key; known: orderid, sku, qty, lineid; and 3,980 more")


def test_a_change_of_a_batch_takes_its_quantity_and_nothing_else(api: Api) -> None:
    api.client.post("/v1/batches", json=BATCH)

    for body in ({"qty": 3, "eta": "2031-01-01"}, {"qty": 3, "ref": "b2"}):
        answer = api.client.patch("/v1/batches/b1", json=body, headers={"If-Match": "*"})

        name = list(body)[1]
        assert is_problem(answer, problems.INVALID_VALUES)["detail"] == f"{name}: is no known key; known: qty"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/batches/b1?dry_run=true"),
        ("GET", "/v1/orders/o1?dry_run=true"),
    ],
)
def test_a_parameter_that_is_not_known_is_refused_on_routes_that_have_none(api: Api, method: str, path: str) -> None:
    said = is_problem(api.client.open(path, method=method, json=BATCH), problems.INVALID_VALUES)

    assert said["errors"] == [{"detail": "unknown query parameter; none is", "parameter": "dry_run"}]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/batches"), ("PATCH", "/v1/batches/b1"), ("POST", "/v1/allocations")]
)
def test_of_a_change_the_parameter_that_was_meant_is_named(api: Api, method: str, path: str) -> None:
    said = is_problem(api.client.open(f"{path}?dryRun=true", method=method, json=BATCH), problems.INVALID_VALUES)

    rule = "unknown query parameter; did you mean dry_run? known: dry_run"
    assert said["errors"] == [{"detail": rule, "parameter": "dryRun"}]
    assert not api.batch("b1")


def test_the_book_s_routes_ignore_what_they_do_not_know(api: Api) -> None:
    assert api.client.post("/add_batch?x=1", json=BATCH | {"ETA": "2031-01-01"}).status_code == 201
    assert api.client.post("/allocate?x=1", json=LINE | {"line_id": "1"}).status_code == 202


@pytest.mark.parametrize("path", ["/v1/batches", "/add_batch"])
def test_a_key_that_is_given_twice_is_refused_everywhere(api: Api, path: str) -> None:
    for twice in ('"qty": 1, "qty": 100', '"qty": 1, "note": {"a": 1, "a": 2}'):
        body = f'{{"ref": "b1", "sku": "TABLE", {twice}}}'
        answer = api.client.post(path, data=body, content_type="application/json")

        assert answer.status_code == 400
        assert "is given twice in one object" in answer.text
    assert api.batch("b1") is None


def test_a_body_that_is_compressed_is_refused_by_the_name_of_its_encoding(api: Api) -> None:
    for path in ("/v1/batches", "/add_batch"):
        answer = api.client.post(path, json=BATCH, headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 415
        assert "Content-Encoding is 'gzip'" in answer.text
    assert api.client.post("/v1/batches", json=BATCH, headers={"Content-Encoding": "Identity"}).status_code == 201


def test_who_has_an_answer_already_is_told_so(api: Api) -> None:
    etag = api.client.post("/v1/batches", json=BATCH).headers["ETag"]

    same = api.client.get("/v1/batches/b1", headers={"If-None-Match": etag})
    other = api.client.get("/v1/batches/b1", headers={"If-None-Match": ETAG.replace("10", "11")})

    assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", etag)
    assert other.status_code == 200


@pytest.mark.parametrize(("field", "state"), [("eta", "overdue"), ("expires", "expired")])
def test_what_follows_from_the_day_is_another_answer_and_no_reason_to_refuse_a_change(
    api: Api, monkeypatch: pytest.MonkeyPatch, field: str, state: str
) -> None:
    api.client.post("/v1/batches", json=BATCH | {field: f"{fakes.TODAY}"})
    yesterday = api.client.get("/v1/batches/b1").headers["ETag"]
    assert api.client.get("/v1/batches/b1", headers={"If-None-Match": yesterday}).status_code == 304

    monkeypatch.setattr(fakes, "TODAY", fakes.TODAY + timedelta(days=1))

    today = api.client.get("/v1/batches/b1", headers={"If-None-Match": yesterday})
    assert today.get_json()["state"] == state
    assert change(api, 9, yesterday).status_code == 200
    assert change(api, 8, api.client.get("/v1/batches/b1").headers["ETag"]).status_code == 200
    assert change(api, 7, today.headers["ETag"]).status_code == 412


quantities = st.integers(0, 10**9)
days = st.none() | st.dates()


@given(quantities, quantities, quantities, quantities, days, days)
def test_an_etag_names_all_that_ever_changes_in_a_batch(  # noqa: PLR0917 - drawn
    left: int, promised: int, dispatched: int, quarantined: int, eta: date | None, expires: date | None
) -> None:
    created = DomainBatch.created(BatchCreated("b1", "TABLE", 0, eta, expires), added=1)
    taken = promised + dispatched + quarantined
    batch = replace(
        created,
        purchased_quantity=taken + left,
        taken_quantity=taken,
        dispatched_quantity=dispatched,
        quarantined_quantity=quarantined,
    )
    etag = conditions.etag_of(view_of(batch))

    with Flask(__name__).test_request_context(headers={"If-Match": f'"{etag}"'}):
        assert conditions.seen() == (batch.revision,)


# --- what is wrong with a request ----------------------------------------------


def test_each_wrong_value_is_named_with_its_place_and_its_rule(api: Api) -> None:
    answer = api.client.post("/v1/allocations", json={"orderid": " o1", "qty": 0})

    assert is_problem(answer, problems.INVALID_VALUES)["errors"] == [
        {"pointer": "#/orderid", "detail": "must not begin or end with a space, not ' o1'"},
        {"pointer": "#/sku", "detail": "is missing"},
        {"pointer": "#/qty", "detail": "input should be greater than or equal to 1, not 0"},
    ]


def test_a_body_that_is_no_object_is_wrong_as_a_whole(api: Api) -> None:
    said = is_problem(api.client.post("/v1/allocations", json=[LINE]), problems.INVALID_VALUES)

    assert said["errors"][0]["pointer"] == "#"


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=5.0", "limit"),
        ("limit=1&limit=2", "limit"),
        ("orderId=o1", "orderId"),
        ("sku=", "sku"),
        ("sku=%00", "sku"),
        ("since=yesterday", "since"),
        ("since=2031-01-01", "since"),
        ("since=2031-01-01T00:00:00", "since"),
        ("until=2031-02-30T00:00:00Z", "until"),
        ("until=1700000000", "until"),
        ("cursor=%21", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=aGFsbG8", "cursor"),
        (f"cursor={cursor_at(('TABLE',))}", "cursor"),
        (f"cursor={cursor_at(('TABLE', 2**63))}", "cursor"),
        (f"cursor={cursor_at((chr(0), 1))}", "cursor"),
        ("cursor=" + urlsafe_b64encode(b'["\\ud800", 1]').decode().rstrip("="), "cursor"),
    ],
)
def test_what_is_asked_for_wrongly_is_named(api: Api, query: str, name: str) -> None:
    said = is_problem(api.client.get(f"/v1/events?{query}"), problems.INVALID_VALUES)

    assert [error["parameter"] for error in said["errors"]] == [name]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("sku=", "sku"),
        ("sku=A&sku=B", "sku"),
        ("sku=A&ref=b1", "ref"),
        ("sku=A&limit=201", "limit"),
        (f"sku=A&cursor={cursor_at(BatchCursor('b1', sku='B'))}", "cursor"),
        (f"sku=A&cursor={cursor_at(('A',))}", "cursor"),
        (f"sku=A&cursor={cursor_at(BatchCursor('b1'))}", "cursor"),
        (f"sku=A&cursor={cursor_at(BatchCursor('b1', sku='A'))}", "cursor"),
        (f"sku=A&overdue=true&cursor={cursor_at(BatchCursor('b1', date(2031, 1, 31), 'A', None, 1))}", "cursor"),
        (f"cursor={cursor_at(BatchCursor('b1', sku='A'))}", "cursor"),
        (f"cursor={cursor_at(BatchCursor('b1', date(2031, 1, 31)))}", "cursor"),
        (f"overdue=true&cursor={cursor_at(BatchCursor('b1'))}", "cursor"),
        (f"overdue=true&cursor={cursor_at(('b1', '2031-02-30', None))}", "cursor"),
        (f"cursor={cursor_at((chr(0), None, None))}", "cursor"),
        (f"cursor={cursor_at((1, None, None))}", "cursor"),
        ("overdue=yes", "overdue"),
    ],
)
def test_what_batches_are_asked_for_by(api: Api, query: str, name: str) -> None:
    said = is_problem(api.client.get(f"/v1/batches?{query}"), problems.INVALID_VALUES)

    assert [error["parameter"] for error in said["errors"]] == [name]


@pytest.mark.parametrize(
    ("path", "end"), [("holds", HoldCursor("B", "cart-1")), ("backorders", BackorderCursor("B", -5, 1))]
)
def test_a_page_of_one_sku_does_not_go_on_in_another(api: Api, path: str, end: tuple[object, ...]) -> None:
    said = is_problem(api.client.get(f"/v1/{path}?sku=A&cursor={cursor_at(end)}"), problems.INVALID_VALUES)

    assert [error["parameter"] for error in said["errors"]] == ["cursor"]


@given(
    st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=255),
    st.integers(1, 2**63 - 1),
    st.lists(st.uuids().map(str), max_size=1),
)
def test_a_cursor_is_read_as_it_was_given(stream: str, version: int, ids: list[str]) -> None:
    cursor = cursors.cursor_at((stream, version, *ids)) or ""

    assert cursor.isascii()
    assert cursors.end_of(cursor, cursors.EVENT) == (stream, version, *ids)


@given(st.text() | st.binary().map(lambda noise: noise.hex()))
def test_no_cursor_whatever_makes_it_fail(cursor: str) -> None:
    try:
        end = cursors.end_of(cursor, cursors.EVENT)
    except ValueError:
        return
    assert cursor == cursors.cursor_at(end)


def test_what_is_no_json_or_too_large_or_of_another_type_is_said_so(api: Api) -> None:
    post = api.client.post
    is_problem(post("/v1/batches", data="{", content_type="application/json"), problems.INVALID_REQUEST)
    is_problem(post("/v1/batches", json=BATCH, headers={"Idempotency-Key": ""}), problems.INVALID_REQUEST)
    two = post("/v1/batches", json=BATCH, headers={"Idempotency-Key": "k1,k2"}, environ_base={TWO_KEYS: True})
    assert "more than once" in is_problem(two, problems.INVALID_REQUEST)["detail"]
    is_problem(post("/v1/batches", data="a=1"), problems.UNSUPPORTED_MEDIA_TYPE)
    large = post("/v1/batches", data=b" " * (LARGEST_BODY + 1), content_type="application/json")
    is_problem(large, problems.TOO_LARGE)


def test_a_route_says_how_large_a_body_it_takes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = declarations(api.app)
    monkeypatch.setattr(declared.by_endpoint["v1.create_batch"], "largest_body", 100)

    answer = api.client.post("/v1/batches", data=b" " * 101, content_type="application/json")

    assert is_problem(answer, problems.TOO_LARGE)["detail"] == "the body is larger than 100 bytes"
    assert declared.largest_body() > LARGEST_BODY, "the server takes what the largest route does"


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/nix", "/v1/batches/", "/v1/batches/nix", "/v1/batches/%20"])
def test_what_is_not_there_is_a_problem_too(api: Api, path: str) -> None:
    is_problem(api.client.get(path), problems.NOT_FOUND)


def test_what_can_t_be_done_names_what_can(api: Api) -> None:
    answer = api.client.delete("/v1/batches/b1")

    is_problem(answer, problems.METHOD_NOT_ALLOWED)
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "PATCH"}


def test_the_book_s_routes_speak_as_they_did(api: Api) -> None:
    for answer in (api.client.post("/allocate", json=LINE), api.client.get("/nix"), api.client.get("/allocate")):
        assert list(answer.json or {}) == ["message"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unavailable("the database is away"), problems.UNAVAILABLE),
        (RequestInProgress("k1"), problems.STILL_RUNNING),
        (ZeroDivisionError("secret"), problems.INTERNAL_ERROR),
    ],
)
def test_a_fault_is_a_problem_too(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: problems.Problem
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(fakes.FakeUnitOfWork, "commit", fail)

    answer = api.client.post("/v1/batches", json=BATCH)

    assert "secret" not in str(is_problem(answer, kind))
    assert answer.headers.get("Retry-After") == (None if kind is problems.INTERNAL_ERROR else "1")


def test_who_has_waited_too_long_is_told_so_in_the_same_words(api: Api) -> None:
    answer = api.client.get("/v1/batches/b1", environ_overrides={WAITED: LONGEST_WAIT + 0.1})

    is_problem(answer, problems.UNAVAILABLE)


def test_an_error_that_is_none_of_ours_is_known_by_its_status(api: Api) -> None:
    app = create_app(cast(Service, api), UNRESTRICTED)

    @app.get("/v1/teapot")
    def teapot() -> str:
        raise ImATeapot

    answer = app.test_client().get("/v1/teapot")

    assert (answer.status_code, answer.content_type) == (418, "application/problem+json")
    assert (answer.json or {})["type"] == "about:blank"
    assert (answer.json or {})["title"] == "I'm a teapot"


# --- the document ---------------------------------------------------------------


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    answer = Api().client.get("/openapi.json")
    assert answer.content_type == "application/json"
    return cast(dict[str, Any], answer.json)


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"] >= "3.1"
    OpenAPIV31SpecValidator(document).validate()


def test_every_route_is_declared_and_in_the_document(api: Api, document: dict[str, Any]) -> None:
    pages = declarations(api.app).public_blueprints
    rules = [rule for rule in api.app.url_map.iter_rules() if rule.endpoint.partition(".")[0] not in pages]
    routes = {(method.lower(), rule.rule) for rule in rules for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    documented = {(method, path) for path, methods in document["paths"].items() for method in methods}

    assert all(route.summary and route.description for route in declarations(api.app).by_endpoint.values())
    assert {rule.endpoint for rule in rules} == declarations(api.app).by_endpoint.keys()
    assert {(method, re.sub(r"<\w+:(\w+)>", r"{\1}", rule)) for method, rule in routes} == documented


def test_every_change_and_every_problem_of_it_is_in_the_document(document: dict[str, Any]) -> None:
    patch = document["paths"]["/v1/batches/{ref}"]["patch"]

    statuses = "200 400 401 403 404 409 412 413 415 422 428 429 500 503"
    assert patch["responses"].keys() == {*statuses.split()}
    assert patch["description"].endswith("Where API keys are required it needs the scope `operate`.")
    assert list(patch["requestBody"]["content"]["application/json"]["schema"]["properties"]) == ["qty"]
    assert [parameter["name"] for parameter in patch["parameters"]] == ["ref", "dry_run", "Idempotency-Key", "If-Match"]


def test_names_in_addresses_of_commands_have_the_limits_of_commands(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for one in operation.get("parameters", []):
                if method != "get" and "not" in one.get("schema", {}):
                    assert r"\u034f" in one["schema"]["not"]["pattern"], f"{method} {path}, {one['name']}"


def test_limits_in_the_document_are_those_that_validate(document: dict[str, Any]) -> None:
    line = document["paths"]["/v1/allocations"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    limit = document["paths"]["/v1/products"]["get"]["parameters"][0]

    assert line["required"] == ["orderid", "sku", "qty"]
    assert (line["properties"]["qty"]["minimum"], line["properties"]["qty"]["maximum"]) == (1, 1_000_000)
    assert (line["properties"]["sku"]["minLength"], line["properties"]["sku"]["maxLength"]) == (1, 255)
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}


def test_the_document_says_which_parameters_must_be_given(document: dict[str, Any]) -> None:
    asked = document["paths"]["/v1/availability"]["get"]["parameters"]

    assert [parameter["name"] for parameter in asked if parameter.get("required")] == ["sku"]


def examples(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], object]]:
    """What, its schema, and an example of it."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for name, body in bodies.items():
                for content in body.get("content", {}).values():
                    several = [example["value"] for example in content.get("examples", {}).values()]
                    for example in several or ([content["example"]] if "example" in content else []):
                        yield f"{method} {path} {name}", content["schema"], example


def test_every_example_is_an_example_of_its_schema(document: dict[str, Any]) -> None:
    found = list(examples(document))

    assert len(found) > 60
    for what, schema, example in found:
        whole = schema | {"components": document["components"]}
        assert not list(Draft202012Validator(whole).iter_errors(example)), f"{what}: {example}"


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_text_is_allowed_by_the_document_exactly_when_it_is_taken(text: str) -> None:
    schema = TypeAdapter(Text).json_schema()

    allowed = Draft202012Validator(schema).is_valid(text) and not text.endswith("\n")  # which Python's `$` overlooks

    answer = shared.client.post("/v1/batches", json=BATCH | {"sku": text, "ref": "?"})
    assert (answer.status_code in (200, 201, 409)) == allowed, answer.text


shared = Api()


def test_the_page_about_the_api_lists_every_route_and_every_problem(document: dict[str, Any]) -> None:
    page = (DOCS / "api.md").read_text("utf-8")

    for path, methods in document["paths"].items():
        if path.startswith("/v1/"):
            for method in methods:
                assert f"`{method.upper()} {path.replace('{', '<').replace('}', '>')}`" in page
    for problem in problems.PROBLEMS.values():
        assert re.search(rf"^\| {problem.status} \| .*`{problem.type}`", page, re.MULTILINE), problem.name


# --- pages -----------------------------------------------------------------------


@pytest.mark.parametrize("problem", problems.PROBLEMS.values(), ids=lambda problem: problem.name)
def test_the_type_of_a_problem_leads_to_what_it_means(api: Api, problem: problems.Problem) -> None:
    page = api.client.get(problem.type)

    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert f"type <code>{problem.type}</code>" in page.text
    assert f'href="{problem.type}"' in api.client.get("/problems").text


def test_no_two_problems_have_one_name() -> None:
    declared = {value for value in vars(problems).values() if isinstance(value, problems.Problem)}
    declared |= set(problems.OF_REFUSALS.values())

    assert len(problems.PROBLEMS) == len(declared)


def test_swagger_ui_fetches_nothing_from_elsewhere(api: Api) -> None:
    answer = api.client.get("/docs")
    page = answer.text

    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'; "), "the browser sees to it"
    assert "http:" not in page
    assert "https:" not in page
    for path in ("/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/start.js", "/docs/swagger.svg"):
        assert path in page
        assert api.client.get(path).status_code == 200
    assert "validatorUrl: null" in api.client.get("/docs/start.js").text, "else it asks a server of Swagger's"


@pytest.mark.parametrize("path", ["/docs/nix", "/docs/../start.js", "/problems/nix"])
def test_there_are_no_other_pages(api: Api, path: str) -> None:
    assert api.client.get(path).status_code == 404
