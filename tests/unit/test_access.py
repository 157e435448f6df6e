"""Access control: who may use which route, and what is answered to those who may not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from threading import Event
from typing import cast

import pytest
from flask import Flask, g
from hypothesis import assume, given
from hypothesis import strategies as st
from tests import fakes
from tests.one_app import client_of
from tests.unit.test_flask_app import BATCH, LINE

from allocation.access.key_cache import REVOCATION_DELAY, ApiKeyCache
from allocation.access.keys import NAME, Principal, Scope, StoredKey, id_of
from allocation.access.rates import Rates
from allocation.bootstrap import Service
from allocation.config import SettingError, Settings
from allocation.domain.commands import CreateBatch
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED, AccessPolicy, access_policy
from allocation.entrypoints.http.input import message_id
from allocation.entrypoints.http.routes import PUBLIC, declarations
from messaging.cloud_events import CloudEvent
from messaging.envelope import Metadata
from messaging.errors import Unavailable


class FakeKeys:
    """As the table has them, with a count of how often it was read."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredKey] = {}
        self.reads = 0
        self.is_away = False
        self.now = 1000.0
        self.cache = ApiKeyCache(self.read_all, clock=lambda: self.now)

    def create(self, name: str, *scopes: Scope, rate: int | None = None) -> str:
        key_id = f"{len(self.stored):012x}"
        key = f"alk_{key_id}_{name.encode().hex():0<64}"
        moment = datetime.now(UTC)
        self.stored[name] = StoredKey(name, key_id, sha256(key.encode()).digest(), scopes, rate, moment, "anna")
        return key

    def revoke(self, name: str) -> None:
        self.stored[name] = replace(self.stored[name], revoked_at=datetime.now(UTC))

    def read_all(self) -> list[StoredKey]:
        self.reads += 1
        if self.is_away:
            raise Unavailable("no database")
        return [*self.stored.values()]


class Api:
    """The app with API keys required, in memory."""

    def __init__(self, keys: FakeKeys, rate: int | None = None) -> None:
        self.service = fakes.Service()
        self.state = {"status": "ready"}
        self.bus = self.service.bus
        self.views = self
        self.client = client_of(self, AccessPolicy(keys.cache, rate, Rates(clock=lambda: keys.now)))

    def allocations(self, _: str) -> list[dict[str, str]]:
        return [{"sku": "TABLE", "batchref": "b1"}]

    def readiness(self) -> dict[str, str]:
        return self.state


@pytest.fixture
def keys() -> FakeKeys:
    return FakeKeys()


@pytest.fixture
def api(keys: FakeKeys) -> Api:
    return Api(keys)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# --- what each route declares ----------------------------------------------------


def scopes(app: Flask) -> dict[tuple[str, str], Scope | None]:
    """By method and rule, of all routes. Raises NotDeclared."""
    declared = declarations(app)
    return {
        (method, rule.rule): declared.scope(rule.endpoint, method)
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }


def test_every_route_declares_what_it_needs(api: Api) -> None:
    needs = scopes(api.client.application)

    assert needs["GET", "/allocations/<any_text:orderid>"] is Scope.READ
    assert needs["HEAD", "/v1/products"] is Scope.READ
    assert needs["GET", "/v1/batches"] is Scope.READ
    assert needs["GET", "/metrics"] is Scope.READ
    assert needs["POST", "/allocate"] is Scope.ALLOCATE
    assert needs["POST", "/v1/allocations"] is Scope.ALLOCATE
    assert needs["POST", "/add_batch"] is Scope.OPERATE
    assert needs["POST", "/v1/batches"] is Scope.OPERATE
    assert needs["PATCH", "/v1/batches/<any_text:ref>"] is Scope.OPERATE
    assert needs["OPTIONS", "/allocate"] is Scope.READ


def test_only_these_are_public(api: Api) -> None:
    public = {rule for (_, rule), scope in scopes(api.client.application).items() if scope is PUBLIC}

    assert {rule for rule in public if not rule.startswith(("/console", "/docs", "/problems"))} == {
        "/",
        "/healthz",
        "/readyz",
        "/openapi.json",
    }
    assert declarations(api.client.application).public_blueprints == {"about", "console"}


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
@pytest.mark.parametrize("rule", ["/allocates", "/new", "/v1/batchesque", "/v1/batches/new", "/consoles"])
def test_a_route_without_a_declaration_is_closed_even_to_an_administrator(
    keys: FakeKeys, method: str, rule: str
) -> None:
    app = create_app(cast(Service, Api(keys)), AccessPolicy(keys.cache))
    admin = keys.create("root", Scope.ADMIN)
    app.add_url_rule(rule, "new", view_func=lambda: "done", methods=[method])

    answer = app.test_client().open(rule, method=method, headers=bearer(admin))

    assert answer.status_code == 403
    assert "this route is closed: it does not declare which scope it needs" in answer.text


# --- who is authorized------------------------------------------------------------


def test_without_a_key_one_learns_what_to_do_and_nothing_else(api: Api) -> None:
    for method, path in (("POST", "/allocate"), ("GET", "/allocations/o1"), ("GET", "/nowhere"), ("DELETE", "/x")):
        answer = api.client.open(path, method=method)

        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="allocation"'
        assert answer.json == {"message": "an API key is required; send it as `Authorization: Bearer KEY`"}


def test_health_is_told_to_everybody(api: Api) -> None:
    assert api.client.get("/healthz").status_code == api.client.get("/readyz").status_code == 200
    assert api.client.get("/").status_code == 200


def test_strangers_are_told_whether_it_is_ready_and_not_why(keys: FakeKeys) -> None:
    api = Api(keys)
    api.state = {"status": "not ready", "database": 'connection to "10.0.0.5" failed for user "allocation"'}

    answer = api.client.get("/readyz")

    assert (answer.status_code, answer.json) == (503, {"status": "not ready"})


@pytest.mark.parametrize("key", ["x", "alk_", f"alk_{0:012x}_{'0' * 64}", f"alk_{1:012x}_{'0' * 64}", "é"])
def test_a_wrong_key_is_refused_and_changes_nothing(api: Api, keys: FakeKeys, key: str) -> None:
    keys.create("shop", Scope.OPERATE)

    answer = api.client.post("/add_batch", json=BATCH, headers=bearer(key))

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="allocation", error="invalid_token"'
    assert "TABLE" not in api.service.memory.log


def test_who_is_refused_is_in_the_log_once_a_second_with_the_reason(
    api: Api, keys: FakeKeys, caplog: pytest.LogCaptureFixture
) -> None:
    key = keys.create("shop", Scope.READ)
    keys.revoke("shop")
    client = create_app(cast(Service, api), AccessPolicy(keys.cache)).test_client()

    for _ in range(20):
        client.get("/allocations/o1", headers=bearer(key))

    refused = [record for record in caplog.records if record.getMessage() == "request rejected"]
    assert len(refused) in (1, 2)
    assert vars(refused[0])["error"] == "unknown or revoked API key alk_000000000000"
    assert vars(refused[0])["path"] == "/allocations/o1"
    assert vars(refused[0])["address"] == "127.0.0.1"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")))
def test_no_header_whatever_is_authorized_or_causes_an_error(header: str) -> None:
    assert guarded_api().client.get("/allocations/o1", headers={"Authorization": header}).status_code == 401


@cache
def guarded_api() -> Api:
    """For examples that nobody lets in."""
    keys = FakeKeys()
    keys.create("shop", Scope.ADMIN)
    return Api(keys)


@pytest.mark.parametrize("kind", ["Bearer ", "bearer ", "BEARER  "])
def test_a_key_opens_what_its_scope_is_for(api: Api, keys: FakeKeys, kind: str) -> None:
    key = keys.create("shop", Scope.READ)

    assert api.client.get("/allocations/o1", headers={"Authorization": kind + key}).status_code == 200


@pytest.mark.parametrize("scope", Scope)
def test_each_scope_opens_its_own_routes_and_admin_all(keys: FakeKeys, scope: Scope) -> None:
    api = Api(keys)
    key = bearer(keys.create("shop", scope))
    statuses = {
        Scope.OPERATE: api.client.post("/add_batch", json=BATCH, headers=key).status_code,
        Scope.ALLOCATE: api.client.post("/allocate", json=LINE, headers=key).status_code,
        Scope.READ: api.client.get("/allocations/o1", headers=key).status_code,
    }

    opened = {needed for needed, status in statuses.items() if status != 403}

    assert opened == ({*statuses} if scope is Scope.ADMIN else {scope})


def test_who_may_not_is_told_which_scope_is_missing(api: Api, keys: FakeKeys) -> None:
    key = keys.create("shop", Scope.READ, Scope.ALLOCATE)

    answer = api.client.post("/add_batch", json=BATCH, headers=bearer(key))

    assert answer.status_code == 403
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer realm="allocation", error="insufficient_scope", scope="operate"'
    )
    assert answer.json == {
        "message": "the key 'shop' lacks the scope 'operate', which this needs; it has allocate, read"
    }
    assert "TABLE" not in api.service.memory.log


def test_who_has_a_key_is_told_that_there_is_no_such_route(api: Api, keys: FakeKeys) -> None:
    key = bearer(keys.create("shop", Scope.READ))

    assert api.client.get("/nowhere", headers=key).status_code == 404
    assert api.client.get("/allocate", headers=key).status_code == 405


def test_whoever_asked_is_in_the_metadata_of_all_that_follows(api: Api, keys: FakeKeys) -> None:
    warehouse, shop = keys.create("warehouse", Scope.OPERATE), keys.create("shop", Scope.ALLOCATE)

    api.client.post("/add_batch", json=BATCH, headers=bearer(warehouse))
    api.client.post("/allocate", json=LINE, headers=bearer(shop))

    principals = [recorded.metadata.principal for recorded in api.service.memory.log["TABLE"]]

    assert principals == ["api_key:warehouse", "api_key:shop"]


def test_an_idempotency_key_belongs_to_whoever_sent_it(api: Api, keys: FakeKeys) -> None:
    red, blue = (
        bearer(keys.create(name, Scope.ALLOCATE, Scope.OPERATE))
        | {"Idempotency-Key": "1", "Accept": "application/json"}
        for name in ("red", "blue")
    )

    def ask(who: dict[str, str], orderid: str, qty: int = 3) -> tuple[int, object]:
        answer = api.client.post("/allocate", json=LINE | {"orderid": orderid, "qty": qty}, headers=who)
        return answer.status_code, (answer.json or {}).get("outcome")

    api.service.given(CreateBatch("b1", "TABLE", 10))

    assert ask(red, "o1", 11) == (202, "out of stock")
    api.service.given(CreateBatch("b2", "TABLE", 100))
    assert ask(blue, "o1", 11) == (202, "allocated"), "not the answer that somebody else got to the same"
    assert ask(red, "o1", 11) == (202, "out of stock"), "one's own first answer stands"
    assert ask(blue, "o2") == (422, None), "one's own key with another body"


def test_an_idempotency_key_is_not_kept_apart_where_nobody_says_who_they_are() -> None:
    assert as_kept("1", None) == "http:1"


word = st.text(st.sampled_from('1:,"[]\\ '), min_size=1, max_size=3)


@given(word, word, word, st.sampled_from((":", ",", '", "', '","', "")))
def test_no_odd_key_or_name_makes_it_somebody_else_s(one: str, two: str, three: str, between: str) -> None:
    """However what is sent is cut into a name and a key."""
    pairs = {(one, f"{two}{between}{three}"), (f"{one}{between}{two}", three)}
    texts = [f"{one}{between}{two}{between}{three}", f"http:{one}{between}{two}{between}{three}"]
    assume('""' not in {key for _, key in pairs})  # which is no key
    kept = [as_kept(key, principal) for principal, key in pairs] + [as_kept(text, None) for text in texts]
    on_redis = [CloudEvent(specversion="1.0", source=one, id=two, type="t", data={}) for one, two in pairs]

    assert len({*kept, *(event.message_id for event in on_redis)}) == len(kept) + len(on_redis)


app = Flask(__name__)


def as_kept(key: str, principal: str | None) -> str | None:
    """The message id of a request with this Idempotency-Key."""
    with app.test_request_context(headers={"Idempotency-Key": key}):
        g.metadata = Metadata.first("http", principal=principal)
        return message_id()


def test_the_answers_name_a_key_but_never_show_one(api: Api, keys: FakeKeys) -> None:
    key = keys.create("shop", Scope.READ)
    for headers in (bearer(key), bearer(key[:-1])):
        answer = api.client.post("/add_batch", json=BATCH, headers=headers)
        assert key[:-1] not in answer.text + str(answer.headers)


# --- the cache of keys---------------------------------------------------------------


def test_the_database_is_not_asked_for_each_request(api: Api, keys: FakeKeys) -> None:
    key = bearer(keys.create("shop", Scope.READ))

    for _ in range(50):
        api.client.get("/allocations/o1", headers=key)

    assert keys.reads == 1


def test_guessing_does_not_keep_the_database_busy(api: Api, keys: FakeKeys) -> None:
    for number in range(100):
        api.client.get("/allocations/o1", headers=bearer(f"alk_{number:012x}_{number:064x}"))
        keys.now += 0.001

    assert keys.reads == 1


def test_a_new_key_is_known_within_a_moment(keys: FakeKeys) -> None:
    assert keys.cache.principal_of(keys.create("one", Scope.READ))
    two = keys.create("two", Scope.READ)
    keys.now += 0.3

    assert keys.cache.principal_of(two) == Principal("two", frozenset({Scope.READ}))


def test_a_revoked_key_works_for_two_seconds_at_most(keys: FakeKeys) -> None:
    key = keys.create("shop", Scope.READ)
    assert keys.cache.principal_of(key)
    assert keys.cache.principal_named("shop")

    keys.revoke("shop")
    keys.now += REVOCATION_DELAY

    assert keys.cache.principal_of(key) is None
    assert keys.cache.principal_named("shop") is None


@pytest.mark.parametrize("silence", [REVOCATION_DELAY + 0.1, 3600])
def test_whoever_comes_after_a_long_silence_does_not_get_in_on_what_was_known_before(
    keys: FakeKeys, silence: float
) -> None:
    """Though somebody else is reading the keys at that moment: then they wait."""
    key = keys.create("shop", Scope.READ)
    assert keys.cache.principal_of(key)
    keys.revoke("shop")
    keys.now += silence
    is_reading, may_go_on = Event(), Event()

    def read_all() -> list[StoredKey]:
        is_reading.set()
        assert may_go_on.wait(10)
        return keys.read_all()

    keys.cache.read_all = read_all
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(keys.cache.principal_of, key)
        assert is_reading.wait(10)
        second = threads.submit(keys.cache.principal_of, key)
        with pytest.raises(TimeoutError):
            second.result(0.05)
        may_go_on.set()

        assert first.result(10) is second.result(10) is None


def test_whoever_comes_while_the_keys_are_read_again_need_not_wait(keys: FakeKeys) -> None:
    key = keys.create("shop", Scope.READ)
    assert keys.cache.principal_of(key)
    keys.now += REVOCATION_DELAY

    with keys.cache._reading:
        assert keys.cache.principal_of(key)


def test_while_the_database_is_away_a_key_that_nobody_knows_is_no_wrong_key(api: Api, keys: FakeKeys) -> None:
    key = bearer(keys.create("shop", Scope.READ))
    keys.is_away = True

    answer = api.client.get("/allocations/o1", headers=key)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize("seconds", [0.3, 10, 61])
def test_what_can_not_be_looked_up_is_no_wrong_key_either(api: Api, keys: FakeKeys, seconds: float) -> None:
    """It may be a new one. A key that is known with another secret is wrong."""
    shop = keys.create("shop", Scope.READ)
    assert keys.cache.principal_of(shop)
    new = keys.create("new", Scope.READ)
    keys.is_away = True
    keys.now += seconds

    assert api.client.get("/allocations/o1", headers=bearer(new)).status_code == 503
    assert api.client.get("/allocations/o1", headers=bearer(f"alk_{'f' * 12}_{'0' * 64}")).status_code == 503
    if seconds < 60:
        assert api.client.get("/allocations/o1", headers=bearer(f"{shop[:-1]}f")).status_code == 401
        assert api.client.get("/allocations/o1", headers=bearer(shop)).status_code == 200


def test_whoever_comes_with_a_new_key_while_the_keys_are_read_waits_for_that(keys: FakeKeys) -> None:
    assert keys.cache.principal_of(keys.create("shop", Scope.READ))
    keys.now += 1.5
    new = keys.create("new", Scope.READ)
    is_reading, may_go_on = Event(), Event()

    def read_all() -> list[StoredKey]:
        is_reading.set()
        assert may_go_on.wait(10)
        return keys.read_all()

    keys.cache.read_all = read_all
    with ThreadPoolExecutor(2) as threads:
        threads.submit(keys.cache.principal_of, new)
        assert is_reading.wait(10)
        second = threads.submit(keys.cache.principal_of, new)
        with pytest.raises(TimeoutError):
            second.result(0.05)
        may_go_on.set()

        assert second.result(10)


def test_while_the_database_is_away_what_was_known_holds_for_a_minute(keys: FakeKeys) -> None:
    key = keys.create("shop", Scope.READ)
    assert keys.cache.principal_of(key)
    keys.is_away = True

    keys.now += 59
    assert keys.cache.principal_of(key)

    keys.now += 2
    with pytest.raises(Unavailable):
        keys.cache.principal_of(key)


def test_a_key_is_compared_as_a_whole(keys: FakeKeys) -> None:
    key = keys.create("shop", Scope.READ)

    assert id_of(key)
    assert not keys.cache.principal_of(f"{key[:-1]}f")
    assert not keys.cache.principal_of(f"{key} ")


@pytest.mark.parametrize("name", ["shop", "shop-2", "a.b_C", "7"])
def test_a_key_may_be_called(name: str) -> None:
    assert NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a:b", "ä", "a\n", "x" * 64])
def test_a_key_may_not_be_called(name: str) -> None:
    assert not NAME.fullmatch(name)


# --- how often -----------------------------------------------------------------------


def test_who_asks_too_often_is_told_when_to_come_again_and_changes_nothing(keys: FakeKeys) -> None:
    api = Api(keys, rate=5)
    key = bearer(keys.create("shop", Scope.OPERATE))
    statuses = [
        api.client.post("/add_batch", json=BATCH | {"ref": f"b{number}"}, headers=key).status_code
        for number in range(5)
    ]
    assert statuses == [201] * 5

    refused = api.client.post("/add_batch", json=BATCH | {"ref": "b6"}, headers=key)
    keys.now += 0.2
    later = api.client.post("/add_batch", json=BATCH | {"ref": "b6"}, headers=key)

    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert "'shop' may send 5 requests a second" in (refused.json or {})["message"]
    assert later.status_code == 201
    assert len(api.service.history("TABLE")) == 6


def test_what_a_key_may_not_do_counts_towards_its_rate(keys: FakeKeys) -> None:
    api = Api(keys, rate=5)
    shop = bearer(keys.create("shop", Scope.READ))

    statuses = [api.client.post("/v1/batches", headers=shop, json={}).status_code for _ in range(6)]

    assert statuses == [403] * 5 + [429]


def test_each_key_has_its_own_rate(keys: FakeKeys) -> None:
    api = Api(keys, rate=1)
    slow, fast = bearer(keys.create("slow", Scope.READ)), bearer(keys.create("fast", Scope.READ, rate=10))

    def let_in(key: dict[str, str]) -> int:
        return sum(api.client.get("/allocations/o1", headers=key).status_code == 200 for _ in range(20))

    assert (let_in(slow), let_in(fast)) == (1, 10)


@given(st.integers(1, 1000), st.lists(st.floats(0, 2), min_size=1, max_size=200))
def test_in_no_stretch_of_time_come_more_than_the_rate_and_a_burst(rate: int, pauses: list[float]) -> None:
    now = 0.0
    rates = Rates(clock=lambda: now)
    admitted: list[float] = []
    for pause in pauses:
        now += pause
        if not rates.wait("shop", rate):
            admitted.append(now)

    for first, begin in enumerate(admitted):
        for last in range(first, len(admitted)):
            assert last - first + 1 <= (admitted[last] - begin) * rate + rate + 1.001


def test_who_rests_for_long_has_no_more_than_one_burst_afterwards() -> None:
    now = 0.0
    rates = Rates(clock=lambda: now)
    rates.wait("shop", 10)
    now += 3600

    assert sum(not rates.wait("shop", 10) for _ in range(100)) == 10


@given(st.integers(1, 1000))
def test_who_waits_as_long_as_was_said_is_let_in(rate: int) -> None:
    now = 0.0
    rates = Rates(clock=lambda: now)
    while not (seconds := rates.wait("shop", rate)):
        pass
    now += seconds + 1e-9

    assert rates.wait("shop", rate) == 0


# --- what the settings say -------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "api_keys", "asked"),
    [
        ("", "", False),
        ("127.0.0.1", "", False),
        ("127.8.9.1", "", False),
        ("localhost", "", False),
        ("::1", "", False),
        ("127.0.0.1", "required", True),
        ("0.0.0.0", "", True),
        ("::", "", True),
        ("192.168.1.5", "", True),
        ("127.0.0.1.example.com", "", True),
        ("warehouse", "", True),
        ("0.0.0.0", "trust-everybody", False),
        ("0.0.0.0", "required", True),
    ],
)
def test_keys_are_asked_for_wherever_others_can_reach_unless_told_otherwise(
    host: str, api_keys: str, asked: bool
) -> None:
    settings = Settings.from_env({"HOST": host, "API_KEYS": api_keys})

    assert settings.asks_for_keys is asked
    assert (access_policy(settings, FakeKeys().cache) is UNRESTRICTED) is not asked


def test_the_rate_is_unlimited_on_loopback_and_limited_elsewhere_unless_told_otherwise() -> None:
    def rate(**env: str) -> int | None:
        return Settings.from_env(env).rate_of_keys

    assert rate() is None
    assert rate(HOST="0.0.0.0") == 500
    assert rate(RATE_LIMIT="7") == rate(RATE_LIMIT="7", HOST="0.0.0.0") == 7


@pytest.mark.parametrize(("name", "value"), [("API_KEYS", "no"), ("RATE_LIMIT", "0"), ("RATE_LIMIT", "fast")])
def test_a_setting_of_access_control_that_can_not_be_read_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"^{name} is '{value}'; expected "):
        Settings.from_env({name: value})


def test_under_v1_a_rejected_request_is_a_problem_that_says_which(keys: FakeKeys) -> None:
    client = Api(keys, rate=1).client
    key = {"Authorization": f"Bearer {keys.create('till', Scope.READ)}"}

    unknown = client.get("/v1/orders/o1")
    unable = client.post("/v1/allocations", json=LINE, headers=key)
    often = [client.get("/v1/none", headers=key) for _ in range(5)][-1]

    assert [(answer.status_code, (answer.json or {})["type"]) for answer in (unknown, unable, often)] == [
        (401, "/problems/no-key"),
        (403, "/problems/missing-scope"),
        (429, "/problems/too-many-requests"),
    ]
    assert unknown.headers["WWW-Authenticate"].startswith("Bearer ")
    assert 'scope="allocate"' in unable.headers["WWW-Authenticate"]
    assert int(often.headers["Retry-After"]) >= 1
