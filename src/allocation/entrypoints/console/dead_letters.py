"""What was given up, shown to operators, who may have it tried again."""

from __future__ import annotations

import logging
from http import HTTPStatus

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.entrypoints import inbound
from allocation.entrypoints.console.sign_in import require, visitor
from messaging.sql.dead_letters import DeadEffect, DeadMessage

log = logging.getLogger(__name__)

LETTERS_A_PAGE = 50
SHOWN_OF_A_LETTER = 4096
"""Bytes."""

OUTCOMES = {
    "handled": "The message was handled.",
    "refused": "The message was refused again; the reason is below.",
    "at-work": "The first try is still at work. Try again in a moment.",
    "again": "The relay will try it again at once.",
    "gone": "That letter is no longer there: somebody else has dealt with it.",
}
"""What a page may be told to say by its address."""


def add_dead_letters(console: Blueprint, service: Service) -> None:
    @console.get("/dead-letters")
    def dead_letters() -> ResponseReturnValue:
        require(Scope.OPERATE)
        return render_template(
            "console/dead_letters.html",
            messages=service.dead_letters.beginnings(most=LETTERS_A_PAGE, longest=SHOWN_OF_A_LETTER),
            effects=service.dead_letters.effects(most=LETTERS_A_PAGE),
            most=LETTERS_A_PAGE,
            delivery=service.waiting().backlogs,
            outcome=OUTCOMES.get(request.args.get("outcome", "")),
        )

    @console.post("/dead-letters/retry")
    def retry() -> ResponseReturnValue:
        require(Scope.OPERATE)
        letter_id = request.form.get("letter", "")
        outcome = _retried(service, letter_id)
        if outcome != "gone":
            about = {"letter": letter_id, "by": visitor().name, "outcome": outcome}
            log.info("a dead letter is tried again", extra=about)
        return redirect(url_for("console.dead_letters", outcome=outcome), HTTPStatus.SEE_OTHER)


def _retried(service: Service, letter_id: str) -> str:
    match service.dead_letters.find(letter_id):
        case None:
            return "gone"
        case DeadEffect() as effect:
            service.dead_letters.retry_effect(effect)
            return "again"
        case DeadMessage() as message:
            principal = visitor().principal
            unsettled = inbound.retry(service, message, str(principal) if principal else None)
            if unsettled is None:
                return "handled"
            return "at-work" if unsettled.is_at_work else "refused"
