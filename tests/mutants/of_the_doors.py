"""Mutants of access control, rate limits and the server: who may do what, how often, and who is waited for."""

from __future__ import annotations

from tests.mutants.part import Mutant, Part

_IN_MEMORY = ("unit/test_access.py",)

ACCESS = Part(
    "allocation/entrypoints/http/access.py",
    _IN_MEMORY,
    (
        Mutant("        if scope and not principal.may(scope):", "        if False:", "a key opens every door"),
        Mutant("        if principal is None:", "        if False:", "a wrong key is a fault of ours, not a refusal"),
        Mutant(
            "            g.metadata = replace(g.metadata, principal=str(g.principal))",
            "            pass",
            "nobody knows who it was",
        ),
        Mutant(
            'return {"status": readiness["status"]} if self.keys else readiness',
            "return readiness",
            "strangers learn which servers and users there are",
        ),
    ),
)

ROUTES = Part(
    "allocation/entrypoints/http/routes.py",
    _IN_MEMORY,
    (
        Mutant("        raise NotDeclared(endpoint)", "        return PUBLIC", "a route without a scope is public"),
        Mutant(
            'if endpoint.partition(".")[0] in',
            "if endpoint in",
            "nobody can sign in to the console",
            seen_by="test_every_route_declares_what_it_needs",
        ),
        Mutant(
            'return Scope.READ if route.needs and method == "OPTIONS" else route.needs',
            "return route.needs",
            "who may only read is refused what a route allows",
        ),
    ),
)

KEYS = Part(
    "allocation/adapters/keys.py",
    (*_IN_MEMORY, "integration/test_keys.py"),
    (
        Mutant("return hmac.compare_digest(self.hash, _hash(key))", "return True", "the id of a key is enough"),
        Mutant('            "hash": _hash(key),', '            "hash": key.encode(),', "the database has the keys"),
        Mutant(
            "api_keys.c.name == name, api_keys.c.revoked_at.is_(None))",
            "api_keys.c.name == name)",
            "who revoked a key is forgotten",
            seen_by="test_whoever_revoked_a_key_first_stays_on_record",
        ),
        Mutant(
            "any(key.revoked_at is None for key in self.all())",
            "bool(self.all())",
            "it starts with revoked keys only",
            seen_by="test_away_from_loopback_it_does_not_start_without_keys",
        ),
    ),
)

KEY_CACHE = Part(
    "allocation/adapters/key_cache.py",
    _IN_MEMORY,
    (
        Mutant("if key.revoked_at is None]", "]", "a revoked key works for ever"),
        Mutant("_REFRESH_EVERY = 1.0", "_REFRESH_EVERY = 10.0", "a revoked key works for longer than was said"),
        Mutant("            if age > valid_for:", "            if True:", "no metrics in an outage"),
        Mutant("            if age > valid_for:", "            if False:", "revoked keys work in an outage"),
        Mutant("min(REVOCATION_DELAY, valid_for))", "valid_for)", "revoked keys work after a long silence"),
        Mutant("min(REVOCATION_DELAY, valid_for))", "REVOCATION_DELAY)", "a new key is wrong while the keys are read"),
        Mutant(
            "_current(_REFRESH_FOR_NEW_KEYS, valid_for=_REFRESH_FOR_NEW_KEYS)",
            "_current(_REFRESH_FOR_NEW_KEYS)",
            "a new key is wrong in an outage",
            seen_by="test_what_can_not_be_looked_up_is_no_wrong_key_either",
        ),
        Mutant("_REFRESH_FOR_NEW_KEYS = 0.25", "_REFRESH_FOR_NEW_KEYS = -1", "guessing keeps the database busy"),
    ),
)

RATES = Part(
    "allocation/entrypoints/http/rates.py",
    _IN_MEMORY,
    (
        Mutant("            if too_early > _NOTHING:", "            if False:", "there is no limit"),
        Mutant("self._paid_back.get(name, now), now)", "self._paid_back.get(name, now), 0)", "who rests saves up"),
    ),
)

INPUT = Part(
    "allocation/entrypoints/http/input.py",
    _IN_MEMORY,
    (
        Mutant(
            "if metadata.principal is None else",
            "if True else",
            "callers get each other's answers",
            seen_by="test_an_idempotency_key_belongs_to_whoever_sent_it",
        ),
        Mutant(
            'json.dumps(["http", metadata.principal, key])',
            'f"http:{metadata.principal}:{key}"',
            "an odd key is somebody else's",
            seen_by="test_no_odd_key_or_name_makes_it_somebody_else_s",
        ),
    ),
)

BACK_PRESSURE = Part(
    "allocation/entrypoints/http/back_pressure.py",
    ("unit/test_flask_app.py",),
    (
        Mutant(
            "if waited <= LONGEST_WAIT or request.endpoint in PROBES:",
            "if True:",
            "everybody waits longer and longer",
            seen_by="test_who_has_waited_too_long_is_asked_to_come_later_and_changes_nothing",
        ),
        Mutant(
            " or request.endpoint in PROBES:",
            ":",
            "a busy service is taken for a dead one",
            seen_by="test_whoever_asks_whether_it_is_alive_is_answered_however_long_it_took",
        ),
        Mutant(
            'if not logged.wait("crowded", per_second=1):',
            "if True:",
            "the log is flooded",
            seen_by="test_that_there_is_too_much_to_do_is_said_once_a_second",
        ),
    ),
)

BRIDGE = Part(
    "allocation/entrypoints/http/bridge.py",
    ("integration/test_http_server.py",),
    (
        Mutant("                body.cancel()", "                pass", "who is slow is never cut off"),
        Mutant("        if empty > 1:", "        if empty > 2:", "a body that is cut off is taken for whole"),
        Mutant("                left -= len(piece)", "                left = 0", "who sends too much loses the answer"),
        Mutant("if is_too_large else piece", "and piece", "chunks are lost"),
        Mutant('if "_" not in name', "if name", "a header passes for another"),
        Mutant(
            ' and self._is_trusted_proxy(environ["REMOTE_ADDR"])',
            "",
            "anybody says that they came by TLS",
            seen_by="test_a_proxy_that_is_not_trusted_is_not_believed",
        ),
        Mutant(" if values else _UNREADABLE", "", "a key that can't be read is no key"),
        Mutant("            if self.at_end:", "            if False:", "streams hold up the end"),
        Mutant(
            "            except BaseException as error:",
            "            except OSError as error:",
            "a fault ends a thread",
        ),
        Mutant("    with suppress(ProtocolClosed):", "    with suppress(OSError):", "a client that goes is a fault"),
        Mutant("WAITED: time.monotonic() - request.arrived", "WAITED: 0.0", "nobody is known to have waited"),
    ),
)

SERVER = Part(
    "allocation/entrypoints/http/server.py",
    ("unit/test_server.py", "integration/test_http_server.py"),
    (
        Mutant("    if soft < enough:", "    if False:", "a flood of connections takes all file descriptors"),
        Mutant("            self.respawned_wrks.pop(number, None)", "            pass", "two kills end the server"),
        Mutant(
            "header_read_timeout=int(LONGEST_HEAD * 1000)", "header_read_timeout=600_000", "a head may take for ever"
        ),
        Mutant("max_buffer_size=LARGEST_HEAD", "max_buffer_size=10_000_000", "a head may be as large as one likes"),
    ),
)
