"""Who may look at the console and do something there, and that no other site can do it for them."""

from __future__ import annotations

import pytest
from tests.fake_console import Console, FakeKeys, dead_effect, dead_message

from allocation.access.keys import Scope
from allocation.domain.commands import CreateBatch
from allocation.entrypoints.console.visitors import COOKIE

PAGES = ("", "/product?sku=CHAIR", "/order?id=o1", "/dead-letters", "/nix")


@pytest.fixture
def keys() -> FakeKeys:
    return FakeKeys()


@pytest.fixture
def console(keys: FakeKeys) -> Console:
    """With API keys required."""
    return Console(keys)


@pytest.fixture
def open_console() -> Console:
    return Console()


def cookie_of(console: Console) -> str:
    cookie = console.browser.get_cookie(COOKIE, path="/console")
    assert cookie
    return cookie.value


# --- without keys ----------------------------------------------------------------


def test_where_no_keys_are_asked_for_the_console_is_open(open_console: Console) -> None:
    assert open_console.look().status_code == 200
    assert open_console.look("/dead-letters").status_code == 200
    assert open_console.look("/sign-in").headers["Location"] == "/console"


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"csrf_token": ""}, {}),
        ({"csrf_token": "0" * 64}, {}),
        ({"csrf_token": "é"}, {}),
        ({}, {"Sec-Fetch-Site": "cross-site"}),
        ({}, {"Sec-Fetch-Site": "same-site"}),
    ],
)
def test_a_form_of_another_site_is_refused_and_changes_nothing(
    open_console: Console, fields: dict[str, str], headers: dict[str, str]
) -> None:
    open_console.dead_letters.dead_effects = [dead_effect("CHAIR")]

    answer = open_console.send("/dead-letters/retry", headers, letter=dead_effect("CHAIR").id, **fields)

    assert answer.status_code == 403
    assert open_console.dead_letters.retried == []


def test_a_form_needs_the_cookie_that_it_was_made_for(open_console: Console) -> None:
    open_console.dead_letters.dead_effects = [dead_effect("CHAIR")]
    token = open_console.csrf_token()
    open_console.browser.delete_cookie(COOKIE, path="/console")

    answer = open_console.browser.post(
        "/console/dead-letters/retry", data={"csrf_token": token, "letter": dead_effect("CHAIR").id}
    )

    assert answer.status_code == 403
    assert open_console.dead_letters.retried == []


def test_the_forms_of_a_page_carry_the_token_and_are_taken(open_console: Console) -> None:
    open_console.dead_letters.dead_effects = [dead_effect("CHAIR")]

    assert f'name="csrf_token" value="{open_console.csrf_token()}"' in open_console.look("/dead-letters").text
    answer = open_console.send("/dead-letters/retry", {"Sec-Fetch-Site": "same-origin"}, letter=dead_effect("CHAIR").id)

    assert answer.status_code == 303
    assert open_console.dead_letters.retried == [dead_effect("CHAIR")]


@pytest.mark.parametrize(("scheme", "is_secure"), [("http", False), ("https", True)])
def test_no_script_reads_the_cookie_and_no_other_site_sends_it(scheme: str, is_secure: bool) -> None:
    answer = Console().browser.get("/console", base_url=f"{scheme}://shop.example")

    cookie = {part.strip() for part in answer.headers["Set-Cookie"].split(";")}
    assert {"HttpOnly", "SameSite=Strict", "Path=/console"} <= cookie
    assert ("Secure" in cookie) == is_secure


# --- with keys -------------------------------------------------------------------


def test_whoever_has_not_signed_in_is_asked_to_and_sees_nothing(console: Console) -> None:
    console.given(CreateBatch("b1", "CHAIR", 5))

    for page in PAGES:
        answer = console.browser.get(f"/console{page}")
        assert answer.status_code == 303, page
        assert answer.headers["Location"].startswith("/console/sign-in?next=/console"), page
        assert "CHAIR" not in answer.text.replace("sku%3DCHAIR", "").replace("sku=CHAIR", "")
    assert console.look("/events").status_code == 401
    assert console.look("/events/stream").status_code == 401
    assert console.look("/sign-in").status_code == 200


def test_nothing_is_done_for_whoever_has_not_signed_in(console: Console) -> None:
    console.dead_letters.dead_effects = [dead_effect("CHAIR")]

    console.send("/dead-letters/retry", letter=dead_effect("CHAIR").id)

    assert console.dead_letters.retried == []


def test_a_key_opens_the_console_and_leads_to_what_was_asked_for(console: Console, keys: FakeKeys) -> None:
    console.given(CreateBatch("b1", "CHAIR", 5))
    key = keys.create("anna", Scope.READ)
    wanted = console.look("/product", sku="CHAIR").headers["Location"]
    assert 'name="next" value="/console/product?sku=CHAIR"' in console.browser.get(wanted).text

    answer = console.sign_in(key, next="/console/product?sku=CHAIR")

    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/product?sku=CHAIR")
    page = console.browser.get(answer.headers["Location"])
    assert page.status_code == 200
    assert "anna" in page.text


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example", "//evil.example", "/console//evil", "/consoles", "/allocate", "/\\evil", ""]
)
def test_signing_in_leads_to_no_other_site(console: Console, keys: FakeKeys, elsewhere: str) -> None:
    key = keys.create("anna", Scope.READ)

    assert console.sign_in(key, next=elsewhere).headers["Location"].startswith("/console")


def test_a_key_that_nobody_knows_opens_nothing(console: Console, keys: FakeKeys) -> None:
    key = keys.create("anna", Scope.READ)

    for wrong in (key[:-1] + "f", "", "x", "alk_", "é"):
        answer = console.sign_in(wrong)
        assert answer.status_code == 401
        assert "Unknown or revoked API key" in answer.text
        assert wrong == "" or f'value="{wrong}"' not in answer.text
    assert console.look().status_code == 303


def test_signing_in_needs_a_form_of_ours_too(console: Console, keys: FakeKeys) -> None:
    key = keys.create("anna", Scope.READ)

    answer = console.browser.post("/console/sign-in", data={"key": key})

    assert answer.status_code == 403
    assert console.console_sessions.opened == {}


def test_a_key_that_may_not_read_opens_nothing(console: Console, keys: FakeKeys) -> None:
    answer = console.sign_in(keys.create("till", Scope.ALLOCATE))

    assert answer.status_code == 403
    assert "lacks the scope read" in answer.text


def test_a_new_token_is_given_with_the_session_so_that_nobody_knows_it_before(console: Console, keys: FakeKeys) -> None:
    console.look("/sign-in")
    before = cookie_of(console)

    console.sign_in(keys.create("anna", Scope.READ))

    assert cookie_of(console) != before
    assert [*console.console_sessions.opened] == [cookie_of(console)]


def test_the_cookie_is_not_the_key(console: Console, keys: FakeKeys) -> None:
    key = keys.create("anna", Scope.READ)

    console.sign_in(key)

    assert key not in cookie_of(console)
    assert key not in console.look().text


def test_dead_letters_are_for_operators(console: Console, keys: FakeKeys) -> None:
    console.dead_letters.dead_effects = [dead_effect("CHAIR")]
    console.sign_in(keys.create("anna", Scope.READ))

    assert "Dead letters" not in console.look().text
    page = console.look("/dead-letters")
    answer = console.send("/dead-letters/retry", letter=dead_effect("CHAIR").id)

    assert page.status_code == answer.status_code == 403
    assert "lacks the scope operate" in page.text
    assert console.dead_letters.retried == []


def test_what_an_operator_has_retried_is_put_down_to_their_key(console: Console, keys: FakeKeys) -> None:
    console.given(CreateBatch("b1", "CHAIR", 5))
    console.dead_letters.letters = [dead_message(1, b'{"batchref": "b1", "qty": 4}')]
    console.sign_in(keys.create("ops", Scope.READ, Scope.OPERATE))

    assert "Dead letters" in console.look().text
    answer = console.send("/dead-letters/retry", letter="message:1")

    assert answer.headers["Location"].endswith("outcome=handled")
    assert console.service.memory.log["CHAIR"][-1].metadata.principal == "api_key:ops"


def test_a_session_ends_with_its_key(console: Console, keys: FakeKeys) -> None:
    console.sign_in(keys.create("anna", Scope.READ))
    assert console.look().status_code == 200

    keys.revoke("anna")

    assert console.look().status_code == 303


def test_signing_out_ends_the_session_for_whoever_has_kept_the_cookie(console: Console, keys: FakeKeys) -> None:
    console.sign_in(keys.create("anna", Scope.READ))
    kept = cookie_of(console)

    console.send("/sign-out")
    console.browser.set_cookie(COOKIE, kept, path="/console")

    assert console.look().status_code == 303


@pytest.mark.parametrize("cookie", ["", "x", "é" * 43, "a" * 43, "a" * 5_000])
def test_a_made_up_cookie_opens_nothing(console: Console, cookie: str) -> None:
    answer = console.browser.get("/console", headers={"Cookie": f"{COOKIE}={cookie}".encode().decode("latin-1")})

    assert answer.status_code == 303


@pytest.mark.parametrize("asked", ["", "?q=CHAIR+%26", "?_external=1&_scheme=ftp", "?q=%0D%0AX%3A+y"])
def test_the_address_with_a_slash_behind_it_is_the_console_s_too(
    console: Console, open_console: Console, asked: str
) -> None:
    for one in (console, open_console):
        answer = one.browser.get(f"/console/{asked}")

        assert (answer.status_code, answer.headers["Location"]) == (308, f"/console{asked}")


# --- how often -------------------------------------------------------------------


def test_the_rate_of_a_key_counts_in_the_console_too(console: Console, keys: FakeKeys) -> None:
    console.dead_letters.dead_effects = [dead_effect("CHAIR")]
    signed_in = console.sign_in(keys.create("anna", Scope.READ, Scope.OPERATE, rate=3))
    assert signed_in.status_code == 303
    assert [console.look(page).status_code for page in ("", "/dead-letters")] == [200, 200]

    refused = console.look()
    token = console.csrf_token_of(cookie_of(console))
    retried = console.browser.post("/console/dead-letters/retry", data={"csrf_token": token, "letter": "x"})
    console.now += 0.4
    later = console.look()

    assert (refused.status_code, refused.headers["Retry-After"], refused.mimetype) == (429, "1", "text/html")
    assert "may send 3 requests a second" in refused.text
    assert retried.status_code == 429
    assert later.status_code == 200


def test_no_session_is_opened_for_a_key_that_asks_too_often(console: Console, keys: FakeKeys) -> None:
    key = keys.create("anna", Scope.READ, rate=2)

    def signed_in_anew() -> int:
        console.browser.delete_cookie(COOKIE, path="/console")
        return console.sign_in(key).status_code

    assert [signed_in_anew() for _ in range(10)] == [303, 303] + [429] * 8
    assert len(console.console_sessions.opened) == 2


def test_what_a_page_asks_by_itself_fits_into_the_smallest_rate_and_has_one_of_its_own(
    console: Console, keys: FakeKeys
) -> None:
    console.streams.end()
    console.sign_in(keys.create("anna", Scope.READ, rate=1))
    console.now += 1

    assert console.look().status_code == 200
    assert console.look("/events").status_code == 200
    assert console.look("/events/stream").status_code == 503, "no room, and no refusal"
    assert console.look("/events").status_code == 429
    for _ in range(10):
        console.now += 3
        assert console.look("/events").status_code == 200


def test_who_has_no_rate_is_let_in_as_often_as_they_like(console: Console, keys: FakeKeys) -> None:
    console.sign_in(keys.create("anna", Scope.READ))

    assert {console.look("/events").status_code for _ in range(50)} == {200}
