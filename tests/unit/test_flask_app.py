"""The HTTP contract on the service in memory: what is answered to good and to bad requests."""

from __future__ import annotations

import json
from functools import cache
from io import BytesIO
from typing import cast
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import fakes
from tests.one_app import client_of

from allocation.bootstrap import Service
from allocation.domain.commands import Allocate
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED
from allocation.entrypoints.http.back_pressure import LONGEST_WAIT, WAITED
from allocation.entrypoints.http.routes import LARGEST_BODY
from messaging.errors import OutcomeUnknown, RequestInProgress, Unavailable


class Api:
    """The app's client, and what the app was wired with: a service in memory."""

    def __init__(self) -> None:
        self.service = fakes.Service()
        self.bus = self.service.bus
        self.views = self
        self.state = {"status": "ready"}
        self.client = client_of(self)

    def allocations(self, orderid: str) -> list[dict[str, str]]:
        found = [row for row in self.service.shown if row.orderid == orderid]
        return [{"sku": row.sku, "batchref": row.batchref} for row in found]

    def readiness(self) -> dict[str, str]:
        return self.state


@pytest.fixture
def api() -> Api:
    return Api()


BATCH = {"ref": "b1", "sku": "TABLE", "qty": 10, "eta": None}
LINE = {"orderid": "o1", "sku": "TABLE", "qty": 3}


def test_adds_a_batch(api: Api) -> None:
    answer = api.client.post("/add_batch", json=BATCH)

    assert (answer.status_code, answer.text) == (201, "OK")


def test_eta_may_be_absent_a_date_or_a_date_time(api: Api) -> None:
    extras: list[dict[str, object]] = [{}, {"eta": None}, {"eta": "2011-01-02"}, {"eta": "2011-01-02T10:00:00Z"}]
    for number, extra in enumerate(extras):
        answer = api.client.post("/add_batch", json={"ref": f"b{number}", "sku": "TABLE", "qty": 10} | extra)
        assert answer.status_code == 201, answer.text


def test_the_identical_batch_again_is_fine_and_another_under_its_reference_is_a_conflict(api: Api) -> None:
    api.client.post("/add_batch", json=BATCH)

    assert api.client.post("/add_batch", json=BATCH).status_code == 201
    assert api.client.post("/add_batch", json=BATCH | {"qty": 11}).status_code == 409


def test_allocates(api: Api) -> None:
    api.client.post("/add_batch", json=BATCH)

    answer = api.client.post("/allocate", json=LINE)

    assert (answer.status_code, answer.text) == (202, "OK")
    assert api.client.get("/allocations/o1").json == [{"sku": "TABLE", "batchref": "b1"}]


@pytest.mark.parametrize(
    ("accepted", "is_json"),
    [
        ("APPLICATION/JSON", True),
        ("text/plain, application/json;q=0.1", True),
        ("application/json;q=0", False),
        ("*/*", False),
    ],
)
def test_the_outcome_is_for_who_accepts_json_by_that_name(api: Api, accepted: str, is_json: bool) -> None:
    api.client.post("/add_batch", json=BATCH)

    assert api.client.post("/allocate", json=LINE, headers={"Accept": accepted}).is_json is is_json


def test_out_of_stock_is_accepted_too(api: Api) -> None:
    api.client.post("/add_batch", json=BATCH)

    answer = api.client.post("/allocate", json=LINE | {"qty": 11})

    assert (answer.status_code, answer.text) == (202, "OK")
    assert api.client.get("/allocations/o1").status_code == 404


def test_tells_the_outcome_to_those_who_ask_for_json(api: Api) -> None:
    api.client.post("/add_batch", json=BATCH)
    wants_json = {"Accept": "application/json"}

    allocated = api.client.post("/allocate", json=LINE, headers=wants_json)
    missing = api.client.post("/allocate", json=LINE | {"orderid": "o2", "qty": 11}, headers=wants_json)

    assert allocated.status_code == missing.status_code == 202
    assert allocated.json == {"outcome": "allocated", "batchref": "b1", "orderid": "o1", "sku": "TABLE"}
    assert missing.json == {"outcome": "out of stock", "batchref": None, "orderid": "o2", "sku": "TABLE"}


def test_an_unknown_sku_is_bad_input(api: Api) -> None:
    answer = api.client.post("/allocate", json=LINE | {"sku": "NIX"})

    assert (answer.status_code, answer.json) == (400, {"message": "Invalid sku NIX"})


def test_the_same_line_again_is_fine_and_a_changed_one_is_a_conflict(api: Api) -> None:
    api.client.post("/add_batch", json=BATCH)
    api.client.post("/allocate", json=LINE)

    assert api.client.post("/allocate", json=LINE).status_code == 202
    assert api.client.post("/allocate", json=LINE | {"qty": 4}).status_code == 409
    assert len(api.service.history("TABLE")) == 2


@pytest.mark.parametrize("orderid", ["nix", "%00", "a%00b", "a%0Ab", "%FF"])
def test_an_unknown_or_impossible_order_is_not_found(api: Api, orderid: str) -> None:
    answer = api.client.get(f"/allocations/{orderid}")

    assert (answer.status_code, answer.text) == (404, "not found")


@pytest.mark.parametrize("query", ["sku=S%C4", "sku=%ED%A0%80", "%FF=1"])
def test_a_query_that_is_no_text_is_refused(api: Api, query: str) -> None:
    for method, path in (("GET", "/v1/batches"), ("DELETE", "/v1/holds/h"), ("GET", "/healthz")):
        answer = api.client.open(f"{path}?{query}", method=method)

        assert answer.status_code == 400
        assert "the query must be in UTF-8" in answer.text


@pytest.mark.parametrize("orderid", ["a/b", "/a", "a//b", "a/", "?", "#", "%", "a b", "å😀", "..", "a&b=c", "+", "%2F"])
def test_an_order_id_may_hold_any_printable_character(api: Api, orderid: str) -> None:
    api.client.post("/add_batch", json=BATCH)
    api.client.post("/allocate", json=LINE | {"orderid": orderid})

    assert api.client.get("/allocations/" + quote(orderid, safe="")).status_code == 200


BAD_LINES = {
    "not json": b"{",
    "empty": b"",
    "not utf-8": b'{"orderid": "\xff", "sku": "s", "qty": 1}',
    "not an object": b"[]",
    "deep": b"[" * 60_000,
    "missing key": {"orderid": "o1", "sku": "TABLE"},
    "quantity as text": LINE | {"qty": "5"},
    "quantity with a point": LINE | {"qty": 1.0},
    "quantity true": LINE | {"qty": True},
    "quantity null": LINE | {"qty": None},
    "quantity not a number": b'{"orderid": "o", "sku": "s", "qty": NaN}',
    "not a number under an unknown key": b'{"orderid": "o", "sku": "TABLE", "qty": 1, "x": NaN}',
    "quantity beyond all bounds": b'{"orderid": "o", "sku": "s", "qty": 1e400}',
    "quantity 0": LINE | {"qty": 0},
    "quantity negative": LINE | {"qty": -1},
    "quantity too large": LINE | {"qty": 1_000_001},
    "empty text": LINE | {"sku": ""},
    "long text": LINE | {"sku": "x" * 256},
    "leading space": LINE | {"sku": " x"},
    "trailing space": LINE | {"orderid": "x\u00a0"},
    "control character": LINE | {"orderid": "a\u0000b"},
    "line break": LINE | {"orderid": "a\nb"},
    "lone surrogate": b'{"orderid": "\\ud800", "sku": "s", "qty": 1}',
    "text as number": LINE | {"sku": 5},
    "line id null": LINE | {"lineid": None},
    "line id empty": LINE | {"lineid": ""},
}


@pytest.mark.parametrize("body", BAD_LINES.values(), ids=BAD_LINES)
def test_bad_input_is_refused_in_json_and_changes_nothing(api: Api, body: bytes | dict[str, object]) -> None:
    api.client.post("/add_batch", json=BATCH)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    answer = api.client.post("/allocate", data=data, content_type="application/json")

    assert answer.status_code == 400
    assert answer.json
    assert answer.json["message"]
    assert len(api.service.history("TABLE")) == 1


@pytest.mark.parametrize("eta", ["20110102", "2011-13-01", "tomorrow", "", 5, True, "2011-01-02Tx", "٢٠١١-٠١-٠١"])
def test_an_eta_that_is_no_date_is_refused(api: Api, eta: object) -> None:
    answer = api.client.post("/add_batch", json=BATCH | {"eta": eta})

    assert answer.status_code == 400
    assert "eta" in (answer.json or {})["message"]


def test_the_message_names_field_rule_and_value(api: Api) -> None:
    answer = api.client.post("/allocate", json=LINE | {"qty": 0})

    assert answer.json == {"message": "qty: input should be greater than or equal to 1, not 0"}


@pytest.mark.parametrize(("key", "qty"), [("qty", 0), ("qty", 1_000_000_000)])
def test_a_batch_may_be_empty_or_huge(api: Api, key: str, qty: int) -> None:
    assert api.client.post("/add_batch", json=BATCH | {key: qty}).status_code == 201
    assert api.client.post("/add_batch", json=BATCH | {"ref": "b2", key: 1_000_000_001}).status_code == 400


def test_unknown_keys_are_ignored(api: Api) -> None:
    assert api.client.post("/add_batch", json=BATCH | {"colour": "red"}).status_code == 201


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_refused(api: Api, content_type: str) -> None:
    answer = api.client.post("/allocate", data=json.dumps(LINE), content_type=content_type)

    assert answer.status_code == 415
    assert "application/json" in (answer.json or {})["message"]


def test_a_body_over_the_limit_is_refused(api: Api) -> None:
    padding = LARGEST_BODY - len(json.dumps(BATCH | {"x": ""}).encode())

    fits = api.client.post("/add_batch", data=json.dumps(BATCH | {"x": "." * padding}), content_type="application/json")
    over = api.client.post(
        "/add_batch", data=json.dumps(BATCH | {"x": "." * (padding + 1)}), content_type="application/json"
    )

    assert (fits.status_code, over.status_code) == (201, 413)
    assert (over.json or {})["message"] == "the body is larger than 65536 bytes"


def test_a_body_in_chunks_over_the_limit_is_refused_not_cut_off(api: Api) -> None:
    body = json.dumps(BATCH).encode().ljust(LARGEST_BODY + 1)
    chunked = {"wsgi.input": BytesIO(body), "wsgi.input_terminated": True, "CONTENT_TYPE": "application/json"}

    answer = api.client.post("/add_batch", environ_overrides=chunked)

    assert answer.status_code == 413
    assert "TABLE" not in api.service.memory.log


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/allocate", 405, "GET is not allowed at /allocate; allowed: OPTIONS, POST"),
        ("POST", "/nowhere", 404, "there is nothing at /nowhere; /docs shows what there is"),
    ],
)
def test_other_errors_are_json_too(api: Api, method: str, path: str, status: int, said: str) -> None:
    answer = api.client.open(path, method=method)

    assert (answer.status_code, answer.json) == (status, {"message": said})


@pytest.mark.parametrize("fault", [Unavailable("no database"), OutcomeUnknown("cut while committing")])
def test_a_fault_in_the_surroundings_is_an_honest_503(
    api: Api, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(fakes.FakeUnitOfWork, "commit", fail)

    answer = api.client.post("/add_batch", json=BATCH)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json == {"message": "the service is unavailable; try again"}


# --- the first address -----------------------------------------------------------

A_BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def test_whoever_opens_the_bare_address_in_a_browser_sees_the_console(api: Api) -> None:
    answer = api.client.get("/", headers={"Accept": A_BROWSER})

    assert (answer.status_code, answer.headers["Location"], answer.headers["Vary"]) == (302, "/console", "Accept")


@pytest.mark.parametrize("accepted", [None, "*/*", "application/json", "application/json, text/html", "text/plain"])
def test_a_program_learns_there_where_to_go_on(api: Api, accepted: str | None) -> None:
    answer = api.client.get("/", headers={"Accept": accepted} if accepted else {})

    assert (answer.status_code, answer.headers["Vary"]) == (200, "Accept")
    assert answer.json == {"console": "/console", "docs": "/docs", "openapi": "/openapi.json", "readyz": "/readyz"}
    rules = {rule.rule for rule in api.client.application.url_map.iter_rules()}
    assert rules >= {*answer.json.values()}


# --- more than can be done -----------------------------------------------------


def waited(seconds: float) -> dict[str, float]:
    return {WAITED: seconds}


def test_who_has_waited_too_long_is_asked_to_come_later_and_changes_nothing(api: Api) -> None:
    answer = api.client.post("/add_batch", json=BATCH, environ_overrides=waited(LONGEST_WAIT + 0.001))

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json == {"message": "the service is overloaded; try again"}
    assert api.client.post("/allocate", json=LINE).status_code == 400, "there is no batch"


def test_who_has_waited_a_little_is_served(api: Api) -> None:
    assert api.client.post("/add_batch", json=BATCH, environ_overrides=waited(LONGEST_WAIT)).status_code == 201


def test_whoever_asks_whether_it_is_alive_is_answered_however_long_it_took(api: Api) -> None:
    for path in ("/healthz", "/readyz"):
        assert api.client.get(path, environ_overrides=waited(60)).status_code == 200


def test_that_there_is_too_much_to_do_is_said_once_a_second(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    client = create_app(cast(Service, api), UNRESTRICTED).test_client()

    for _ in range(100):
        client.get("/allocations/o1", environ_overrides=waited(2))

    assert caplog.messages.count("more requests than can be answered in time") in (1, 2)


def test_a_fault_in_the_program_is_a_500_that_tells_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(fakes.FakeUnitOfWork, "commit", fail)

    answer = api.client.post("/add_batch", json=BATCH)

    assert (answer.status_code, answer.json) == (500, {"message": "internal error"})


def test_a_request_id_is_taken_given_back_and_kept_in_the_log(api: Api) -> None:
    answer = api.client.post("/add_batch", json=BATCH, headers={"X-Request-ID": "till-5/4711"})

    assert answer.headers["X-Request-ID"] == "till-5/4711"
    assert api.service.memory.log["TABLE"][0].metadata.correlation_id == "till-5/4711"


def test_an_idempotency_key_makes_a_request_safe_to_repeat(api: Api) -> None:
    api.client.post("/add_batch", json=BATCH)
    key = {"Idempotency-Key": "k1", "Accept": "application/json"}

    first = api.client.post("/allocate", json=LINE | {"qty": 11}, headers=key)
    api.client.post("/add_batch", json=BATCH | {"ref": "b2", "qty": 100})
    again = api.client.post("/allocate", json=LINE | {"qty": 11}, headers=key)

    assert again.data == first.data
    assert (again.json or {})["outcome"] == "out of stock"
    assert api.client.post("/allocate", json=LINE, headers=key).status_code == 422


@pytest.mark.parametrize(("one", "other"), [("k1", '"k1"'), ('"k1"', "k1"), ('"k 1"', "k 1")])
def test_a_key_in_quotes_is_the_same_key(api: Api, one: str, other: str) -> None:
    api.client.post("/add_batch", json=BATCH)

    api.client.post("/allocate", json=LINE, headers={"Idempotency-Key": one})

    assert api.client.post("/allocate", json=LINE | {"qty": 2}, headers={"Idempotency-Key": other}).status_code == 422
    assert api.client.post("/allocate", json=LINE, headers={"Idempotency-Key": other}).status_code == 202


@pytest.mark.parametrize("kept", ["http:k1", 'http:"k1"'])
def test_a_key_that_was_kept_as_it_was_spelled_still_counts(api: Api, kept: str) -> None:
    api.client.post("/add_batch", json=BATCH)
    api.service.bus.handle(Allocate("o1", "TABLE", 1), message_id=kept)

    for key in ("k1", '"k1"'):
        other = api.client.post("/allocate", json=LINE | {"orderid": "o2"}, headers={"Idempotency-Key": key})
        assert other.status_code == 422


def test_a_refusal_is_replayed_with_its_status(api: Api) -> None:
    key = {"Idempotency-Key": "k1"}
    first = api.client.post("/allocate", json=LINE, headers=key)
    api.client.post("/add_batch", json=BATCH)

    again = api.client.post("/allocate", json=LINE, headers=key)

    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert first.status_code == 400


@pytest.mark.parametrize("key", ["", "x" * 256, "ключ"])
def test_an_idempotency_key_that_cannot_be_kept_is_refused(api: Api, key: str) -> None:
    answer = api.client.post("/add_batch", json=BATCH, headers={"Idempotency-Key": key.encode().decode("latin-1")})

    assert answer.status_code == 400
    assert (answer.json or {})["message"].startswith("Idempotency-Key: must be")


def test_a_key_whose_first_request_is_at_work_is_a_conflict(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def at_work(_: object, message_id: str) -> None:
        raise RequestInProgress(message_id)

    monkeypatch.setattr(fakes.FakeUnitOfWork, "recall", at_work)

    answer = api.client.post("/add_batch", json=BATCH, headers={"Idempotency-Key": "k1"})

    assert answer.status_code == 409
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(("state", "status"), [("ready", 200), ("degraded", 200), ("not ready", 503)])
def test_readiness(api: Api, state: str, status: int) -> None:
    api.state = {"status": state}

    assert api.client.get("/readyz").status_code == status
    assert api.client.get("/healthz").status_code == 200


@cache
def shared_api() -> Api:
    """For examples that leave nothing behind."""
    return Api()


@given(st.binary() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_no_body_whatever_makes_it_fail(body: bytes | str) -> None:
    answer = shared_api().client.post("/allocate", data=body, content_type="application/json")

    assert 400 <= answer.status_code < 500


@given(
    st.fixed_dictionaries({key: st.text() | st.integers() | st.none() for key in ("orderid", "sku", "qty", "lineid")})
)
def test_no_values_whatever_make_it_fail(values: dict[str, object]) -> None:
    answer = shared_api().client.post("/allocate", json=values)

    assert answer.status_code in (202, 400)


def test_the_book_s_errors_are_what_the_book_s_client_expects(api: Api) -> None:
    """The book's own end-to-end test, chapter 13: an unknown SKU is told by its message."""
    answer = api.client.post("/allocate", json={"orderid": "o1", "sku": "nonexistent", "qty": 20})

    assert answer.status_code == 400
    assert (answer.json or {})["message"] == "Invalid sku nonexistent"
