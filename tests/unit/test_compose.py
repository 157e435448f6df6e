"""The containers as far as they can be checked without Docker: what is written in their files."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
Compose = Mapping[str, Any]
OURS = {"api", "relay", "consumer", "migrate"}
ONE_SHOT = {"migrate"}


@pytest.fixture(scope="module")
def compose() -> Compose:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def services(compose: Compose) -> Mapping[str, Compose]:
    return compose["services"]  # type: ignore[no-any-return]


def test_any_compose_can_read_it(compose: Compose) -> None:
    assert not {"version", "name"} & compose.keys(), "obsolete for new releases, or unknown to old ones"


def test_has_the_parts_of_the_service_and_its_surroundings(services: Mapping[str, Compose]) -> None:
    assert services.keys() == OURS | {"postgres", "redis", "mailpit", "proxy"}


def test_what_ends_is_started_again_unless_it_is_done(services: Mapping[str, Compose]) -> None:
    assert {name for name, service in services.items() if service["restart"] != "unless-stopped"} == ONE_SHOT


def test_health_is_checked_wherever_there_is_something_to_ask(services: Mapping[str, Compose]) -> None:
    own = {name for name, service in services.items() if service.get("healthcheck", {}).get("test")}
    none = {name for name, service in services.items() if service.get("healthcheck") == {"disable": True}}
    assert own == services.keys() - OURS
    assert none == OURS - {"api"}, "the api has the check of its image, which would fail in the others"


def test_nothing_of_ours_starts_before_the_schema_is_there(services: Mapping[str, Compose]) -> None:
    for name in OURS - ONE_SHOT:
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_our_containers_can_do_no_more_than_they_need(services: Mapping[str, Compose]) -> None:
    for name in OURS | {"proxy"}:
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
        assert not {"user", "privileged", "cap_add"} & services[name].keys()


def test_is_reached_at_the_ports_of_the_book_from_this_machine_only(services: Mapping[str, Compose]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert sorted(published) == [
        "${PROXY_ADDRESS:-127.0.0.1}:8443:8443",
        "127.0.0.1:11025:1025",
        "127.0.0.1:18025:8025",
        "127.0.0.1:5005:5005",
        "127.0.0.1:54321:5432",
        "127.0.0.1:63791:6379",
    ]


def test_what_must_last_is_on_named_volumes(compose: Compose, services: Mapping[str, Compose]) -> None:
    mounted = {name: services[name]["volumes"] for name in ("postgres", "redis")}
    assert mounted == {"postgres": ["postgres:/var/lib/postgresql"], "redis": ["redis:/data"]}
    assert compose["volumes"].keys() == mounted.keys()
    assert "--appendonly" in services["redis"]["command"]


def test_the_proxy_is_started_when_asked_for_and_its_configuration_is_there(services: Mapping[str, Compose]) -> None:
    proxy = services["proxy"]
    assert proxy["profiles"] == ["proxy"]
    assert [name for name, service in services.items() if "profiles" in service] == ["proxy"]
    file = ROOT / proxy["volumes"][0].partition(":")[0]
    assert f"server api:{services['api']['ports'][0].rpartition(':')[2]};" in file.read_text()


def test_both_sides_are_given_the_same_password(services: Mapping[str, Compose]) -> None:
    password = services["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert password == "${DB_PASSWORD:-abc123}"
    for name in OURS:
        assert f"allocation:{password}@postgres:5432" in services[name]["environment"]["DATABASE_URL"]


def test_the_book_s_callers_need_no_key_and_this_is_said_in_plain_words(services: Mapping[str, Compose]) -> None:
    given = {name: service["environment"].get("API_KEYS") for name, service in services.items() if name in OURS}
    assert given == dict.fromkeys(OURS, "${API_KEYS:-trust-everybody}")
    assert "API_KEYS" not in (ROOT / "Dockerfile").read_text(), "the image alone trusts nobody"


def test_the_image_does_not_run_as_root() -> None:
    users = [words[1] for words in instructions() if words[0] == "USER"]
    assert users
    assert not users[-1].startswith("0")
    assert users[-1].replace(":", "").isdecimal(), "an orchestrator can't tell whether a name is root"


def test_the_api_is_heard_outside_its_container_at_the_published_port(services: Mapping[str, Compose]) -> None:
    settings = dict(word.split("=") for words in instructions() if words[0] == "ENV" for word in words[1:])
    assert settings["HOST"] == "0.0.0.0"
    assert [port.rpartition(":")[2] for port in services["api"]["ports"]] == [settings["PORT"]]


def test_the_image_is_built_from_what_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for words in instructions() if words[0] == "COPY" for source in words[1:-1]}
    assert copied == sent
    assert all((ROOT / path).exists() for path in sent)


def test_the_dockerfile_is_clean() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def instructions() -> Iterator[list[str]]:
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines():
        if line and not line.startswith("#"):
            yield line.split()
