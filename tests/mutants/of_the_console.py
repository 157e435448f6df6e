"""Mutants of the console: who sees it and acts there, what it costs others, and whether it tells the truth."""

from __future__ import annotations

from tests.mutants.part import Mutant, Part

_DOOR = ("unit/test_console_sign_in.py",)
_DATABASE = ("integration/test_console.py",)

VISITORS = Part(
    "allocation/entrypoints/console/visitors.py",
    _DOOR,
    (
        Mutant(
            'return site == "same-origin" and hmac.compare_digest(given.encode(), self.csrf_token.encode())',
            "return hmac.compare_digest(given.encode(), self.csrf_token.encode())",
            "a browser says that a form came from another site, and nobody listens",
            seen_by="test_a_form_of_another_site_is_refused_and_changes_nothing",
        ),
        Mutant(
            'return site == "same-origin" and hmac.compare_digest(given.encode(), self.csrf_token.encode())',
            'return site == "same-origin"',
            "a form needs no token",
            seen_by="test_a_form_of_another_site_is_refused_and_changes_nothing",
        ),
        Mutant(
            "        self.service.console_sessions.close(visitor.token)\n        token = _new_token()",
            "        token = visitor.token",
            "whoever planted a cookie is signed in with its owner",
            seen_by="test_a_new_token_is_given_with_the_session_so_that_nobody_knows_it_before",
        ),
        Mutant(
            "        return self.policy.keys.principal_named(name) if name else None",
            "        return Principal(name, frozenset(Scope)) if name else None",
            "a session outlives its key, and may do everything",
            seen_by="test_a_session_ends_with_its_key",
        ),
        Mutant('httponly=True, samesite="Strict"', 'httponly=True, samesite="Lax"', "other sites send the cookie"),
        Mutant("secure=is_secure)", "secure=False)", "the cookie goes over the wire in the clear"),
    ),
)

DOOR = Part(
    "allocation/entrypoints/console/sign_in.py",
    _DOOR,
    (
        Mutant(
            'if request.method == "POST" and not visitor().has_sent(request):',
            'if request.endpoint == "console.retry" and not visitor().has_sent(request):',
            "another site signs people in as somebody else",
            seen_by="test_signing_in_needs_a_form_of_ours_too",
        ),
        Mutant(
            'return wanted if re.fullmatch(r"/console([/?][!-~]*)?", wanted) else url_for("console.stock")',
            'return wanted or url_for("console.stock")',
            "signing in leads to another site",
            seen_by="test_signing_in_leads_to_no_other_site",
        ),
        Mutant(
            "            _count(principal, visitors.policy)\n        if",
            "            pass\n        if",
            "one key takes all there is, through the console",
            seen_by="test_the_rate_of_a_key_counts_in_the_console_too",
        ),
        Mutant(
            "        _count(principal, visitors.policy)\n        g.visitor",
            "        g.visitor",
            "one key opens sessions without end",
            seen_by="test_no_session_is_opened_for_a_key_that_asks_too_often",
        ),
        Mutant(
            "    if request.endpoint in _ASKED_BY_PAGES:\n        rate",
            "    if False:\n        rate",
            "a page uses up the rate of whoever looks at it",
            seen_by="test_what_a_page_asks_by_itself_fits_into_the_smallest_rate_and_has_one_of_its_own",
        ),
    ),
)

DEAD_LETTERS = Part(
    "allocation/entrypoints/console/dead_letters.py",
    _DOOR,
    (
        Mutant(
            "    def retry() -> ResponseReturnValue:\n        require(Scope.OPERATE)",
            "    def retry() -> ResponseReturnValue:",
            "readers retry dead letters",
            seen_by="test_dead_letters_are_for_operators",
        ),
    ),
)

LOOKS = Part(
    "allocation/entrypoints/console/page_setup.py",
    ("unit/test_console_pages.py",),
    (Mutant('response.headers["Cache-Control"] = "no-store"', "pass", "a browser keeps what was seen"),),
)

PAGES = Part(
    "allocation/entrypoints/console/pages.py",
    ("unit/test_console_feed.py", "unit/test_console_pages.py"),
    (
        Mutant("        answer.call_on_close(streams.leave)\n", "", "a stream is never given back"),
        Mutant(
            "(service.log.knows(asked) or service.views.order(asked))",
            "service.views.order(asked)",
            "nobody finds an order that got nothing",
            seen_by="test_an_order_is_found_that_got_nothing_or_lost_what_it_had",
        ),
    ),
)

FEED = Part(
    "allocation/entrypoints/console/feed.py",
    ("unit/test_console_feed.py",),
    (
        Mutant("if self._free <= 0 or self._ended.is_set():", "if self._ended.is_set():", "streams take all threads"),
        Mutant("self._free = min(most, MOST_STREAMS)", "self._free = most", "many threads, many streams"),
        Mutant("        while may_see() and clock() < end:", "        while may_see():", "a stream has no end"),
        Mutant("        while may_see() and clock() < end:", "        while clock() < end:", "a lost right is kept"),
        Mutant(
            "            if not go_on(BETWEEN_LOOKS):",
            "            if go_on(BETWEEN_LOOKS) is None:",
            "a worker waits for streams",
        ),
        Mutant("                seen = entry.id\n", "", "events are told again and again"),
    ),
)

HISTORY = Part(
    "allocation/views/stock_history.py",
    ("unit/test_stock_history.py", *_DATABASE),
    (
        Mutant(
            "yield of_batch(ref, qty - held[ref]) if ref in held",
            "yield of_batch(ref, qty) if ref in held",
            "a shrinking batch takes all that it holds",
        ),
        Mutant("return unchanged | changed", "return changed | unchanged", "a batch that changed twice is misread"),
        Mutant("if oldest == 1 else {}", "", "what is not known is guessed"),
        Mutant("is_near = last - first < RECKONED", "is_near = True", "an old page reads a whole history"),
    ),
)

LIST = Part(
    "allocation/views/stock_list.py",
    _DATABASE,
    (
        Mutant('.replace("%", "\\\\%")', "", "a per cent sign finds everything"),
        Mutant(
            "behind = asked.execute(_LAST_LOOKED_AT, about).scalar() if part else None",
            "behind = None",
            "a search ends too early",
        ),
    ),
)

LOG = Part(
    "messaging/sql/log_reader.py",
    _DATABASE,
    (
        Mutant(
            "SELECT {_ENTRY} FROM event_log WHERE {_COMPLETE} AND {_IN_TIME}\n    ORDER BY transaction_id DESC",
            "SELECT {_ENTRY} FROM event_log WHERE {_IN_TIME}\n    ORDER BY transaction_id DESC",
            "an event that commits late is never shown",
            seen_by="test_an_event_is_shown_only_when_none_can_come_before_it_any_more",
        ),
    ),
)

SESSIONS = Part(
    "allocation/adapters/console_sessions.py",
    _DATABASE,
    (
        Mutant(
            "    return sha256(token.encode()).digest()", "    return token.encode()", "the database has the tokens"
        ),
        Mutant(
            "            .where(console_sessions.c.ends_at > func.now())\n",
            "",
            "a session lasts until somebody else signs in",
        ),
        Mutant(
            "self._change(over, row.on_conflict_do_nothing(), too_many)",
            "self._change(over, row.on_conflict_do_nothing())",
            "a key has sessions without end",
            seen_by="test_a_key_has_ten_sessions_and_the_newest_are_kept",
        ),
    ),
)
