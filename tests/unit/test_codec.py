"""Names and shapes on the wire outlive the classes."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import fakes

from allocation.adapters import wire_names
from allocation.adapters.wire_names import CODEC
from allocation.domain import commands, events
from allocation.domain.errors import DomainError, UnknownRefusal
from allocation.service_layer.messages import COMMANDS, REFUSALS
from messaging.cloud_events import CloudEvent, CloudEvents
from messaging.codec import Codec, JsonObject
from messaging.envelope import Metadata, Recorded
from messaging.errors import UnreadableMessage

# Every shape that was ever stored. A row here is never changed: a new version gets a row of its own.
GOLDEN: list[tuple[str, JsonObject, events.Event]] = [
    (
        "batch_created.v1",
        {"ref": "b1", "sku": "TABLE", "qty": 10, "eta": "2026-01-02", "expires": "2026-02-03", "location": "hamburg"},
        events.BatchCreated("b1", "TABLE", 10, date(2026, 1, 2), date(2026, 2, 3), "hamburg"),
    ),
    (
        "batch_created.v1",
        {"ref": "b1", "sku": "TABLE", "qty": 10, "eta": None},
        events.BatchCreated("b1", "TABLE", 10, None),
    ),
    (
        "batch_quantity_changed.v1",
        {"ref": "b1", "sku": "TABLE", "qty": 0},
        events.BatchQuantityChanged("b1", "TABLE", 0),
    ),
    (
        "allocated.v1",
        {"orderid": "o1", "sku": "TÅBLE", "qty": 1, "batchref": "b1", "lineid": "1"},
        events.Allocated("o1", "TÅBLE", 1, "b1", "1"),
    ),
    (
        "allocated.v1",
        {
            "orderid": "o1",
            "sku": "TABLE",
            "qty": 1,
            "batchref": "b1",
            "lineid": "1",
            "priority": 9,
            "needed_by": "2026-01-02",
            "may_split": True,
            "waits": True,
            "locations": ["hamburg", "berlin"],
            "waited": True,
        },
        events.Allocated("o1", "TABLE", 1, "b1", "1", 9, date(2026, 1, 2), True, True, ("hamburg", "berlin"), True),
    ),
    (
        "backordered.v1",
        {
            "orderid": "o1",
            "sku": "TABLE",
            "qty": 1,
            "lineid": "1",
            "since": 7,
            "priority": 9,
            "needed_by": "2026-01-02",
            "may_split": True,
            "locations": ["hamburg"],
        },
        events.Backordered("o1", "TABLE", 1, "1", 7, 9, date(2026, 1, 2), True, ("hamburg",)),
    ),
    (
        "deallocated.v1",
        {"orderid": "o1", "sku": "TABLE", "qty": 1, "batchref": "b1", "lineid": "1"},
        events.Deallocated("o1", "TABLE", 1, "b1", "1"),
    ),
    (
        "out_of_stock.v1",
        {"orderid": "o1", "sku": "TABLE", "qty": 1, "lineid": "1"},
        events.OutOfStock("o1", "TABLE", 1, "1"),
    ),
    (
        "shortages_reported.v1",
        {"sku": "TABLE", "lines": 2, "listed": ["a", "b"]},
        events.ShortagesReported("TABLE", 2, ("a", "b")),
    ),
    (
        "line_released.v1",
        {"orderid": "o1", "sku": "TABLE", "qty": 1, "batchref": "b1", "lineid": "1", "why": "cancelled"},
        events.LineReleased("o1", "TABLE", 1, "b1", "1", "cancelled"),
    ),
    (
        "line_released.v1",
        {"orderid": "o1", "sku": "TABLE", "qty": 1, "batchref": None, "lineid": "1", "why": "changed"},
        events.LineReleased("o1", "TABLE", 1, None, "1", "changed"),
    ),
    ("order_cancelled.v1", {"orderid": "o1", "sku": "TABLE"}, events.OrderCancelled("o1", "TABLE")),
    (
        "hold_placed.v1",
        {"hold_id": "cart", "sku": "TABLE", "qty": 1, "batchref": "b1", "until": "2026-01-02T03:04:05.678901Z"},
        events.HoldPlaced("cart", "TABLE", 1, "b1", datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)),
    ),
    (
        "hold_extended.v1",
        {"hold_id": "cart", "sku": "TABLE", "until": "2026-01-02T03:04:05Z"},
        events.HoldExtended("cart", "TABLE", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ),
    (
        "hold_ended.v1",
        {"hold_id": "cart", "sku": "TABLE", "qty": 1, "batchref": "b1", "why": "expired"},
        events.HoldEnded("cart", "TABLE", 1, "b1", "expired"),
    ),
    (
        "batch_overdue.v1",
        {"ref": "b1", "sku": "TABLE", "eta": "2026-01-02"},
        events.BatchOverdue("b1", "TABLE", date(2026, 1, 2)),
    ),
    ("batch_expired.v1", {"ref": "b1", "sku": "TABLE", "qty": 3}, events.BatchExpired("b1", "TABLE", 3)),
    (
        "dispatched.v1",
        {"orderid": "o1", "sku": "TABLE", "qty": 1, "batchref": "b1", "lineid": "1", "dispatch_id": "d1"},
        events.Dispatched("o1", "TABLE", 1, "b1", "1", "d1"),
    ),
    (
        "returned.v1",
        {
            "orderid": "o1",
            "sku": "TABLE",
            "qty": 1,
            "batchref": "b1",
            "lineid": "1",
            "return_id": "r1",
            "condition": "check",
        },
        events.Returned("o1", "TABLE", 1, "b1", "1", "r1", "check"),
    ),
    (
        "batch_received.v1",
        {
            "ref": "b1",
            "sku": "TABLE",
            "receipt_id": "r1",
            "received": 6,
            "damaged": 1,
            "qty": 6,
            "expires": "2026-02-03",
            "rest": "b2",
        },
        events.BatchReceived("b1", "TABLE", "r1", 6, 1, 6, date(2026, 2, 3), "b2"),
    ),
    (
        "batch_counted.v1",
        {"ref": "b1", "sku": "TABLE", "count_id": "c1", "counted": 5, "qty": 7, "reason": "lost"},
        events.BatchCounted("b1", "TABLE", "c1", 5, 7, "lost"),
    ),
    (
        "eta_changed.v1",
        {"ref": "b1", "sku": "TABLE", "eta": "2026-01-03"},
        events.EtaChanged("b1", "TABLE", date(2026, 1, 3)),
    ),
    (
        "quarantined.v1",
        {"ref": "b1", "sku": "TABLE", "qty": 1, "reason": "suspect", "document": "r1", "came_with": "return"},
        events.Quarantined("b1", "TABLE", 1, "suspect", "r1", "return"),
    ),
    (
        "quarantine_released.v1",
        {"ref": "b1", "sku": "TABLE", "qty": 1, "document": "q2"},
        events.QuarantineReleased("b1", "TABLE", 1, "q2"),
    ),
    (
        "written_off.v1",
        {"ref": "b1", "sku": "TABLE", "qty": 1, "reason": "damaged", "document": "w1"},
        events.WrittenOff("b1", "TABLE", 1, "damaged", "w1"),
    ),
]
OLDER: list[tuple[str, JsonObject, events.Event]] = [
    (
        "batch_created.v1",  # as it was when what is as nobody says was said all the same
        {"ref": "b1", "sku": "TABLE", "qty": 10, "eta": None, "expires": None},
        events.BatchCreated("b1", "TABLE", 10, None),
    ),
    (
        "batch_created.v1",  # as it was before batches could expire
        {"ref": "b1", "sku": "TABLE", "qty": 10, "eta": "2026-01-02"},
        events.BatchCreated("b1", "TABLE", 10, date(2026, 1, 2)),
    ),
]


@pytest.mark.parametrize(("name", "data", "event"), [*GOLDEN, *OLDER])
def test_what_was_ever_stored_is_still_read(name: str, data: JsonObject, event: events.Event) -> None:
    assert CODEC.decode(name, data) == event


@pytest.mark.parametrize(("name", "data", "event"), GOLDEN)
def test_is_stored_as_ever(name: str, data: JsonObject, event: events.Event) -> None:
    assert CODEC.encode(event) == (name, data)


@pytest.mark.parametrize("kind", get_args(events.Event))
def test_every_event_has_a_name_and_a_golden_row(kind: type) -> None:
    assert CODEC.name(kind) in {name for name, _, _ in GOLDEN}


def test_every_refusal_has_a_name() -> None:
    assert {*REFUSALS.values(), UnknownRefusal} == set(DomainError.__subclasses__())


def test_a_refusal_that_a_newer_release_has_stored_is_a_refusal() -> None:
    refusal = wire_names.REFUSALS.decode({"refused": "order_cancelled", "because": "Order o1 is cancelled"})

    assert isinstance(refusal, DomainError)
    assert str(refusal) == "Order o1 is cancelled"


@given(st.one_of(*(st.from_type(kind) for kind in get_args(events.Event))))
def test_whatever_is_written_is_read_back(event: events.Event) -> None:
    name, data = CODEC.encode(event)

    assert CODEC.decode(name, data) == event


def test_a_name_we_do_not_know_yet_is_unreadable_not_a_crash() -> None:
    with pytest.raises(UnreadableMessage, match=r"no message is known as allocated\.v9"):
        CODEC.decode("allocated.v9", {})


def test_data_of_another_shape_is_unreadable() -> None:
    with pytest.raises(UnreadableMessage, match=r"not a allocated\.v1"):
        CODEC.decode("allocated.v1", {"orderid": "o1"})


def test_old_versions_are_upcast_step_by_step() -> None:
    def to_v2(data: JsonObject) -> tuple[str, JsonObject]:
        return "out_of_stock.v2", data | {"qty": 1}

    def to_v3(data: JsonObject) -> tuple[str, JsonObject]:
        return "out_of_stock.v3", data | {"lineid": data["sku"]}

    codec = Codec(
        {"out_of_stock.v3": events.OutOfStock}, upcasters={"out_of_stock.v1": to_v2, "out_of_stock.v2": to_v3}
    )

    assert codec.decode("out_of_stock.v1", {"orderid": "o1", "sku": "TABLE"}) == events.OutOfStock(
        "o1", "TABLE", 1, "TABLE"
    )
    with pytest.raises(UnreadableMessage, match=r"not a out_of_stock\.v2: KeyError"):
        codec.decode("out_of_stock.v1", {"orderid": "o1"})
    assert codec.name(events.OutOfStock) == "out_of_stock.v3"


def test_an_event_is_a_cloud_event_for_others() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    created = events.BatchCreated("b1", "TÅBLE", 10, None)
    codec = Codec({"batch_created.v1": events.BatchCreated})

    def said(causation_id: str | None, principal: str | None = None) -> JsonObject:
        metadata = Metadata("id-1", "order 7", causation_id, "http", now, principal)
        body = CloudEvents(codec, "/shop", "shop").encode(Recorded("TÅBLE", 3, created, metadata))
        assert "TÅBLE".encode() in body, "readable as it is"
        assert b" " not in body.replace(b"order 7", b""), "and short"
        spoken: JsonObject = json.loads(body)
        return spoken

    assert said("id-0") == {
        "specversion": "1.0",
        "id": "id-1",
        "source": "/shop",
        "type": "shop.batch_created.v1",
        "subject": "TÅBLE",
        "time": "2026-01-02T03:04:05+00:00",
        "datacontenttype": "application/json",
        "sequence": "3",
        "correlationid": "order 7",
        "causationid": "id-0",
        "data": {"ref": "b1", "sku": "TÅBLE", "qty": 10, "eta": None},
    }
    assert "causationid" not in said(None)
    assert said("id-0", "api_key:shop") == said("id-0") | {"authtype": "api_key", "authid": "shop"}


GOOD: JsonObject = {"specversion": "1.0", "id": "m1", "source": "/shop", "type": "said", "data": {}}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"no json", "^invalid JSON: expected ident"),
        (b"[]", r"^not a CloudEvent: body: must be an object, not \[\]"),
        (b'{"data": NaN}', "^invalid JSON"),
        (
            json.dumps(GOOD | {"data": {"a": 1}, "id": ""}).encode(),
            "^not a CloudEvent: id: string should have at least 1 character, not ''$",
        ),
        (
            json.dumps(GOOD | {"specversion": "2.0", "data": 5}).encode(),
            "specversion: must be '1.0', not '2.0'; data: must be an object, not 5$",
        ),
        (
            json.dumps(GOOD | {"id": "a\n"}).encode(),
            r"^not a CloudEvent: id: must have no control characters, not 'a\\n'$",
        ),
        (b"{}", "^not a CloudEvent: specversion: is missing; id: is missing"),
    ],
)
def test_what_is_no_cloud_event_is_unreadable_and_says_why(body: bytes, problem: str) -> None:
    with pytest.raises(UnreadableMessage, match=problem):
        CloudEvent.read_json(body)


def test_the_id_of_a_message_in_the_inbox_is_read_by_people() -> None:
    event = CloudEvent.read_json(json.dumps(GOOD | {"source": "/läden"}).encode())

    assert event.message_id == '["/läden", "m1"]'


# Of commands under an Idempotency-Key, as an older release has stored them and will compare them. Never changed.
FINGERPRINTS: list[tuple[commands.Command, str]] = [
    (
        commands.CreateBatch("b1", "LAMP", 5, date(2031, 1, 1)),
        "217874d538a47018fe295a9c19d8b61772935844ee6f9a77e3b27bbd921fbf30",
    ),
    (commands.CreateBatch("b1", "LAMP", 5), "406c60a8493c5c7f34d99f22b2a2e4137245ccc92c8fc31b6f2c69087fa9f44b"),
    (commands.Allocate("o1", "LAMP", 3, "1"), "1ccc07ed5bd36bc3b52c9ac13a73b01c0b5e491cb7dfec673b75b1b7f0ec7145"),
    (commands.Allocate("o1", "LAMP", 3), "8f9ee18e5ae7d09b75330ed27134139fe662a3c40258d56b2cbb8592a66043e2"),
    (commands.ChangeBatchQuantity("b1", 4), "64300525c80fbe21862a0b2efae2ec462c5f6483f20faca5f88a90a62c6f1753"),
    (
        commands.ChangeBatchQuantity("b1", 4, ((10, 0),)),
        "32757bfb19351ff3364863a0c451b5090c53bfa41a1f22adc28e9ade092d00a7",
    ),
    (
        commands.CreateBatch("b1", "LAMP", 5, None, date(2031, 2, 1)),
        "f4c970f3564050c2c9163eb6b801c9ae8cdcef08ca7b3ec7c0ac7fa97ad2ddf5",
    ),
    (commands.ChangeEta("b1", date(2031, 2, 1)), "3b3156c419670441f97115b79567540ea6abbffb7037c0d9c9e8a57a9cd7be50"),
    (
        commands.ReceiveBatch("b1", "r1", 60, 5, None, commands.Rest("b2", date(2031, 2, 1))),
        "947df9ee25448ccee0c0717990f1c3b6e7295b09f25f3bd1b2dc44720beff063",
    ),
    (commands.ReceiveBatch("b1", "r1", 60), "46178c43d7261b201528b3c369b31485c8e78d406a12ddf8ba5a8b085693ec13"),
    (
        commands.CountBatch("b1", 10, 13, "c1", "lost"),
        "04475279a9a5956fecde6e0ecee3be25835976b0f639be1306db27ac75d03339",
    ),
    (commands.Quarantine("b1", 4, "damaged", "q1"), "a569ab8798bb66775120f5c2be5527d8970a9db779abe46eaf6340a551169fe0"),
    (commands.ReleaseQuarantine("b1", 4, "q2"), "2f659b96a306f2053d74cd8dcabd180d1ebaeeecd610ffa8b3c3a1e25bd54020"),
    (commands.WriteOff("b1", 4, "damaged", "w1"), "b6682bfdbd662a146fb5dfad9ac87a041f86c6272f0efe60c97e30b438518bd9"),
    (
        commands.PlaceOrder("o1", (commands.OrderedLine("TABLE", 3, "1"), commands.OrderedLine("SOFA", 1)), "partial"),
        "4d5af1865050a8820c281e397a9a32f41a9a65d67f5fbbf112b9f83d33ae7f0a",
    ),
    (
        commands.PlaceOrder(
            "o1",
            (commands.OrderedLine("TABLE", 3, "1"),),
            "backorder",
            9,
            date(2031, 1, 2),
            locations=("hamburg",),
        ),
        "1e8330dc7a697ee237c5f4072cbcdf6e181097458abbc86ac43a2dea920d543a",
    ),
    (commands.PlaceHold("cart", "TABLE", 1, 600), "0f85575468f6e43957939b0fce25f6187a932e38f0a0311858ebbd96c9288501"),
    (
        commands.ConfirmHold("cart", "TABLE", 1, "o1", "1"),
        "4fc6bcb94580a930fe9feb9d3d347daac8c9cfff6412ae1d9a6457e25ce7b34d",
    ),
    (commands.ExtendHold("cart", "TABLE", 600), "e3ca8800f785353365ed8f1ff617677a4a1f36c9220624fba2560e99abf1d63a"),
    (commands.VoidHold("cart", "TABLE"), "0e55cf55d6a2a0c7ae12d96a920956b290852965aa1ba122b16e3e82195b35d1"),
    (commands.PullForward("TABLE", "b1"), "0d42370927368f6da18d687e379c529e07e3ec2713662314fccb1701c6acda18"),
    (
        commands.PlaceOrder("o1", (commands.OrderedLine("TABLE", 3, "1", "cart"),), "partial"),
        "67411de1dce8ce63bf7e9fbf3d1a69db9ab33159ded8dff526e4ac81e6f11356",
    ),
    (commands.ChangeLine("o1", "1", 3), "2f00cfcc0b89e2e1e0b89ec50b052bf76b502d6191fa5fd58040dce34a104265"),
    (commands.ReleaseLine("o1", "1"), "c1e9f16b5d8afe9059d2f3e503588f2316cdf0b57fb91931386ff5bd097113b9"),
    (commands.CancelOrder("o1"), "61b0906c752416f4b3b41bfc7bb79548990783b2430d9f0a2e91745908eba45e"),
    (
        commands.Dispatch("o1", "d1", (commands.ParcelLine("1", 5), commands.ParcelLine("2", 1, "b1"))),
        "756c6daba22852ec54b69e46ea02436440b9a40bed23ec68a9323de9bb6009d3",
    ),
    (
        commands.ReturnLine("o1", "1", 2, "r1", "good"),
        "0fea6ded2a7c9941751802e89d4149baf074d169381a95f24c707bed9e1de2ff",
    ),
]


@pytest.mark.parametrize(("command", "fingerprint"), FINGERPRINTS)
def test_a_key_that_an_older_release_has_stored_replays_and_the_other_way_round(
    command: commands.Command, fingerprint: str
) -> None:
    assert fakes.Service().bus.fingerprint(command) == fingerprint


def test_every_command_has_a_golden_fingerprint() -> None:
    assert {type(command) for command, _ in FINGERPRINTS} == {row.kind for row in COMMANDS}
