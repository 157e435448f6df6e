"""API keys in the database and at the command line, and what the log says of whoever shows one."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine
from tests.integration.conftest import Sql

from allocation.access.key_cache import ApiKeyCache
from allocation.access.keys import Principal, Scope
from allocation.access.sql_keys import NameTaken, SqlKeys
from allocation.adapters.redis_channels import EVENTS
from allocation.bootstrap import Service
from allocation.config import SettingError, Settings
from allocation.domain import commands
from allocation.entrypoints import inbound
from allocation.entrypoints.cli import main
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import AccessPolicy
from allocation.entrypoints.http.key_check import require_keys
from allocation.service_layer.routing import PUBLISH_EVENT
from messaging.envelope import LONGEST_TEXT, Metadata
from messaging.errors import Unavailable
from messaging.sql.connections import Database


@pytest.fixture
def keys(engine: Engine) -> SqlKeys:
    return SqlKeys(Database(engine))


@pytest.fixture
def allocation(settings: Settings) -> Callable[..., Result]:
    """Runs the command line on the test's database."""

    def run(*arguments: str) -> Result:
        return CliRunner(env=settings.as_environment({})).invoke(main, arguments)

    return run


def test_a_key_is_kept_as_a_hash_and_found_by_what_is_shown(keys: SqlKeys, sql: Sql) -> None:
    key, stored = keys.create("shop", [Scope.ALLOCATE, Scope.READ], rate=7, by="anna")

    [row] = sql("SELECT name, id, hash, scopes, rate, created_by, revoked_at FROM api_keys")
    assert row == ("shop", stored.id, sha256(key.encode()).digest(), ["read", "allocate"], 7, "anna", None)
    assert key.rpartition("_")[2] not in "".join(text for (text,) in sql("SELECT api_keys::text FROM api_keys"))
    assert ApiKeyCache(keys.all).principal_of(key) == Principal("shop", frozenset({Scope.READ, Scope.ALLOCATE}), 7)


def test_a_scope_that_only_a_newer_release_knows_allows_nothing_and_stands_in_no_other_key_s_way(
    keys: SqlKeys, sql: Sql
) -> None:
    shown = {name: keys.create(name, [Scope.READ], rate=None, by="a test")[0] for name in ("newer", "ours")}
    sql("UPDATE api_keys SET scopes = '{read,holds}' WHERE name = 'newer'")
    cache = ApiKeyCache(keys.all)

    assert cache.principal_of(shown["ours"])
    found = cache.principal_of(shown["newer"])
    assert found
    assert found.scopes == {Scope.READ}
    assert keys.revoke("newer", "a test")


def test_a_name_is_given_once_even_after_its_key_was_revoked(keys: SqlKeys) -> None:
    keys.create("shop", [Scope.READ], rate=None, by="anna")
    keys.revoke("shop", by="ben")

    with pytest.raises(NameTaken):
        keys.create("shop", [Scope.ADMIN], rate=None, by="ben")

    [stored] = keys.all()
    assert stored.scopes == (Scope.READ,)


def test_whoever_revoked_a_key_first_stays_on_record(keys: SqlKeys) -> None:
    keys.create("shop", [Scope.READ], rate=None, by="anna")
    first, again = keys.revoke("shop", by="ben"), keys.revoke("shop", by="cleo")

    assert first == again
    assert again
    assert again.revoked_by == "ben"
    assert keys.revoke("nobody", by="ben") is None


def test_at_the_command_line_a_key_is_shown_once(allocation: Callable[..., Result]) -> None:
    created = allocation("keys", "create", "shop", "--scope", "read", "--scope", "allocate")

    key = created.stdout.strip()
    assert key.startswith("alk_")
    assert created.stderr == "This is the key 'shop', for read, allocate. It is not shown again.\n"
    for arguments in (["list"], ["list", "--json"], ["revoke", "shop"], ["list"], ["revoke", "shop", "--json"]):
        answer = allocation("keys", *arguments)
        assert answer.exit_code == 0
        assert "shop" in answer.output
        assert key.rpartition("_")[2] not in answer.output


def test_every_word_about_keys_speaks_json(allocation: Callable[..., Result]) -> None:
    created = json.loads(allocation("keys", "create", "shop", "--scope", "read", "--rate", "5", "--json").stdout)
    listed = json.loads(allocation("keys", "list", "--json").stdout)
    revoked = json.loads(allocation("keys", "revoke", "shop", "--json").stdout)

    key = created.pop("key")
    assert created == listed
    assert (created["name"], created["scopes"], created["rate"]) == ("shop", ["read"], 5)
    assert key.startswith(f"alk_{created['id']}_")
    assert (listed["revoked_at"], bool(revoked["revoked_at"])) == (None, True)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("create", "shop"), "Missing option '--scope'"),
        (("create", "shop", "--scope", "write"), "'write' is not one of 'read', 'allocate', 'operate', 'admin'"),
        (("create", "two words", "--scope", "read"), "NAME is 'two words'; expected up to 63"),
        (("revoke", "nobody"), "there is no key 'nobody'; see `allocation keys list`"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    allocation: Callable[..., Result], arguments: tuple[str, ...], complaint: str
) -> None:
    answer = allocation("keys", *arguments)

    assert answer.exit_code
    assert complaint in answer.stderr


def test_a_name_that_is_taken_is_said_in_a_line(allocation: Callable[..., Result]) -> None:
    allocation("keys", "create", "shop", "--scope", "read")

    answer = allocation("keys", "create", "shop", "--scope", "admin")

    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr == (
        "Error: there is a key 'shop', or was; a name is given once, since the event log keeps it\n"
    )


# --- starting ------------------------------------------------------------------------


def test_away_from_loopback_it_does_not_start_without_keys(settings: Settings, keys: SqlKeys) -> None:
    elsewhere = replace(settings, host="0.0.0.0")
    for expected in ("no key at all", "only a revoked one"):
        with pytest.raises(SettingError, match=r"HOST is '0\.0\.0\.0', and .* `allocation keys create .*API_KEYS="):
            require_keys(elsewhere)
        keys.create(expected.replace(" ", "-"), [Scope.READ], rate=None, by="anna")
        keys.revoke(expected.replace(" ", "-"), by="anna")

    require_keys(settings)
    require_keys(replace(elsewhere, api_keys="trust-everybody"))
    keys.create("shop", [Scope.READ], rate=None, by="anna")
    require_keys(elsewhere)


def test_nor_before_the_database_was_migrated(settings: Settings, unmigrated_url: str) -> None:
    with pytest.raises(SettingError, match="there is no API key"):
        require_keys(replace(settings, database_url=unmigrated_url, api_keys="required"))


def test_it_starts_while_the_database_is_away_and_says_that_it_can_not_tell(
    settings: Settings, database_away: Callable[[], AbstractContextManager[None]], caplog: pytest.LogCaptureFixture
) -> None:
    with database_away():
        require_keys(replace(settings, host="0.0.0.0"))

    assert "can't tell whether there are API keys; all requests need one" in caplog.messages


# --- who asked -------------------------------------------------------------------------


def test_whoever_asked_is_in_the_log_and_in_what_the_world_is_told(service: Service, keys: SqlKeys, sql: Sql) -> None:
    key, _ = keys.create("shop", [Scope.ADMIN], rate=None, by="anna")
    client = create_app(service, AccessPolicy(service.keys)).test_client()
    headers = {"Authorization": f"Bearer {key}"}
    client.post("/add_batch", json={"ref": "b1", "sku": "LAMP", "qty": 10}, headers=headers)
    client.post("/allocate", json={"orderid": "o1", "sku": "LAMP", "qty": 1}, headers=headers)
    service.bus.handle(commands.ChangeBatchQuantity("b1", 0), Metadata.first("redis"))

    while service.relay.deliver(PUBLISH_EVENT):
        pass

    principals = [principal for (principal,) in sql("SELECT principal FROM event_log ORDER BY version")]
    assert principals[:2] == ["api_key:shop"] * 2
    assert set(principals[2:]) == {None}, "nobody had to say who they are"
    entries: Any = service.redis.xrange(EVENTS)
    told = [json.loads(fields[b"event"]) for _, fields in entries]
    assert [(event.get("authtype"), event.get("authid")) for event in told[:3]] == [
        ("api_key", "shop"),
        ("api_key", "shop"),
        (None, None),
    ]
    answered: Any = client.get("/v1/events?sku=LAMP", headers=headers).json
    assert [event["principal"] for event in answered["items"]] == principals


def test_the_longest_idempotency_key_of_the_longest_name_is_kept(service: Service, keys: SqlKeys, sql: Sql) -> None:
    client = create_app(service, AccessPolicy(service.keys)).test_client()
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 0))

    for key in [keys.create(digit * 63, [Scope.ALLOCATE], rate=None, by="anna")[0] for digit in "12"]:
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": '"' * LONGEST_TEXT}
        for _ in range(2):
            answer = client.post("/allocate", json={"orderid": "o1", "sku": "LAMP", "qty": 1}, headers=headers)
            assert answer.status_code == 202, answer.text

    assert sql("SELECT count(*) FROM event_log WHERE type = 'out_of_stock.v1'") == [(2,)], "one for each caller"


def test_a_dead_letter_that_is_retried_is_put_down_to_whoever_retries_it(service: Service, sql: Sql) -> None:
    source = "change_batch_quantity"
    service.dead_letters.store(source=source, body=b'{"batchref": "b1", "qty": 5}', reason="Unknown batch b1")
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    [letter] = service.dead_letters.messages()

    assert inbound.retry(service, letter, "user:anna") is None

    assert sql("SELECT principal FROM event_log ORDER BY version") == [(None,), ("user:anna",)]


def test_while_the_database_is_away_a_key_is_not_called_wrong(
    settings: Settings, service: Service, keys: SqlKeys, database_away: Callable[[], AbstractContextManager[None]]
) -> None:
    key, _ = keys.create("shop", [Scope.ADMIN], rate=None, by="anna")
    client = create_app(service, AccessPolicy(service.keys)).test_client()
    headers = {"Authorization": f"Bearer {key}"}

    with database_away():
        assert client.get("/allocations/o1", headers=headers).status_code == 503
    assert client.get("/allocations/o1", headers=headers).status_code == 404


def test_without_a_schema_nobody_is_let_in(unmigrated_url: str, settings: Settings) -> None:
    from allocation.bootstrap import bootstrap

    service = bootstrap(replace(settings, database_url=unmigrated_url))
    try:
        with pytest.raises(Unavailable, match="migrate it first"):
            service.keys.principal_of(f"alk_{0:012x}_{'0' * 64}")
    finally:
        service.close()
