"""Mutants of the doors: who is let in, how often, and who is waited for."""

from __future__ import annotations

from tests.mutants.part import Mutant, Part

_IN_MEMORY = ("unit/test_doors.py",)

TABLE = Part(
    "allocation/entrypoints/http/doors.py",
    _IN_MEMORY,
    (
        Mutant("        if scope and not principal.may(scope):", "        if False:", "a key opens every door"),
        Mutant(
            '    Door(READING, "/", Scope.READ),',
            '    Door(READING | WRITING, "/", Scope.READ),',
            "a new route that writes is open to readers",
        ),
        Mutant("not self.alone and ", "", "whoever comes reads everything"),
        Mutant("        if principal is None:", "        if False:", "a wrong key is a fault of ours, not a refusal"),
        Mutant(
            "rule.startswith(f\"{self.path.rstrip('/')}/\")",
            'rule.startswith(self.path.rstrip("/"))',
            "a route is open because its name begins like another's",
        ),
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

KEY_RING = Part(
    "allocation/adapters/key_ring.py",
    _IN_MEMORY,
    (
        Mutant("if key.revoked_at is None]", "]", "a revoked key works for ever"),
        Mutant("_READ_EVERY = 1.0", "_READ_EVERY = 10.0", "a revoked key works for longer than was said"),
        Mutant("            if age > holds_for:", "            if True:", "no metrics in an outage"),
        Mutant("            if age > holds_for:", "            if False:", "revoked keys work in an outage"),
        Mutant("min(STILL_WORKS, holds_for))", "holds_for)", "revoked keys work after a long silence"),
        Mutant("min(STILL_WORKS, holds_for))", "STILL_WORKS)", "a new key is wrong while the keys are read"),
        Mutant(
            "_current(_LOOK_FOR_NEW_ONES, holds_for=_LOOK_FOR_NEW_ONES)",
            "_current(_LOOK_FOR_NEW_ONES)",
            "a new key is wrong in an outage",
            seen_by="test_what_can_not_be_looked_up_is_no_wrong_key_either",
        ),
        Mutant("_LOOK_FOR_NEW_ONES = 0.25", "_LOOK_FOR_NEW_ONES = -1", "guessing keeps the database busy"),
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
            'if not said.wait("crowded", per_second=1):',
            "if True:",
            "the log is flooded",
            seen_by="test_that_there_is_too_much_to_do_is_said_once_a_second",
        ),
    ),
)

FRAMING = Part(
    "allocation/entrypoints/http/framing.py",
    ("unit/test_request_buffer.py", "unit/test_framing.py"),
    (
        Mutant("self.is_ready = len(self._bytes) >= self._length", "self.is_ready = True", "a thread waits for bodies"),
        Mutant("int(length) > self.largest_body", "False", "large bodies are waited for"),
        Mutant("len(self._decoded) + length > self.largest_body", "False", "large bodies are waited for in chunks"),
        Mutant(
            "_LARGER_THAN_ANY_BODY = 10**15",
            "_LARGER_THAN_ANY_BODY = 1001",
            "one byte too many is a body that breaks off",
        ),
        Mutant("at = end + len(_CRLF)", "at = end", "a chunk ends too early"),
        Mutant("if data[end : end + len(_CRLF)] != _CRLF:", "if False:", "a chunk that is longer than it says is cut"),
        Mutant(
            "            del self._bytes[: self._length]",
            "            self._bytes.clear()",
            "pipelined requests are lost",
        ),
        Mutant("        if end > LARGEST_HEAD:", "        if found > LARGEST_HEAD:", "a head need not end"),
        Mutant("if not _HEAD.fullmatch(head):", "if False:", "what gunicorn reads otherwise is handed over"),
        Mutant("if 3 * len(given) < len(framing):", "if False:", "the last of two lengths counts"),
        Mutant('(coding.lower() != b"chunked" or is_old)', '(coding.lower() != b"chunked")', "HTTP/1.0 has chunks"),
        Mutant("if coding is not None and length is not None:", "if False:", "a length beside chunks is passed over"),
        Mutant(
            "if length is not None and not length.isdigit():", "if False:", "a length that is none is a fault of ours"
        ),
        Mutant(
            "self._expects = expect is not None and not is_old",
            "self._expects = expect is not None",
            "HTTP/1.0 is asked",
        ),
        Mutant("max(1, self._seen - 3)", "1", "each small packet has all that came before looked through again"),
        Mutant("_BARE_LF.search(self._bytes, self._seen)", "_BARE_LF.search(self._bytes)", "the same for its lines"),
        Mutant(
            '[ \\t]*+([^\\r]*+)", re.I',
            '[ \\t]*([^\\r]*?)[ \\t]*(?=\\r\\n)", re.I',
            "a header full of spaces stops the worker",
        ),
        Mutant("{1,8}+)", "{1,16}+)", "the size of a chunk may be as large as somebody likes"),
    ),
)

POLLER = Part(
    "allocation/entrypoints/http/polling_worker.py",
    ("unit/test_polling_worker.py", "unit/test_framing.py"),
    (
        Mutant(
            "        elif queue is self.keepalived_conns:  # now that it has begun, its time is running",
            "        else:",
            "who trickles wins time",
        ),
        Mutant("            and not conn.buffer.is_too_large\n", "", "a thread waits for a body that nobody reads"),
        Mutant(
            "            and conn.parser.finish_body()\n",
            "            and conn.parser.finish_body(time.monotonic() + 1)\n",
            "an answer says keep-alive and is wrong",
        ),
        Mutant("            and not conn.parser.unreader.ran_dry\n", "", "gunicorn may read on into the next request"),
        Mutant("            and not conn.parser.unreader.buf.getvalue()\n", "", "what gunicorn has left is a request"),
        Mutant(
            "        conn.timeout = time.monotonic() + _LONGEST_FAREWELL",
            "        conn.timeout = time.monotonic() + 3600",
            "whoever was answered may stay",
        ),
        Mutant(
            "        if not conn.ask_for_the_body():\n", "        if False:\n", "who waits to be asked waits in vain"
        ),
        Mutant(
            "        if conn.sock.is_behind:\n            self._wait_until_taken(conn)",
            "        if False:\n            self._wait_until_taken(conn)",
            "answers pile up for who takes none",
        ),
        Mutant("if conn.sock.taken_late >= LEAST_TAKEN and not force:", "if not force:", "who takes nothing may stay"),
        Mutant(
            "if conn.sock.taken_late >= LEAST_TAKEN and not force:", "if False:", "who is slow gets no large answer"
        ),
        Mutant("        conn.sock.taken_late = 0\n", "", "who has taken much once may stay"),
        Mutant(
            "            if error.errno in _NO_ROOM:", "            if False:", "a flood of connections ends a worker"
        ),
        Mutant("_UNTIL_THERE_IS_ROOM = 0.1", "_UNTIL_THERE_IS_ROOM = 0", "or keeps it busy"),
    ),
)

SOCKET = Part(
    "allocation/entrypoints/http/client_socket.py",
    ("unit/test_polling_worker.py", "unit/test_flask_app.py"),
    (
        Mutant(
            "self.send(data, socket.MSG_DONTWAIT)",
            "super().sendall(data) or len(bytes(data))",
            "a thread waits for who does not read",
        ),
        Mutant(
            "if time.monotonic() - self._behind_since > LONGEST_SILENCE:",
            "if False:",
            "a stream that nobody reads never ends",
        ),
        Mutant(
            "            self._unsent.append(memoryview(data))\n",
            "            self._send(data)\n",
            "what is said overtakes what was",
        ),
    ),
)

SERVER = Part(
    "allocation/entrypoints/http/server.py",
    ("unit/test_server.py", "unit/test_flask_app.py"),
    (
        Mutant("    said = without_secrets(message)\n", "    said = message\n", "half a secret is said"),
        Mutant('elif not self._said.wait("invalid", per_second=1):', "else:", "strangers fill the log"),
        Mutant("    if conn.sock.is_behind:\n        return False\n", "", "answers pile up in a thread too"),
        Mutant("    if soft < enough:", "    if False:", "a flood of connections takes all file descriptors"),
        Mutant('            "forwarder_headers": "",', "", "a header makes it a 500"),
        Mutant('            "sendfile": False,', "", "a thread waits for who does not read a file"),
    ),
)
