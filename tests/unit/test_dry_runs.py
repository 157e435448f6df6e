"""A dry run answers what would happen, changes nothing, and is right."""

from __future__ import annotations

import os
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from flask import Blueprint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.anything import Later
from tests.dry_runs import STATES, Seen, agreed, every_command
from tests.fake_console import FakeKeys
from tests.fakes import NOON, Service
from tests.one_app import client_of
from tests.oracle import Oracle, Refused
from tests.unit.test_against_the_oracle import Asker
from tests.unit.test_v1 import BATCH, Api, document, is_problem

from allocation.access.keys import Scope
from allocation.entrypoints.http import problems
from allocation.entrypoints.http.access import AccessPolicy
from allocation.entrypoints.http.routes import Route
from allocation.service_layer.messages import ordering
from messaging.envelope import Metadata
from messaging.errors import Unavailable

__all__ = ["document"]

EXAMPLES = int(os.environ.get("ORACLE_EXAMPLES", "30"))


@pytest.fixture
def api() -> Api:
    return Api()


def kept(service: Service) -> object:
    memory = service.memory
    return deepcopy((dict(memory.log), memory.outbox, memory.inbox, memory.positions, service.view))


@given(st.data())
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
def test_a_command_does_what_its_dry_run_has_said(data: st.DataObject) -> None:
    service, asker, seen = Service(), Asker(data, Oracle(NOON)), Seen()
    service.bus.observer = seen
    for _ in range(data.draw(st.integers(1, 20), "commands")):
        command, before, oracle = asker.next(), kept(service), deepcopy(asker.oracle)
        if isinstance(command, Later):
            service.now += timedelta(seconds=command.seconds)
            asker.oracle.later(command)
            continue
        dry_run = service.bus.dry_run(command)
        assert (kept(service), seen.log) == (before, []), command

        outcome = service.bus.outcome(command)

        assert [one.event for one in dry_run.events] == [one.event for one in seen.log], command
        assert (dry_run.result, str(dry_run.refusal)) == (outcome.result, str(outcome.refusal)), command
        assert dry_run.changed == outcome.changed
        seen.log.clear()
        try:
            asker.oracle.ask(command)
        except Refused:
            asker.oracle = oracle


def test_every_route_that_takes_a_command_answers_what_it_would_do() -> None:
    taken, refused, statuses = set[tuple[str, str]](), set[tuple[str, str]](), set[int]()
    for given_before in STATES.values():
        for number in range(len(list(every_command(Api().client)))):
            api, seen = Api(), Seen()
            api.service.given(*given_before)
            api.bus.observer = seen
            asked = list(every_command(api.client))[number]
            before = kept(api.service)
            asked.dry_run(**{"Idempotency-Key": "k"})
            assert kept(api.service) == before, f"{asked} has left something"

            found = agreed(asked, seen)

            statuses.add(found["would_answer"])
            if found["would_answer"] >= 400:
                refused.add((asked.route.method, asked.route.path))
            elif found["events"]:
                taken.add((asked.route.method, asked.route.path))
    rows = {(asked.route.method, asked.route.path): asked.route.takes for asked in every_command(Api().client)}
    may_refuse = {route for route, row in rows.items() if row and row.refuses}
    assert (taken, refused) == (set(rows), may_refuse), "STATES has some for the example of each"
    assert statuses == {200, 201, 204, 404, 409, 412, 422}


def test_a_route_that_raises_more_than_its_command_says_when() -> None:
    with pytest.raises(AssertionError, match="would not know"):
        Route(Blueprint("v1", ""), "POST", "/", None, {}, takes=ordering.ALLOCATE, raises=[problems.OUT_OF_STOCK])


def test_the_result_is_what_is_stored_with_the_idempotency_key(api: Api) -> None:
    api.service.given(*STATES["here"])
    for asked in every_command(api.client):
        found = asked.dry_run().json or {}
        asked.really(**{"Idempotency-Key": str(asked)})
        outcome = api.service.memory.inbox[f"http:{asked}"][1]
        if not outcome.refusal and found["would_answer"] < 400:
            assert found["result"] == outcome.result


def test_a_dry_run_says_what_follows(api: Api) -> None:
    api.service.given(*STATES["here"])

    answer = api.client.patch("/v1/batches/batch-1?dry_run=true", json={"qty": 2}, headers={"If-Match": "*"})

    line = {"orderid": "order-1", "sku": "RED-CHAIR", "qty": 12, "lineid": "line-1"}
    assert answer.json == {
        "would_answer": 200,
        "result": {"RED-CHAIR": 4},
        "events": [
            {"type": "allocation.batch_quantity_changed.v1", "data": {"ref": "batch-1", "sku": "RED-CHAIR", "qty": 2}},
            {"type": "allocation.deallocated.v1", "data": line | {"batchref": "batch-1"}},
            {"type": "allocation.allocated.v1", "data": line | {"batchref": "batch-0"}},
        ],
        "dry_run": True,
    }


def test_a_dry_run_knows_no_idempotency_key(api: Api) -> None:
    key = {"Idempotency-Key": "k"}
    api.client.post("/v1/batches", json=BATCH, headers=key)
    other = BATCH | {"ref": "b2"}

    again, new = (api.client.post("/v1/batches?dry_run=true", json=body, headers=key) for body in (BATCH, other))

    assert [(answer.json or {})["would_answer"] for answer in (again, new)] == [200, 201]


def test_false_is_no_dry_run(api: Api) -> None:
    assert api.client.post("/v1/batches?dry_run=false", json=BATCH).status_code == 201
    assert api.batch("b1")


@pytest.mark.parametrize("value", ["1", "yes", "True", "", "null"])
def test_what_is_neither_true_nor_false_is_refused_by_name(api: Api, value: str) -> None:
    said = is_problem(api.client.post(f"/v1/batches?dry_run={value}", json=BATCH), problems.INVALID_VALUES)

    assert said["errors"] == [{"detail": f"must be true or false, not '{value}'", "parameter": "dry_run"}]
    assert not api.batch("b1")


def test_what_can_t_be_read_is_answered_as_ever(api: Api) -> None:
    send = api.client.post
    is_problem(send("/v1/batches?dry_run=true", json=BATCH | {"qty": -1}), problems.INVALID_VALUES)
    is_problem(send("/v1/batches?dry_run=true", data="{", content_type="application/json"), problems.INVALID_REQUEST)
    is_problem(send("/v1/batches?dry_run=true", data="{}"), problems.UNSUPPORTED_MEDIA_TYPE)
    is_problem(api.client.patch("/v1/batches/b1?dry_run=true", json={"qty": 1}), problems.PRECONDITION_REQUIRED)
    is_problem(
        send("/v1/batches?dry_run=true", json=BATCH, headers={"Idempotency-Key": " é"}), problems.INVALID_REQUEST
    )


def test_who_may_not_ask_for_it_may_not_ask_what_it_would_do() -> None:
    keys = FakeKeys()
    reader = {"Authorization": f"Bearer {keys.create('reader', Scope.READ)}"}
    client = client_of(Api(), AccessPolicy(keys.cache))

    for asked in every_command(client):
        assert asked.dry_run(**reader).status_code == 403, asked
    options = client.options("/v1/batches/b1/receipts?dry_run=true", headers=reader)
    assert (options.status_code, options.data) == (200, b"")


def test_a_dry_run_that_can_t_be_had_is_asked_for_again_later(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(command: object, metadata: Metadata) -> Any:
        raise Unavailable("the database is away")

    monkeypatch.setattr(api.bus, "dry_run", away)

    answer = api.client.post("/v1/batches?dry_run=true", json=BATCH)
    is_problem(answer, problems.UNAVAILABLE)
    assert answer.headers["Retry-After"] == "1"


def test_every_route_that_takes_a_command_says_so_in_the_document(api: Api, document: dict[str, Any]) -> None:
    for asked in every_command(api.client):
        path = "/v1" + asked.route.path.replace("<any_text:", "{").replace(">", "}")
        described = document["paths"][path][asked.route.method.lower()]

        [parameter] = [one for one in described["parameters"] if one["name"] == "dry_run"]
        assert (parameter["in"], parameter["schema"]) == ("query", {"type": "boolean", "default": False})
        answered = described["responses"]["200"]["content"]["application/json"]["schema"]
        assert {"$ref": "#/components/schemas/DryRun"} in answered.get("anyOf", [answered])
        assert "Link" not in described["responses"]["200"].get("headers", {})
