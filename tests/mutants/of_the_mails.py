"""Mutants of what mails go through: TLS, logins and addresses."""

from __future__ import annotations

from tests.mutants.part import Mutant, Part

SESSIONS = Part(
    "allocation/adapters/mail_sessions.py",
    ("integration/test_mail_server.py",),
    (
        Mutant(
            "        elif self._server.user:",
            "        elif False:",
            "a password is sent in the clear",
            seen_by="test_a_password_is_never_sent_in_the_clear",
        ),
        Mutant(
            '        if session.has_extn("starttls"):',
            '        if session.has_extn("starttls") and self._server.user:',
            "a mail goes in the clear though the server offers TLS",
            seen_by="test_a_mail_goes_by_tls_where_there_is_tls",
        ),
        Mutant(
            "session.starttls(context=self._trust)",
            "session.starttls()",
            "any server that has a certificate gets mail and password, by STARTTLS",
            seen_by="test_a_server_whose_certificate_nobody_vouches_for_hears_neither_mail_nor_password",
        ),
        Mutant(
            "timeout=self._timeout, context=self._trust)",
            "timeout=self._timeout)",
            "any server that has a certificate gets mail and password, by TLS from the start",
            seen_by="test_a_server_whose_certificate_nobody_vouches_for_hears_neither_mail_nor_password",
        ),
        Mutant(
            "        if self._refusal and self._clock() < self._login_again_at:",
            "        if False:",
            "a wrong password is tried so often that the account is locked",
            seen_by="test_a_login_that_is_refused_is_tried_again_only_now_and_then",
        ),
        Mutant(
            '        self._refusal = ""\n\n',
            "\n",
            "after a refused login one mail in 30 seconds goes out, for ever",
            seen_by="test_a_login_that_is_refused_is_tried_again_only_now_and_then",
        ),
        Mutant(
            "            raise Unavailable(self._refusal) from None",
            "            raise",
            "a mail is tried again for a login that is refused, and nobody is told which",
            seen_by="test_a_login_that_is_refused_is_worth_another_try_and_the_log_says_what_to_do",
        ),
        Mutant(
            'text = text.replace(secret.decode(), "***")',
            "pass",
            "the log has a password that the server quotes",
            seen_by="test_a_login_that_is_refused_is_worth_another_try_and_the_log_says_what_to_do",
        ),
    ),
)

NOTIFICATIONS = Part(
    "allocation/adapters/notifications.py",
    ("integration/test_mail_server.py", "integration/test_notifications.py"),
    (
        Mutant(
            "return code >= 500 and code != 530",
            "return code >= 500",
            "mails are given up since nobody has set a login",
            seen_by="test_a_server_that_wants_a_login_we_do_not_have_is_worth_another_try",
        ),
        Mutant(
            "return code >= 500 and code != 530",
            "return False",
            "a mail that is refused for good is tried for ever",
            seen_by="test_a_refusal_for_good_is_no_fault_of_the_surroundings",
        ),
    ),
)
