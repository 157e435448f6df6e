"""Mail servers and mail addresses as an operator writes them, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocation.mail_settings import MailServer, mail_address


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail:1025", MailServer("mail", 1025)),
        ("smtp://mail", MailServer("mail", 25)),
        ("smtps://mail/", MailServer("mail", 465, tls_at_once=True)),
        ("smtp://[::1]:25", MailServer("::1", 25)),
        ("smtps://joe:secret@mail:587", MailServer("mail", 587, True, "joe", "secret")),
        ("smtp://joe%40shop.org:p%2Fw%23%25%3A@mail:587", MailServer("mail", 587, False, "joe@shop.org", "p/w#%:")),
        ("smtp://joe@shop.org:secret@mail:587", MailServer("mail", 587, False, "joe@shop.org", "secret")),
    ],
)
def test_a_server_is_an_address_and_a_login(url: str, server: MailServer) -> None:
    assert MailServer.at(url) == server


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mail:25", "can't be read"),
        ("http://u:secret@mail", "can't be read"),
        ("smtp://u:secret@:25", "can't be read"),
        ("smtp://u:secret@mail:0", "can't be read"),
        ("smtp://u:secret@mail:99999", "can't be read"),
        ("smtp://u:secret@[mail", "can't be read"),
        ("smtp://u:25/secret@mail", "can't be read"),
        ("smtp://u:25?secret@mail", "can't be read"),
        ("smtp://u:25#secret@mail", "can't be read"),
        ("smtp://u:secret@mail one:25", "can't be read"),
        ("smtp://u:secret@ma\nil:25", "can't be read"),
        ("smtp://u@mail", "half a login"),
        ("smtp://u:@mail", "half a login"),
        ("smtp://:secret@mail", "half a login"),
        ("smtp://@mail", "half a login"),
        ("smtp://:@mail", "half a login"),
        ("smtp://ü:secret@mail", "other than printable ASCII"),
        ("smtp://u:secret%C3%BC@mail", "other than printable ASCII"),
        ("smtp://u:secret%0D%0AQUIT@mail", "other than printable ASCII"),
    ],
)
def test_what_is_none_is_told_without_the_password(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        MailServer.at(url)

    assert "secret" not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None, "a traceback would show what was read"


def test_a_server_is_named_and_shown_without_the_password() -> None:
    server = MailServer.at("smtp://joe:secret@[::1]:25")

    assert str(server) == "[::1]:25"
    assert "secret" not in repr(server)


@pytest.mark.parametrize(
    "text", ["stock@made.com", "a@localhost", "first.last+tag@sub.shop-1.example", f"{'x' * 64}@{'y' * 63}.org"]
)
def test_an_address_stays_as_it_is(text: str) -> None:
    assert mail_address(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "stock", "@made.com", "stock@", "a@b@c", "a b@c", "a@b c", ".a@b", "a.@b", "a..b@c", "a@b..c", "a@-b"),
        *("a@b, c@d", "a@b c@d", "<a@b>", "Stock <a@b>", '"a"@b', "a@[127.0.0.1]", "ä@b", "a@ü", "a@b\n", "a\r\n@b"),
        *("a@b\x00", f"{'x' * 65}@y", f"x@{'y' * 64}", f"x@{'y.' * 100}z"),
    ],
)
def test_what_is_not_one_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected one mail address, such as stock@made\.com$"):
        mail_address(text)


@given(st.text(max_size=50))
def test_whatever_is_taken_is_one_line_of_ascii_that_no_header_or_command_could_take_for_more(text: str) -> None:
    try:
        address = mail_address(f"a{text}@b")
    except ValueError:
        return
    assert address.isascii()
    assert address.isprintable()
    assert not set(address) & set(' <>(),;:\\"[]')
