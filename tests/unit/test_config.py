"""Settings from the environment, and one clear line for each that can't be read."""

from __future__ import annotations

import socket
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from allocation.config import SettingError, Settings
from allocation.durations import duration


def test_nothing_is_needed() -> None:
    settings = Settings.from_env({})

    assert (settings.database_url, settings.redis_url, settings.smtp_url) == ("", "", "")
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 5005, 2)
    assert (settings.mail_from, settings.mail_to) == ("allocations@example.com", "stock@made.com")
    assert settings.events_stay == timedelta(days=7)
    assert settings.home == Path("var").absolute()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_database_url_may_begin_in_each_usual_way(scheme: str) -> None:
    settings = Settings.from_env({"DATABASE_URL": f"{scheme}://user:p%40ss@db:5432/stock"})

    assert settings.database_url == "postgresql+psycopg://user:p%40ss@db:5432/stock"


def test_the_book_s_variables_count_where_no_url_is_given() -> None:
    settings = Settings.from_env(
        {"DB_HOST": "localhost", "DB_PASSWORD": "p@ss", "REDIS_HOST": "localhost", "EMAIL_HOST": "localhost"}
    )

    assert settings.database_url == "postgresql+psycopg://allocation:p%40ss@localhost:54321/allocation"
    assert settings.redis_url == "redis://localhost:63791/0"
    assert settings.smtp_url == "smtp://localhost:11025"


def test_the_book_s_other_hosts_have_the_servers_usual_ports() -> None:
    settings = Settings.from_env({"DB_HOST": "postgres", "REDIS_HOST": "redis", "EMAIL_HOST": "mailhog"})

    assert settings.database_url == "postgresql+psycopg://allocation:abc123@postgres:5432/allocation"
    assert settings.redis_url == "redis://redis:6379/0"
    assert settings.smtp_url == "smtp://mailhog:1025"


def test_urls_win_over_the_book_s_variables() -> None:
    settings = Settings.from_env({"REDIS_HOST": "elsewhere", "REDIS_URL": "redis://:secret@here:1234/2"})

    assert settings.redis_url == "redis://:secret@here:1234/2"


def test_a_pooler_is_an_address_beside_that_of_the_server() -> None:
    given = {"DATABASE_URL": "postgresql://db/stock", "DATABASE_POOLER_URL": "postgresql://pooler:6432/stock"}

    settings = Settings.from_env(given)

    assert settings.database_url == "postgresql+psycopg://db/stock"
    assert settings.database_pooler_url == "postgresql+psycopg://pooler:6432/stock"
    assert not settings.pooler_prepares
    assert Settings.from_env(given | {"DATABASE_POOLER_PREPARES": "Yes"}).pooler_prepares


def test_a_pooler_without_the_server_itself_is_refused() -> None:
    with pytest.raises(SettingError, match=r"DATABASE_POOLER_URL .* in DATABASE_URL"):
        Settings.from_env({"DATABASE_POOLER_URL": "postgresql://pooler:6432/stock"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "mysql://user:secret@db/stock"),
        ("DATABASE_URL", "postgresql://user:secret@db:port/stock"),
        ("DATABASE_URL", "postgresql://user:secret@db:5432"),
        ("DATABASE_URL", "postgresql://user:se@secret@db:5432/stock"),
        ("DATABASE_URL", "postgresql://user:secret@db1,db2@secret/stock"),
        ("DATABASE_POOLER_PREPARES", "perhaps"),
        ("REDIS_URL", "http://:secret@here"),
        ("REDIS_URL", "redis://:secret@here:99999/0"),
        ("REDIS_URL", "redis://:secret@here:6379/notanumber"),
        *(("REDIS_URL", f"redis://:secret@here/0?{option}") for option in ("tineout=3", "socket_timeout=soon")),
        *(
            ("REDIS_URL", f"redis://:secret@here/0?{option}=2")
            for option in ("protocol", "decode_responses", "retry", "encoding", "cache_config", "max_connections")
        ),
        ("REDIS_URL", "rediss://:secret@here/0?ssl_ca_cert=/etc/ssl/redis.pem"),
        ("REDIS_URL", "redis://:secret@here/0?ssl_ca_certs=/etc/ssl/redis.pem"),
        ("EVENTS_STAY", "a week"),
        ("EVENTS_STAY", "59s"),
        ("EVENTS_STAY", "3651d"),
        ("SMTP_URL", "mail.example.com"),
        ("SMTP_URL", "smtp://u:secret@mail:port"),
        ("SMTP_URL", "smtps://u:secret@"),
        ("SMTP_URL", "smtps://:secret@mail"),
        ("SMTP_URL", "smtp://ü:secret@mail"),
        ("SMTP_URL", "smtp://u:25/secret@mail"),
        ("EMAIL_HOST", "mail host"),
        ("MAIL_FROM", "nobody"),
        ("MAIL_TO", "a@example.com, b@example.com"),
        ("MAIL_TO", "a@example.com\nBcc: b@example.com"),
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("WEB_CONCURRENCY", "-1"),
        ("WEB_CONCURRENCY", "²"),
        *(("OTEL_EXPORTER_OTLP_ENDPOINT", url) for url in ("x", "ftp://x", "http://", "//x:4318", "http://secret@x:y")),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_an_unreadable_setting_is_named_in_one_line_without_its_password(name: str, value: str) -> None:
    with pytest.raises(SettingError) as error:
        Settings.from_env({name: value})

    assert str(error.value).startswith(name)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("EVENTS_STAY", "10", "EVENTS_STAY is '10'; expected a duration from 1m to 3650d, such as 36h"),
        ("EVENTS_STAY", "30s", "EVENTS_STAY is '30s'; expected a duration from 1m to 3650d, such as 36h"),
        ("MAIL_TO", "a\x07@b", "MAIL_TO is 'a\\x07@b'; expected one mail address, such as stock@made.com"),
    ],
)
def test_the_value_and_the_rule_are_told(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingError) as error:
        Settings.from_env({name: value})

    assert str(error.value) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"FORWARDED_ALLOW_IPS": "proxy"},
            "FORWARDED_ALLOW_IPS is 'proxy'; expected addresses or networks with commas between, such as "
            "10.0.0.7,172.16.0.0/12, or * for all",
        ),
        ({"TLS_KEY": __file__}, "TLS_KEY is given without TLS_CERTIFICATE; TLS needs both"),
        ({"TLS_CERTIFICATE": __file__}, "TLS_CERTIFICATE is given without TLS_KEY; TLS needs both"),
        ({"TLS_CERTIFICATE": "/nix", "TLS_KEY": __file__}, "TLS_CERTIFICATE is '/nix'; there is no such file"),
        ({"TLS_CERTIFICATE": __file__, "TLS_KEY": "/nix"}, "TLS_KEY is '/nix'; there is no such file"),
    ],
)
def test_tls_needs_a_certificate_and_its_key(given: dict[str, str], said: str) -> None:
    with pytest.raises(SettingError) as error:
        Settings.from_env(given)

    assert str(error.value) == said


def test_a_unix_socket_is_reached_by_this_machine_only() -> None:
    settings = Settings.from_env({"HOST": "unix:/run/allocation/api"})

    assert settings.socket == Path("/run/allocation/api")
    assert settings.is_on_loopback
    assert not settings.asks_for_keys


@pytest.mark.parametrize("stay", ["1m", "90m", "36h", "1d", "3650d"])
def test_events_stay_as_long_as_the_operator_says(stay: str) -> None:
    settings = Settings.from_env({"EVENTS_STAY": stay})

    assert settings.events_stay == duration(stay)


@pytest.mark.parametrize(
    ("setting", "address", "trusted"),
    [
        ("", "127.0.0.1", True),
        ("", "::1", True),
        ("", "::ffff:127.0.0.1", True),
        ("", "172.18.0.5", False),
        ("172.16.0.0/12", "172.18.0.5", True),
        ("172.16.0.0/12", "::ffff:172.18.0.5", True),
        ("172.16.0.0/12", "127.0.0.1", False),
        ("10.0.0.7, fd00::/8", "fd00::7", True),
        ("10.0.0.7, fd00::/8", "10.0.0.8", False),
        ("*", "203.0.113.9", True),
        ("10.0.0.7", "", True),
    ],
)
def test_a_proxy_is_trusted_on_this_machine_or_where_the_operator_says(
    setting: str, address: str, trusted: bool
) -> None:
    assert Settings.from_env({"FORWARDED_ALLOW_IPS": setting}).trusts_proxy(address) is trusted


@pytest.mark.parametrize(
    "zone",
    ["localtime", "Nowhere/Land", "/etc/localtime", "Europe", "posix/Europe/Berlin", "right/UTC", "posixrules", "CET"],
)
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(SettingError, match=rf"TIME_ZONE must be the name of a time zone, .* not {zone!r}"):
        Settings.from_env({"TIME_ZONE": zone})


def test_only_a_socket_may_be_where_the_api_is_to_listen(tmp_path: Path) -> None:
    """It would be replaced."""
    precious, link, free = (tmp_path / name for name in ("precious.txt", "link", "free"))
    precious.write_text("mine")
    link.symlink_to(precious)
    for host in ("unix:", f"unix:{precious}", f"unix:{link}", f"unix:{tmp_path}"):
        with pytest.raises(
            SettingError, match=rf"HOST is {host!r}; expected unix: and a path, at which there is nothing"
        ):
            Settings.from_env({"HOST": host})
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(tmp_path / "old"))
        assert Settings.from_env({"HOST": f"unix:{tmp_path}/old"}).socket == tmp_path / "old"
    assert Settings.from_env({"HOST": f"unix:{free}"}).socket == free


@pytest.mark.parametrize("url", ["http://collector:4318", "https://me:secret@collector/otlp/v1", "http://[::1]:4318"])
def test_traces_are_sent_to_any_place_of_a_server(url: str) -> None:
    assert Settings.from_env({"OTEL_EXPORTER_OTLP_ENDPOINT": url}).traces_to == url


def test_a_number_may_not_be_longer_than_any_that_is_meant() -> None:
    with pytest.raises(SettingError, match="PORT is '9999"):
        Settings.from_env({"PORT": "9" * 5_000})


def test_a_child_process_reads_the_same_settings() -> None:
    settings = Settings.from_env(
        {
            "DATABASE_URL": "postgres://u@db/stock",
            "DATABASE_POOLER_URL": "postgres://u@pooler/stock",
            "DATABASE_POOLER_PREPARES": "yes",
            "REDIS_URL": "redis://r",
            "EVENTS_STAY": "90m",
            "SMTP_URL": "smtps://me%40here:p%40ss@m:465",
            "MAIL_FROM": "shop@example.com",
            "MAIL_TO": "team@example.com",
            "TIME_ZONE": "Europe/Berlin",
            "REPLY_STREAMS": "shop.replies,wms.*",
            "ALLOCATION_HOME": "/srv/stock",
            "HOST": "0.0.0.0",
            "PORT": "80",
            "TLS_CERTIFICATE": __file__,
            "TLS_KEY": __file__,
            "FORWARDED_ALLOW_IPS": "10.0.0.7, 172.16.0.0/12",
            "WEB_CONCURRENCY": "4",
            "API_KEYS": "required",
            "RATE_LIMIT": "100",
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        }
    )

    assert Settings.from_env(settings.as_environment({"PATH": "/bin"})) == settings
    assert not [field.name for field in fields(Settings) if getattr(settings, field.name) == field.default]


def test_no_reply_streams_are_none_for_a_child_process_too() -> None:
    settings = Settings.from_env({"REPLY_STREAMS": ","})

    assert settings.reply_streams == ()
    assert Settings.from_env(settings.as_environment({})) == settings
