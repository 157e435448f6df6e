"""Mails that any reader reads back, for any SKU."""

from __future__ import annotations

import os
import resource
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_validation import allowed

from allocation.adapters.notifications import FileNotifications, compose
from allocation.service_layer.ports import Mail
from messaging.errors import Unavailable

skus = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=255).filter(allowed)


@given(skus)
def test_any_sku_survives_the_way(sku: str) -> None:
    mail = compose(
        Mail("m1", "c1", "team@example.com", f"Out of stock for {sku}", f"Out of stock for {sku}\n"), "shop@example.com"
    )

    read = message_from_bytes(mail.as_bytes(), policy=default)

    assert read.get_content().splitlines(keepends=False) == f"Out of stock for {sku}".splitlines()
    assert (read["From"], read["To"], read["Message-ID"]) == (
        "shop@example.com",
        "team@example.com",
        "<m1@allocation.example.com>",
    )


def test_a_plain_sku_can_be_found_in_the_raw_mail() -> None:
    """The book's own test looks there."""
    sku = "x" * 255

    mail = compose(Mail("m1", "c1", "stock@made.com", "news", f"Out of stock for {sku}\n"), "a@b")

    assert f"Out of stock for {sku}".encode() in mail.as_bytes()


def test_writes_each_mail_to_a_file_once(tmp_path: Path) -> None:
    notifications = FileNotifications(tmp_path / "mail", "shop@example.com")

    for _ in range(2):
        notifications.send(Mail("m1", "c1", "stock@made.com", "news", "Out of stock for TÅBLE\n"))

    [file] = (tmp_path / "mail").iterdir()
    assert file.name == "m1.eml"
    assert "Out of stock for TÅBLE" in file.read_text("utf-8")
    assert "From: shop@example.com" in file.read_text("utf-8")


@pytest.mark.parametrize("is_there", [True, False])
def test_mails_in_files_are_their_owners_to_read(tmp_path: Path, is_there: bool) -> None:
    folder = tmp_path / "mail"
    if is_there:
        folder.mkdir(mode=0o755)

    FileNotifications(folder, "a@b").send(Mail("m1", "c1", "a@b", "s", "b"))

    assert (folder.stat().st_mode & 0o777, (folder / "m1.eml").stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_folder_that_cannot_be_written_is_a_fault_of_the_surroundings(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("in the way")

    with pytest.raises(Unavailable, match="mail folder"):
        FileNotifications(tmp_path / "mail", "a@b").send(Mail("m1", "c1", "a@b", "s", "b"))


def test_a_mail_that_a_full_disk_cuts_short_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    most, hardest = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hardest))
    try:
        with pytest.raises(Unavailable, match="mail folder"):
            FileNotifications(folder, "a@b").send(Mail("m1", "c1", "a@b", "s", "b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hardest))

    assert list(folder.iterdir()) == []


def test_mails_go_through_no_link_of_another_and_through_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    (tmp_path / "mail").symlink_to(victim)
    notifications = FileNotifications(tmp_path / "mail", "a@b")

    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)  # so what is ours is another's
    with pytest.raises(Unavailable, match="mail: it is a link that somebody else"):
        notifications.send(Mail("m1", "c1", "a@b", "s", "b"))
    assert victim.stat().st_mode & 0o777 == 0o755
    assert list(victim.iterdir()) == []

    monkeypatch.undo()
    notifications.send(Mail("m1", "c1", "a@b", "s", "b"))
    assert [file.name for file in victim.iterdir()] == ["m1.eml"]


@given(skus)
def test_the_request_that_a_mail_follows_from_can_be_found_in_it(correlation_id: str) -> None:
    mail = compose(Mail("m1", correlation_id, "a@b", "news", "body\n"), "a@b")

    read = message_from_bytes(mail.as_bytes(), policy=default)

    assert read["X-Correlation-ID"].split() == correlation_id.split()
    assert read["Message-ID"] == "<m1@allocation.example.com>"
