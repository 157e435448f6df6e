"""Schemathesis asks all that the OpenAPI document allows, and much that it forbids: all answers are as it says."""

from __future__ import annotations

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import settings
from schemathesis import Case, Response
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.engine import StopReason, events, from_schema
from schemathesis.openapi.checks import (
    AllowHeaderMismatch,
    RejectedPositiveData,
    UnsupportedMethodResponse,
    UseAfterFree,
)

from allocation.bootstrap import Service
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED

CONFIG = SchemathesisConfig.from_dict(
    {
        # Of each way to ask; the profile's number is for what asks no server.
        "generation": {"max-examples": settings().max_examples // 6, "mode": "all", "no-shrink": True},
        "checks": {
            # What a schema can't say: an ETag is right or stale, and who sends none is told so with 428.
            "positive_data_acceptance": {"expected-statuses": ["2xx", "304", "404", "409", "412"]},
            "negative_data_rejection": {"expected-statuses": [400, 404, 405, 412, 413, 415, 422, 428]},
            "missing_required_header": {"expected-statuses": [428]},
        },
    }
)


_IS_ABOUT_A_FLOAT = re.compile(r"[a-z_.0-9]+: input should be a valid integer, not \d+\.0")


def is_about_what_no_schema_can_say(refusal: Response) -> bool:
    """That a SKU was purchased, a cursor given by us, and a key used once; and that 5.0 is not 5."""
    said: dict[str, Any] = refusal.json()
    text: str = said.get("message") or said["detail"]
    return (
        said.get("type")
        in ("/problems/unknown-sku", "/problems/idempotency-key-reused", "/problems/impossible-receipt")
        or text.startswith(("Invalid sku ", "the Idempotency-Key was used before", "cursor: is none that"))
        or "is there twice" in text
        or all(_IS_ABOUT_A_FLOAT.fullmatch(each) for each in text.split("; "))
    )


def is_refused_in_a_dry_run(failure: Exception, response: Response) -> bool:
    """As is an ETag that is none of ours."""
    return isinstance(failure, AcceptedNegativeData) and response.json().get("would_answer", 200) >= 400


def is_about_a_name_with_a_slash(failure: Exception, case: Case[Any]) -> bool:
    """Below an order or a batch: to other methods `order-1/cancellation` is the name of an order."""
    return isinstance(failure, AllowHeaderMismatch | UnsupportedMethodResponse) and case.path.count("/") > 3


def is_about_a_hold_of_another_sku(failure: Exception, case: Case[Any]) -> bool:
    """One id may hold several SKUs, each by itself: the query says which is voided, and of which one asks."""
    return isinstance(failure, UseAfterFree) and case.path.startswith("/v1/holds/")


@pytest.mark.slow
def test_every_answer_is_one_that_the_document_allows(service: Service) -> None:
    service.bus.handle(CreateBatch("b1", "LAMP", 10))
    service.bus.handle(Allocate("o1", "LAMP", 3))
    api = schemathesis.openapi.from_wsgi("/openapi.json", create_app(service, UNRESTRICTED), config=CONFIG)

    @api.hook
    def filter_failure(_: object, failure: Exception, case: Case[Any], response: Response) -> bool:
        if is_about_a_name_with_a_slash(failure, case) or is_refused_in_a_dry_run(failure, response):
            return False
        if is_about_a_hold_of_another_sku(failure, case):
            return False
        return not (isinstance(failure, RejectedPositiveData) and is_about_what_no_schema_can_say(response))

    asked, problems = 0, list[str]()
    for event in from_schema(api).execute():
        match event:
            case events.ScenarioFinished(recorder=recorder):
                asked += len(recorder.interactions)
                problems += [
                    f"{recorder.label}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
                    for checks in recorder.checks.values()
                    for check in checks
                    if check.failure_info
                ]
            case events.NonFatalError():
                problems.append(f"{event.label}: {event.info.format()}")
            case events.FatalError():
                raise event.exception
            case events.EngineFinished():
                assert event.stop_reason is StopReason.COMPLETED
            case _:
                pass
    assert not problems, "\n\n".join(problems)
    assert asked > 300
