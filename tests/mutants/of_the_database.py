"""Mutants of the machinery's transactions and tables on PostgreSQL."""

from __future__ import annotations

from tests.mutants.part import Mutant, Part

_OUTBOX = ("integration/test_outbox_relay.py", "integration/test_event_stream.py", "integration/test_dead_letters.py")

UNIT_OF_WORK = Part(
    "messaging/sql/unit_of_work.py",
    (
        "integration/test_unit_of_work.py",
        "integration/test_inbox.py",
        "integration/test_concurrency.py",
        "integration/test_round_trips.py",
    ),
    (
        Mutant(
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "BEGIN ISOLATION LEVEL READ COMMITTED",
            "a unit of work sees several moments",
            seen_by="test_a_unit_of_work_sees_one_moment",
        ),
        Mutant(
            "self.event_log, self.outbox, self.inbox]",
            "self.outbox, self.inbox]",
            "no event log, and no lock",
            seen_by="test_the_version_is_the_number_of_events",
        ),
        Mutant(
            "self.event_log, self.outbox, self.inbox]",
            "self.event_log, self.inbox]",
            "no outbox rows",
            seen_by="test_an_allocation_is_in_the_log_the_view_and_the_outbox_at_once",
        ),
        Mutant(
            "self.event_log, self.outbox, self.inbox]",
            "self.event_log, self.outbox]",
            "no inbox marks",
            seen_by="test_a_message_id_used_again_with_another_body_stops_its_group_before_anything_changed",
        ),
        Mutant(
            "before = [_BEGIN, *self._turn]",
            "before = [_BEGIN]",
            "nobody queues up",
            seen_by="test_who_waits_for_its_turn_sees_what_was_written_meanwhile",
        ),
        Mutant(
            "        asked = [*self._first, *questions]",
            "        asked = list(questions)",
            "what is reserved is written by others",
            seen_by="test_who_reserves_a_product_wins_against_who_does_not",
        ),
        Mutant(
            "        self.ask([*self.questions(commands), *self.inbox.questions(message_ids)])",
            "        pass",
            "each thing is asked for by itself",
            seen_by="test_an_allocation_asks_once_and_writes_once",
        ),
        Mutant(
            "translated(error, committing=True)",
            "translated(error)",
            "runs again though it may be committed",
            seen_by="test_a_connection_that_breaks_at_the_commit_leaves_it_open_whether_it_was_one",
        ),
        Mutant(
            "            self._go([*statements, _COMMIT])",
            "            for statement in statements:\n                self._go([statement, _COMMIT])",
            "half of it is committed when the other half fails",
            seen_by="test_of_two_writers_of_one_product_the_second_is_told_of_a_conflict",
        ),
    ),
)

ROUND_TRIP = Part(
    "messaging/sql/round_trip.py",
    ("integration/test_round_trip.py",),
    (
        Mutant(
            "            self._driver.close()\n",
            "            pass\n",
            "a connection that was left in the middle goes back to the pool",
            seen_by="test_who_is_interrupted_in_the_middle_leaves_no_connection_that_others_could_use",
        ),
        Mutant(
            "                self._prepared.clear()",
            "                pass",
            "what the server has forgotten fails for ever",
            seen_by="test_what_the_server_has_forgotten_is_prepared_anew",
        ),
        Mutant(
            "            self._require_success(next(results))\n            self._prepared[text] = new_name\n",
            "            self._prepared[text] = new_name\n            self._require_success(next(results))\n",
            "what could not be prepared is taken for prepared",
            seen_by="test_what_could_not_be_prepared_is_not_taken_for_prepared",
        ),
        Mutant(
            " or self._driver.prepare_threshold is None:",
            ":",
            "a pooler that keeps no prepared statements is not heeded",
            seen_by="test_where_nothing_may_be_prepared_nothing_is",
        ),
        Mutant(
            "if sending and not (sending := bool(pgconn.flush())):",
            "if sending and not (sending := False):",
            "much is never sent to its end",
            seen_by="test_much_goes_there_and_comes_back",
        ),
    ),
)

STATEMENTS = Part(
    "messaging/sql/statements.py",
    ("integration/test_unit_of_work.py", "integration/test_repository.py", "integration/test_round_trips.py"),
    (
        Mutant(
            "        if any(statement[0].table == earlier.table for earlier, _ in together):",
            "        if False:",
            "of two writes to one table the second does not see the first",
            seen_by="test_fake_and_real_never_differ_and_the_books_balance",
        ),
        Mutant(
            "        if any(statement[0].table == earlier.table for earlier, _ in together):",
            "        if together:",
            "a statement for each table",
            seen_by="test_an_allocation_asks_once_and_writes_once",
        ),
    ),
)

LIMITS = Part(
    "messaging/sql/limits.py",
    ("integration/test_plans.py",),
    (
        Mutant(
            "wanted = limits | BY_KEY",
            "wanted = limits",
            "a table that was empty when it was last looked at is read whole",
            seen_by="test_an_allocation",
        ),
    ),
)

ERRORS = Part(
    "messaging/sql/errors.py",
    (
        "unit/test_sql_errors.py",
        "integration/test_unit_of_work.py",
        "integration/test_concurrency.py",
        "integration/test_inbox.py",
    ),
    (
        Mutant(
            '    "40001": ConcurrencyConflict,  #',
            '    "-----": ConcurrencyConflict,  #',
            "a serialization failure is not run again",
            seen_by="test_a_transaction_that_the_database_gives_up_runs_again",
        ),
        Mutant(
            '    "40P01": ConcurrencyConflict,  #',
            '    "-----": ConcurrencyConflict,  #',
            "a deadlock is not run again",
            seen_by="test_a_transaction_that_the_database_gives_up_runs_again",
        ),
        Mutant(
            '    "55P03": ConcurrencyConflict,  #',
            '    "-----": ConcurrencyConflict,  #',
            "a lock that is not to be had is not waited for",
            seen_by="test_a_transaction_that_the_database_gives_up_runs_again",
        ),
        Mutant(
            '    "23505": AlreadyThere,  #',
            '    "-----": AlreadyThere,  #',
            "who was second fails",
            seen_by="test_of_two_writers_of_one_product_the_second_is_told_of_a_conflict",
        ),
        Mutant(
            '    "57P01",  #',
            '    "-----",  #',
            "a restart of the server fails a command that could run again",
            seen_by="test_a_transaction_that_the_database_gives_up_runs_again",
        ),
        Mutant(
            "OutcomeUnknown(text) if committing else",
            "",
            "runs again though it may be committed",
            seen_by="test_a_connection_that_breaks_at_the_commit_leaves_it_open_whether_it_was_one",
        ),
        Mutant(
            "if committing else Disconnected(text)",
            "",
            "a connection that broke early is taken for a late one",
            seen_by="test_one_that_breaks_before_can_have_committed_nothing",
        ),
        Mutant(
            '    "53",  #',
            '    "--",  #',
            "a full disk is taken for a fault in the program",
            seen_by="test_a_server_without_means_has_rolled_back_and_may_do_it_later",
        ),
        Mutant(
            '    "58",  #',
            '    "--",  #',
            "an I/O error is taken for a fault in the program",
            seen_by="test_a_server_without_means_has_rolled_back_and_may_do_it_later",
        ),
        Mutant(
            " or error.diag.severity_nonlocalized in _OVER",
            "",
            "a server that panicked while committing is believed to have rolled back",
            seen_by="test_who_falls_over_while_committing_may_have_committed",
        ),
    ),
)

EVENT_LOG = Part(
    "messaging/sql/event_log.py",
    ("integration/test_outbox_relay.py", "integration/test_unit_of_work.py", "integration/test_check.py"),
    (
        Mutant(
            "    if row.id is None:",
            "    if False:",
            "what the log has lost is not seen",
            seen_by="test_what_the_log_has_lost_is_not_passed_over",
        ),
        Mutant(
            "return [str(row_id) for (row_id,) in found] == [recorded.metadata.id]",
            "return bool(found)",
            "another's event in the same place is taken for one's own",
            seen_by="test_an_event_is_known_by_its_id",
        ),
        Mutant(
            '"effects": list(effects)',
            '"effects": []',
            "nobody can tell later which effects an event must have",
            seen_by="test_fake_and_real_never_differ_and_the_books_balance",
        ),
    ),
)

INBOX = Part(
    "messaging/sql/inbox.py",
    ("integration/test_inbox.py", "integration/test_unit_of_work.py"),
    (
        Mutant(
            "for pending in self._rows:",
            "for pending in self._rows[:0]:",
            "twice in one group has two effects",
            seen_by="test_many_messages_at_once_do_not_disturb_each_other",
        ),
        Mutant(
            "if not is_ours:",
            "if False:",
            "what is at work is begun again",
            seen_by="test_what_is_still_at_work_is_not_begun_again",
        ),
        Mutant(
            "pg_try_advisory_xact_lock",
            "pg_try_advisory_lock",
            "the lock on a message outlives its transaction",
            seen_by="test_the_lock_on_a_message_goes_with_its_transaction",
        ),
        Mutant(
            "if fingerprint is not None:",
            "if False:",
            "no answer is replayed",
            seen_by="test_the_same_message_by_many_at_once_takes_effect_once",
        ),
        Mutant(
            'return {"refused": self._names[type(outcome.refusal)], "because": str(outcome.refusal)}',
            'return {"result": None}',
            "a refusal is answered as success when it is asked for again",
            seen_by="test_a_refusal_stands_too_with_its_type_and_text",
        ),
    ),
)

DELIVERIES = Part(
    "messaging/sql/deliveries.py",
    (*_OUTBOX, "integration/test_plans.py"),
    (
        Mutant(
            '"CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"',
            '"CAST(1 AS bigint)"',
            "after a restore tokens begin anew, and every relay is late",
            seen_by="test_a_token_rises_even_when_the_database_was_restored",
        ),
        Mutant(
            'f"greatest(mine.token + 1, {_MOMENT})"',
            '"mine.token"',
            "two claims have one token: no fence",
            seen_by="test_a_claim_that_ran_out_is_taken_over_and_whoever_comes_late_changes_nothing",
        ),
        Mutant(
            'f"greatest(mine.token + 1, {_MOMENT})"',
            "_MOMENT",
            "when the clock goes back the new relay is late",
            seen_by="test_a_token_rises_though_the_clock_was_put_back",
        ),
        Mutant(
            "WHERE effect = :effect AND stream > :after ORDER BY stream, version LIMIT 1)",
            "WHERE effect = :effect AND stream > :after ORDER BY stream, version DESC LIMIT 1)",
            "looks at the last letter of a stream, not at the one that is to go next",
            seen_by="test_a_stream_whose_first_letter_is_dead_or_not_due_is_not_claimed",
        ),
        Mutant(
            "WHERE heads.dead_at IS NULL AND {_IS_DUE}",
            "WHERE {_IS_DUE}",
            "dead streams are claimed again and again",
            seen_by="test_a_stream_whose_first_letter_is_dead_or_not_due_is_not_claimed",
        ),
        Mutant(
            "WHERE heads.dead_at IS NULL AND {_IS_DUE}",
            "WHERE heads.dead_at IS NULL",
            "streams that wait are claimed again and again",
            seen_by="test_a_stream_whose_first_letter_is_dead_or_not_due_is_not_claimed",
        ),
        Mutant(
            "OR retry_at <= clock_timestamp() OR",
            "OR",
            "what failed once is never tried again",
            seen_by="test_what_failed_is_tried_again_when_its_time_has_come_and_not_before",
        ),
        Mutant(
            """          AND {_is_free("deliveries")}\n        LIMIT""",
            "        LIMIT",
            "a relay waits for streams that are taken, and leaves those that are free",
            seen_by="test_a_relay_gets_those_streams_that_are_free",
        ),
        Mutant(
            """        WHERE {_is_free("mine")}\n""",
            "",
            "two relays that come at the same moment claim the same stream",
            seen_by="test_who_waits_while_another_claims_gets_nothing_of_it",
        ),
        Mutant(
            "OR {table}.claimed_until < clock_timestamp()",
            "",
            "the streams of a relay that died are stuck",
            seen_by="test_a_claim_that_ran_out_is_taken_over_and_whoever_comes_late_changes_nothing",
        ),
        Mutant(
            "               OR {table}.claimed_until > clock_timestamp() + make_interval(secs => 2 * :lease)\n",
            "",
            "the streams of a relay that died before the clock was set back by an hour are stuck for an hour",
            seen_by="test_the_streams_of_a_relay_that_died_before_the_clock_was_set_back_are_taken_over",
        ),
        Mutant(
            "clock_timestamp() + make_interval(secs => 2 * :lease)",
            "clock_timestamp()",
            "every claim looks as if the clock had been set back",
            seen_by="test_what_one_relay_has_claimed_no_other_gets",
        ),
        Mutant(
            "               OR {table}.claimed_by = :relay)",
            "               )",
            "what a relay could not settle waits until its own claim has run out",
            seen_by="test_what_a_relay_could_not_settle_it_takes_again_at_once",
        ),
        Mutant(
            " OR last_failed_at > clock_timestamp())",
            ")",
            "what failed before the clock was set back by an hour is not tried for an hour",
            seen_by="test_what_failed_before_the_clock_was_set_back_is_tried_again_and_then_waits_as_ever",
        ),
        Mutant(
            "FROM due ORDER BY stream\n",
            "FROM due\n",
            "two relays that claim at the same moment may wait for each other",
            harmless="The streams come in order from the walk along the primary key. The clause makes sure.",
        ),
        Mutant(
            """          AND {_is_free("deliveries")}\n        ORDER BY""",
            "        ORDER BY",
            "the refill takes streams away from relays at work",
            seen_by="test_what_another_has_claimed_is_looked_at_again",
        ),
        Mutant(
            "ORDER BY stream FOR UPDATE SKIP LOCKED",
            "ORDER BY stream",
            "a refill takes what was just claimed",
            seen_by="test_a_refill_passes_over_what_another_is_about_to_claim",
        ),
        Mutant(
            "AND deliveries.token = held.token\n      AND claimed_until IS NOT NULL",
            "AND claimed_until IS NOT NULL",
            "a relay keeps up what another has claimed",
            seen_by="test_a_claim_that_another_has_taken_over_can_not_be_kept_up",
        ),
        Mutant(
            "      AND claimed_until IS NOT NULL\n",
            "",
            "what was let go is held again",
            seen_by="test_a_claim_that_was_let_go_is_not_kept_up",
        ),
        Mutant(
            "= ANY(CAST(:streams AS text[]))\n      AND deliveries.stream = held.stream",
            "= held.stream",
            "to keep up a claim all streams are looked at",
            seen_by="test_a_claim_and_its_end",
        ),
        Mutant(
            "= ANY(CAST(:streams AS text[]))\n                       AND deliveries.stream = settled.stream",
            "= settled.stream",
            "to settle a claim all streams are looked at",
            seen_by="test_a_claim_and_its_end",
        ),
        Mutant(
            "dead_at IS NULL AND {_IS_DUE} AS is_due",
            "true AS is_due",
            "what another relay has just given up is tried at once",
            seen_by="test_a_head_that_has_just_failed_elsewhere_is_not_tried_at_once",
        ),
        Mutant(
            "ORDER BY version LIMIT :letters",
            "ORDER BY version DESC LIMIT :letters",
            "begins with the newest",
            seen_by="test_events_of_a_stream_are_told_in_their_order_however_few_are_claimed_at_a_time",
        ),
        Mutant(
            "LEFT JOIN event_log",
            "JOIN event_log",
            "what the log has lost is passed over in silence",
            seen_by="test_what_the_log_has_lost_is_not_passed_over",
        ),
        Mutant(
            "in takewhile(",
            "in filter(",
            "letters behind one that is dead overtake it",
            seen_by="test_a_head_that_has_just_failed_elsewhere_is_not_tried_at_once",
        ),
        Mutant(
            "                       AND deliveries.token = settled.token\n",
            "",
            "no fence: who comes late settles what another has claimed",
            seen_by="test_a_claim_that_ran_out_is_taken_over_and_whoever_comes_late_changes_nothing",
        ),
        Mutant(
            "delivered_count + settled.count,",
            "delivered_count,",
            "deliveries are not counted",
            seen_by="test_how_far_each_effect_has_got_is_counted",
        ),
        Mutant(
            "greatest(delivered_version, settled.version)",
            "settled.version",
            "a failure makes forget how far the effect has got",
            seen_by="test_a_failure_does_not_make_forget_how_far_an_effect_has_got",
        ),
        Mutant(
            "outbox.version <= still_ours.version",
            "outbox.version < still_ours.version",
            "told twice",
            seen_by="test_events_of_a_stream_are_told_in_their_order_however_few_are_claimed_at_a_time",
        ),
        Mutant(
            " AND outbox.version <= still_ours.version",
            "",
            "what was not told yet is struck off",
            seen_by="test_events_of_a_stream_are_told_in_their_order_however_few_are_claimed_at_a_time",
        ),
        Mutant(
            "WHERE outbox.effect = :effect AND outbox.stream = still_ours.stream",
            "WHERE outbox.stream = still_ours.stream",
            "what one effect has done is struck off for all",
            seen_by="test_a_mail_that_fails_does_not_hold_up_the_news",
        ),
        Mutant(
            "transaction.execute(_FAILED, failed)",
            "transaction.execute(_FAILED, failed[:1])",
            "of several failures one is noted, and the others are tried again without a rest",
            seen_by="test_of_several_failures_each_is_noted",
        ),
        Mutant(
            "[claim for claim in claims if claim.stream in still_ours]",
            "claims",
            "who comes late gives up what another is at",
            seen_by="test_a_claim_that_ran_out_is_taken_over_and_whoever_comes_late_changes_nothing",
        ),
        Mutant(
            "faults = faults + :faults",
            "faults = faults",
            "never given up",
            seen_by="test_what_keeps_failing_for_its_own_sake_is_dead_after_ten_attempts_until_someone_wakes_it",
        ),
        Mutant(
            "retry_at = now() + make_interval(secs => :retry_in)",
            "retry_at = NULL",
            "what fails is tried without a pause",
            seen_by="test_what_failed_is_tried_again_when_its_time_has_come_and_not_before",
        ),
        Mutant(
            "CASE WHEN CAST(:retry_in AS float) IS NULL THEN now() END",
            "NULL",
            "given up, and tried for ever",
            seen_by="test_what_cannot_be_read_is_dead_at_once_and_holds_its_stream",
        ),
        Mutant(
            "WHERE effect = :effect AND stream = :stream AND version = :version",
            "WHERE effect = :effect AND stream = :stream",
            "all letters of a stream fail with its first",
            seen_by="test_what_keeps_failing_for_its_own_sake_is_dead_after_ten_attempts_until_someone_wakes_it",
        ),
        Mutant(
            "max(names) if len(names) == most else",
            "",
            "the last streams never have their turn",
            seen_by="test_every_stream_gets_its_turn_when_there_are_more_than_one_claim_takes",
        ),
        Mutant(
            "if not claims and after:",
            "if False:",
            "idle at the end of each round",
            seen_by="test_every_stream_gets_its_turn_when_there_are_more_than_one_claim_takes",
        ),
        Mutant(
            'with connection(self._engine, "READ COMMITTED")',
            'with connection(self._engine, "REPEATABLE READ")',
            "what was done can't be settled while its claim is kept up",
            seen_by="test_a_claim_that_is_just_being_kept_up_is_settled_after_that",
        ),
    ),
)

DEAD_LETTERS = Part(
    "messaging/sql/dead_letters.py",
    (
        "integration/test_dead_letters.py",
        "integration/test_command_stream.py",
        "integration/test_event_stream.py",
        "integration/test_console.py",
    ),
    (
        Mutant(
            "            func.substring(_letters.c.body, 1, longest),",
            "            _letters.c.body,",
            "a list of letters takes all of what was sent",
            seen_by="test_of_a_message_only_its_beginning_is_read_for_a_list",
        ),
        Mutant(
            r':([^\0\ud800-\udfff]+)"',
            r':([^\ud800-\udfff]+)"',
            "a letter that nothing is called is a fault",
            seen_by="test_no_letter_whatever_is_found_by_a_name_that_nothing_has",
        ),
        Mutant(
            "        return self._retry(ask)",
            "        return ask()",
            "whoever looks after a restart of the database is told to come again",
            seen_by="test_a_page_does_not_mind_that_connections_were_cut",
        ),
        Mutant(
            " AND dead_at IS NOT NULL\n        RETURNING",
            "\n        RETURNING",
            "who drops drops what is alive again",
            seen_by="test_what_is_alive_again_can_not_be_dropped",
        ),
        Mutant(
            "SELECT effect, stream, version, reason, :by FROM dropped",
            "SELECT effect, stream, version, reason, :by FROM dropped WHERE false",
            "nobody knows what was dropped, and by whom",
            seen_by="test_a_dropped_effect_never_happens_those_behind_it_go_on_and_the_books_balance",
        ),
        Mutant(
            "delivered_count = delivered_count + 1,",
            "",
            "what was dropped is missing from the books",
            seen_by="test_a_dropped_effect_never_happens_those_behind_it_go_on_and_the_books_balance",
        ),
        Mutant(
            ", delivered_version = dropped.version\n",
            "\n",
            "what comes next is told with the wrong predecessor",
            seen_by="test_a_dropped_effect_never_happens_those_behind_it_go_on_and_the_books_balance",
        ),
        Mutant(
            ".on_conflict_do_nothing()",
            "",
            "a message that is buried again stops its consumer",
            seen_by="test_a_dead_letter_is_kept_once_though_it_is_buried_again",
        ),
        Mutant(
            ".where(_outbox.c.version == letter.version, _outbox.c.dead_at.is_not(None))",
            ".where(_outbox.c.dead_at.is_not(None))",
            "another dead letter of the stream is woken",
            harmless="A stream has one dead letter at a time: its first.",
        ),
        Mutant(
            "dead_at=None, retry_at=None, faults=0",
            "dead_at=None, retry_at=None",
            "given up at the next fault",
            seen_by="test_what_is_tried_again_may_fail_as_often_as_before",
        ),
        Mutant(
            "attempts=_letters.c.attempts + 1",
            "attempts=_letters.c.attempts",
            "a retry meets the last refusal",
            seen_by="test_a_message_that_is_refused_again_stays_and_one_that_is_not_has_its_effect_once",
        ),
    ),
)

EXCLUSIVE = Part(
    "messaging/sql/exclusive.py",
    ("integration/test_bridge.py", "integration/test_command_stream.py", "integration/test_succession.py"),
    (
        Mutant(
            "        if not _MAY_TAKE.get()():",
            "        if False:",
            "who gets the lock back does not ask who had it meanwhile",
            seen_by="test_what_was_heard_before_another_took_the_bridge_is_kept_and_what_that_one_hears_is_its_own",
        ),
        Mutant(
            "return bool(open_connection.scalar(_ANYTHING))",
            "return True",
            "a lock that went with its connection is not missed",
            seen_by="test_an_idle_consumer_has_its_locks_again_soon_after_its_connections_were_cut",
        ),
        Mutant(
            "if ours != (True,):",
            "if False:",
            "any process may commit, and the order is lost",
            seen_by="test_who_lost_the_bridge_cannot_let_a_late_message_take_effect",
        ),
        Mutant(
            "pg_try_advisory_lock(",
            "pg_try_advisory_xact_lock(",
            "the lock is let go at once",
            seen_by="test_who_lost_the_bridge_cannot_let_a_late_message_take_effect",
        ),
        Mutant(
            "except Occupied:\n            return False",
            "except Occupied:\n            return True",
            "all believe it is theirs",
            seen_by="test_who_lost_the_bridge_cannot_let_a_late_message_take_effect",
        ),
    ),
)

HOUSEKEEPING = Part(
    "messaging/sql/housekeeping.py",
    ("integration/test_housekeeping.py", "integration/test_bridge.py"),
    (
        Mutant(
            "received_at < now()",
            "received_at > now()",
            "the young are forgotten, the old are kept",
            seen_by="test_a_relay_does_it_without_being_asked",
        ),
        Mutant(
            " LIMIT :batch",
            "",
            "one large transaction instead of small ones",
            seen_by="test_is_done_in_small_batches_by_any_number_at_once",
        ),
        Mutant(
            "while self.forget_old_messages() == self.batch and",
            "while False and",
            "nothing is ever forgotten",
            seen_by="test_a_relay_does_it_without_being_asked",
        ),
    ),
)

RETELLING = Part(
    "messaging/sql/retelling.py",
    ("integration/test_event_stream.py",),
    (
        Mutant(
            "version > span.after",
            "version >= span.after",
            "the last one that is known is told twice",
            seen_by="test_a_lost_tail_is_told_again",
        ),
        Mutant(
            " AND version <= span.up_to",
            "",
            "tells again what was not yet told: its turn comes later",
            seen_by="test_what_is_new_waits_until_the_lost_is_back",
        ),
        Mutant(
            "version <= span.up_to",
            "version < span.up_to",
            "the last one that was lost stays lost",
            seen_by="test_what_redis_has_lost_is_told_again_from_the_log",
        ),
        Mutant(
            " AND effects ? :effect",
            "",
            "tells of what this effect is not for",
            seen_by="test_what_never_had_this_effect_is_not_told_again",
        ),
        Mutant(
            "WHERE dropped.effect = :effect\n",
            "WHERE false\n",
            "what was dropped is told after all",
            seen_by="test_what_was_dropped_is_not_told_again_and_leaves_no_gap",
        ),
        Mutant(
            "WHERE time > now()",
            "WHERE time < now()",
            "the old is told again, the young is not",
            seen_by="test_what_is_older_than_the_stream_keeps_is_not_told_again",
        ),
        Mutant(
            "ORDER BY event_log.stream, version",
            "ORDER BY event_log.stream, version DESC",
            "told backwards",
            seen_by="test_what_redis_has_lost_is_told_again_from_the_log",
        ),
        Mutant(
            "AND stream > :beyond",
            "AND stream >= :beyond",
            "looks at the last stream for ever",
            seen_by="test_what_redis_has_lost_is_told_again_from_the_log",
        ),
        Mutant(
            " AND delivered_version > 0 ORDER BY stream",
            " ORDER BY stream",
            "looks at streams of which nothing was told",
            harmless="Nothing is missing of a stream of which nothing was told: version 0 is not behind 0.",
        ),
    ),
)
