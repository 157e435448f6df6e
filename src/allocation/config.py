"""Settings, from the environment only, read once and on purpose."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias
from urllib.parse import SplitResult, parse_qs, quote, urlsplit, urlunsplit
from zoneinfo import ZoneInfo

from allocation.durations import duration, in_short
from allocation.mail_settings import MailServer, mail_address

_OPTIONS_OF_REDIS = re.compile(
    r"db|username|password|client_name|socket_timeout|socket_connect_timeout|socket_keepalive|health_check_interval"
    r"|ssl_[a-z_]+"
)
_SENTINELS = re.compile(r"redis\+sentinel://([^@/]*@)?[^@/:,\[\]]+(:\d+)?(,[^@/:,\[\]]+(:\d+)?)*/[^/]+(/\d*)?")
_SHORTEST_STAY, _LONGEST_STAY = timedelta(minutes=1), timedelta(days=3650)
UNIX = "unix:"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOG_FORMATS = ("console", "json")
WHO_IS_ASKED = ("required", "trust-everybody")
RATE_ELSEWHERE = 500
"""Requests a second for each key in each API process, where the service is not on loopback and nobody said more."""

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
THIS_MACHINE = (ipaddress.ip_network("127.0.0.1"), ipaddress.ip_network("::1"))

EVENTS_STAY = timedelta(days=7)
"""In the Redis stream, where nobody said otherwise."""


class SettingError(Exception):
    """A setting that is missing or can't be read; says which, and what is expected. Never repeats a password."""


@dataclass(frozen=True, slots=True)
class Settings:
    """An empty URL means embedded servers, or mails as files, under `home`; an empty `log_format`: by terminal;
    an empty `traces_to`: no traces are kept.

    Where there is a pooler in transaction mode, only the API goes through it.
    """

    database_url: str = ""
    database_pooler_url: str = ""
    pooler_prepares: bool = False
    redis_url: str = ""
    events_stay: timedelta = EVENTS_STAY
    smtp_url: str = ""
    mail_from: str = "allocations@example.com"
    mail_to: str = "stock@made.com"
    time_zone: str = "UTC"
    reply_streams: tuple[str, ...] = ("*.replies",)
    home: Path = Path("var")
    host: str = "127.0.0.1"
    port: int = 5005
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[Network, ...] = THIS_MACHINE
    workers: int = 2
    api_keys: str = ""
    rate_limit: int = 0
    log_level: str = "INFO"
    log_format: str = ""
    traces_to: str = ""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings; the book's own variables count where the URL is not given. Raises SettingError."""
        given = {name: value.strip() for name, value in env.items() if value.strip()}
        usual = cls()
        return cls(
            database_url=_database_url(given),
            database_pooler_url=_pooler_url(given),
            pooler_prepares=_one_of(given, "DATABASE_POOLER_PREPARES", ("yes", "no"), default="no") == "yes",
            redis_url=_redis_url(given),
            events_stay=_time_to_stay(given, "EVENTS_STAY", default=usual.events_stay),
            smtp_url=_smtp_url(given),
            mail_from=_mail_address(given, "MAIL_FROM", default=usual.mail_from),
            mail_to=_mail_address(given, "MAIL_TO", default=usual.mail_to),
            time_zone=_time_zone(given, "TIME_ZONE", default=usual.time_zone),
            reply_streams=_words(given, "REPLY_STREAMS", default=usual.reply_streams),
            home=Path(given.get("ALLOCATION_HOME", usual.home)).absolute(),
            host=_host(given, default=usual.host),
            port=_number(given, "PORT", default=usual.port, most=65535),
            tls_certificate=_file(given, "TLS_CERTIFICATE", beside="TLS_KEY"),
            tls_key=_file(given, "TLS_KEY", beside="TLS_CERTIFICATE"),
            trusted_proxies=_networks(given, "FORWARDED_ALLOW_IPS", default=usual.trusted_proxies),
            workers=_number(given, "WEB_CONCURRENCY", default=usual.workers, most=1000),
            api_keys=_one_of(given, "API_KEYS", WHO_IS_ASKED, default=usual.api_keys),
            rate_limit=_number(given, "RATE_LIMIT", default=usual.rate_limit, most=1_000_000),
            log_level=_one_of(given, "LOG_LEVEL", LOG_LEVELS, default=usual.log_level),
            log_format=_one_of(given, "LOG_FORMAT", LOG_FORMATS, default=usual.log_format),
            traces_to=_traces_to(given),
        )

    @property
    def socket(self) -> Path | None:
        """The Unix socket that the API listens on, if it is one."""
        return Path(self.host.removeprefix(UNIX)).absolute() if self.host.startswith(UNIX) else None

    @property
    def is_on_loopback(self) -> bool:
        """Nobody but this machine reaches the API."""
        if self.socket:
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def trusts_proxy(self, address: str) -> bool:
        """Whether X-Forwarded-Proto of a client at this address is believed. One at a Unix socket has none, and is."""
        if not address:
            return True
        ip = ipaddress.ip_address(address.partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return any(ip in network for network in self.trusted_proxies)

    @property
    def asks_for_keys(self) -> bool:
        return self.api_keys == "required" or (not self.is_on_loopback and self.api_keys != "trust-everybody")

    @property
    def rate_of_keys(self) -> int | None:
        """Requests a second of a key that has no rate of its own, in each API process."""
        return self.rate_limit or (None if self.is_on_loopback else RATE_ELSEWHERE)

    def as_environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """The environment in which a child process reads the same settings."""
        return {
            **env,
            "DATABASE_URL": self.database_url,
            "DATABASE_POOLER_URL": self.database_pooler_url,
            "DATABASE_POOLER_PREPARES": "yes" if self.pooler_prepares else "no",
            "REDIS_URL": self.redis_url,
            "EVENTS_STAY": in_short(self.events_stay),
            "SMTP_URL": self.smtp_url,
            "MAIL_FROM": self.mail_from,
            "MAIL_TO": self.mail_to,
            "TIME_ZONE": self.time_zone,
            "REPLY_STREAMS": ",".join(self.reply_streams) or ",",  # none: nothing would be the usual ones
            "ALLOCATION_HOME": str(self.home),
            "HOST": self.host,
            "PORT": str(self.port),
            "TLS_CERTIFICATE": str(self.tls_certificate or ""),
            "TLS_KEY": str(self.tls_key or ""),
            "FORWARDED_ALLOW_IPS": ",".join(map(str, self.trusted_proxies)),
            "WEB_CONCURRENCY": str(self.workers),
            "API_KEYS": self.api_keys,
            "RATE_LIMIT": str(self.rate_limit or ""),
            "LOG_LEVEL": self.log_level,
            "LOG_FORMAT": self.log_format,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.traces_to,
        }


def whichever_is_set(url: str, host: str, env: Mapping[str, str] = os.environ) -> str:
    """The name of the setting by which a server is looked for: its URL, or the book's host."""
    return host if env.get(host) and not env.get(url) else url


def _database_url(env: Mapping[str, str]) -> str:
    if url := env.get("DATABASE_URL"):
        return postgres_url(url)
    if host := env.get("DB_HOST"):
        password = quote(env.get("DB_PASSWORD", "abc123"), safe="")
        port = 54321 if host == "localhost" else 5432
        return postgres_url(f"postgresql://allocation:{password}@{host}:{port}/allocation")
    return ""


def _pooler_url(env: Mapping[str, str]) -> str:
    url = env.get("DATABASE_POOLER_URL", "")
    if url and not _database_url(env):
        raise SettingError("DATABASE_POOLER_URL is for the API alone; say where the server itself is in DATABASE_URL")
    return postgres_url(url, "DATABASE_POOLER_URL") if url else ""


def postgres_url(given: str, name: str = "DATABASE_URL") -> str:
    """The URL with the driver that we use; the hosts may be several, with commas between."""
    expected = "postgresql://user:password@host:port/database"
    scheme, _, rest = given.partition("://")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise SettingError(f"{name} does not begin with postgresql://; expected {expected}")
    try:
        url = urlsplit(f"postgresql://{rest}")
        somewhere = url.netloc or "host=" in url.query
        readable = bool(somewhere and url.path.strip("/") and ("," in url.netloc or url.port != 0))
        if url.netloc.count("@") > 1:
            raise SettingError(f"{name} has a second @; write one that is part of a user or password as %40")
    except ValueError:
        readable = False
    if not readable:
        raise SettingError(f"{name} can't be read; expected {expected}")
    return f"postgresql+psycopg://{_hosts_as_parameters(rest)}"


def _hosts_as_parameters(rest: str) -> str:
    """SQLAlchemy does not read libpq's `host1:5432,host2:5433`, but a parameter for each."""
    before, _, after = rest.partition("/")
    user, at, hosts = before.rpartition("@")
    if "," not in hosts:
        return rest
    path, _, query = after.partition("?")
    parameters = "&".join([*(f"host={host}" for host in hosts.split(",")), *([query] if query else [])])
    return f"{user}{at}/{path}?{parameters}"


def _redis_url(env: Mapping[str, str]) -> str:
    if url := env.get("REDIS_URL"):
        if url.startswith("redis+sentinel://"):
            if not _SENTINELS.fullmatch(url):
                expected = "redis+sentinel://[:password@]host:port,host:port/service-name/db"
                raise SettingError(f"REDIS_URL can't be read; expected {expected}")
            return url
        known = _url("REDIS_URL", url, ("redis", "rediss"), "redis://[:password@]host:port/db", path="/*[0-9]*/*")
        _require_known_options(urlsplit(known))
        return known
    if host := env.get("REDIS_HOST"):
        return f"redis://{host}:{63791 if host == 'localhost' else 6379}/0"
    return ""


def _require_known_options(url: SplitResult) -> None:
    """Of those that redis-py has, those that say where Redis is and how long to wait for it. On others it depends how
    its answers are read. What they may be it says when it connects."""
    if not url.query:
        return
    import redis  # takes long, and few need it

    for option in parse_qs(url.query, keep_blank_values=True):
        if not _OPTIONS_OF_REDIS.fullmatch(option):
            raise SettingError(f"REDIS_URL has the option {option}, which is not to be set: leave it out")
    try:
        redis.ConnectionPool.from_url(urlunsplit(url)).make_connection()
    except (TypeError, ValueError, redis.RedisError) as error:
        reason = str(error).rpartition("__init__() ")[2]
        raise SettingError(f"REDIS_URL has an option that redis-py does not take: {reason}") from None


def _smtp_url(env: Mapping[str, str]) -> str:
    url, host = env.get("SMTP_URL", ""), env.get("EMAIL_HOST", "")
    given = url or (f"smtp://{host}:{11025 if host == 'localhost' else 1025}" if host else "")
    try:
        if given:
            MailServer.at(given)
    except ValueError as error:
        raise SettingError(f"SMTP_URL {error}" if url else "EMAIL_HOST is not the name of a host") from None
    return given


_NOT_THE_SAME = {"localtime", "posix", "posixrules", "right", "CET", "EET", "MET", "WET"}
"""Files beside those of time zones, which a database knows nothing of; and names for which it knows no summer time."""


def _time_zone(given: Mapping[str, str], name: str, default: str) -> str:
    zone = given.get(name, default)
    try:
        ZoneInfo(zone)
        is_known = zone.partition("/")[0] not in _NOT_THE_SAME
    except (KeyError, ValueError, OSError):
        is_known = False
    if not is_known:
        raise SettingError(f"{name} must be the name of a time zone, such as Europe/Berlin, not {zone!r}")
    return zone


def _mail_address(env: Mapping[str, str], name: str, default: str) -> str:
    given = env.get(name, default)
    try:
        return mail_address(given)
    except ValueError as error:
        raise SettingError(f"{name} is {given!r}; {error}") from None


def _time_to_stay(env: Mapping[str, str], name: str, default: timedelta) -> timedelta:
    given = env.get(name, in_short(default))
    try:
        time = duration(given)
    except ValueError:
        time = timedelta()
    if not _SHORTEST_STAY <= time <= _LONGEST_STAY:
        limits = f"from {in_short(_SHORTEST_STAY)} to {in_short(_LONGEST_STAY)}"
        raise SettingError(f"{name} is {given!r}; expected a duration {limits}, such as 36h")
    return time


def _traces_to(env: Mapping[str, str]) -> str:
    name = "OTEL_EXPORTER_OTLP_ENDPOINT"
    url = env.get(name, "")
    return _url(name, url, ("http", "https"), "a URL such as http://collector:4318") if url else ""


def _url(name: str, given: str, schemes: tuple[str, ...], expected: str, path: str = ".*") -> str:
    try:
        url = urlsplit(given)
        port_is_readable = url.port is None or url.port > 0
    except ValueError:
        raise SettingError(f"{name} can't be read; expected {expected}") from None
    if (
        any(map(str.isspace, given))
        or url.scheme not in schemes
        or not url.hostname
        or not port_is_readable
        or not re.fullmatch(path, url.path)
    ):
        raise SettingError(f"{name} can't be read; expected {expected}")
    return given


def _file(env: Mapping[str, str], name: str, beside: str) -> Path | None:
    given = env.get(name)
    if bool(given) != bool(env.get(beside)):
        raise SettingError(f"{name if given else beside} is given without {beside if given else name}; TLS needs both")
    if given and not Path(given).is_file():
        raise SettingError(f"{name} is {given!r}; there is no such file")
    return Path(given).absolute() if given else None


def _networks(env: Mapping[str, str], name: str, default: tuple[Network, ...]) -> tuple[Network, ...]:
    given = env.get(name)
    if given is None:
        return default
    if given == "*":
        return ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")
    try:
        return tuple(ipaddress.ip_network(one.strip()) for one in given.split(","))
    except ValueError:
        expected = "addresses or networks with commas between, such as 10.0.0.7,172.16.0.0/12, or * for all"
        raise SettingError(f"{name} is {given!r}; expected {expected}") from None


def _words(env: Mapping[str, str], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(env[name].replace(",", " ").split()) if name in env else default


def _host(env: Mapping[str, str], default: str) -> str:
    """What is there already is replaced by a socket, so it must be one."""
    host = env.get("HOST") or env.get("API_HOST") or default
    if host.startswith(UNIX):
        path = host.removeprefix(UNIX)
        if not path or (os.path.lexists(path) and not Path(path).is_socket()):
            raise SettingError(f"HOST is {host!r}; expected unix: and a path, at which there is nothing but a socket")
    return host


def _number(env: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = env.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= most):
        raise SettingError(f"{name} is {text!r}; expected a whole number from 1 to {most}")
    return int(text)


def _one_of(env: Mapping[str, str], name: str, choices: tuple[str, ...], default: str) -> str:
    text = env.get(name, default)
    for choice in (*choices, default):
        if text.lower() == choice.lower():
            return choice
    raise SettingError(f"{name} is {text!r}; expected one of {', '.join(choices)}")
