"""Mutants of the machinery's transactions and tables on PostgreSQL."""

from __future__ import annotations

from tests.mutants.part import Mutant, Part

_OUTBOX = ("integration/test_outbox_relay.py", "integration/test_event_stream.py", "integration/test_dead_letters.py")


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
            """          AND {_is_free("delivery")}\n        LIMIT""",
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
            "ORDER BY version LIMIT :messages",
            "ORDER BY version DESC LIMIT :messages",
            "begins with the newest",
            seen_by="test_events_of_a_stream_are_published_in_their_order_however_few_are_claimed_at_a_time",
        ),
        Mutant(
            "LEFT JOIN event_log",
            "JOIN event_log",
            "what the log has lost is passed over in silence",
            seen_by="test_what_the_log_has_lost_is_not_passed_over",
        ),
        Mutant(
            "                       AND deliveries.token = settled.token\n",
            "",
            "no fence: who comes late settles what another has claimed",
            seen_by="test_a_claim_that_ran_out_is_taken_over_and_whoever_comes_late_changes_nothing",
        ),
        Mutant(
            """{_plus("delivered_count", "settled.count", _BIGINT)}""",
            "delivered_count",
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
            seen_by="test_events_of_a_stream_are_published_in_their_order_however_few_are_claimed_at_a_time",
        ),
        Mutant(
            " AND outbox.version <= still_ours.version",
            "",
            "what was not told yet is struck off",
            seen_by="test_events_of_a_stream_are_published_in_their_order_however_few_are_claimed_at_a_time",
        ),
        Mutant(
            "WHERE outbox.effect = still_ours.effect AND outbox.stream = still_ours.stream",
            "WHERE outbox.stream = still_ours.stream",
            "what one effect has done is struck off for all",
            seen_by="test_a_mail_that_fails_does_not_hold_up_the_events",
        ),
        Mutant(
            """faults = {_plus("faults", "CAST(:faults AS integer)", _INTEGER)}""",
            "faults = faults + 0 * :faults",
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
    ),
)

EXCLUSIVE = Part(
    "messaging/sql/exclusive.py",
    ("integration/test_bridge.py", "integration/test_command_stream.py", "integration/test_succession.py"),
    (
        Mutant(
            "pg_try_advisory_lock(",
            "pg_try_advisory_xact_lock(",
            "the lock is let go at once",
            seen_by="test_who_lost_the_bridge_cannot_let_a_late_message_take_effect",
        ),
    ),
)

HOUSEKEEPING = Part(
    "messaging/sql/housekeeping.py",
    ("integration/test_housekeeping.py", "integration/test_bridge.py"),
    (
        Mutant(
            "received_at < {PRESENT}",
            "received_at > {PRESENT}",
            "the young are forgotten, the old are kept",
            seen_by="test_a_relay_does_it_without_being_asked",
        ),
        Mutant(
            " LIMIT :batch",
            "",
            "one large transaction instead of small ones",
            seen_by="test_is_done_in_small_batches_by_any_number_at_once",
        ),
    ),
)

RETELLING = Part(
    "messaging/sql/redelivery.py",
    ("integration/test_event_stream.py",),
    (
        Mutant(
            "version > after AND ",
            "",
            "the last one that is known is told twice",
            seen_by="test_a_lost_tail_is_published_again",
        ),
        Mutant(
            "version BETWEEN span.after AND",
            "version BETWEEN span.after + 1 AND",
            "a lost tail that begins with what a slow clock has recorded stays lost",
            seen_by="test_a_lost_tail_is_published_again",
        ),
        Mutant(
            "version BETWEEN span.after AND span.up_to",
            "version >= span.after",
            "tells again what was not yet told: its turn comes later",
            seen_by="test_what_is_new_waits_until_the_lost_is_back",
        ),
        Mutant(
            "AND span.up_to OFFSET",
            "AND span.up_to - 1 OFFSET",
            "the last one that was lost stays lost",
            seen_by="test_what_redis_has_lost_is_published_again_from_the_log",
        ),
        Mutant(
            " AND effects ? :effect",
            "",
            "tells of what this effect is not for",
            seen_by="test_what_never_had_this_effect_is_not_published_again",
        ),
        Mutant(
            "WHERE dropped.effect = :effect\n",
            "WHERE false\n",
            "what was dropped is told after all",
            seen_by="test_what_was_dropped_is_not_published_again_and_leaves_no_gap",
        ),
        Mutant(
            "WHERE time > oldest AND (",
            "WHERE time <= oldest AND (",
            "the old is told again, the young is not",
            seen_by="test_what_is_older_than_the_stream_keeps_is_not_published_again",
        ),
        Mutant(
            '    ORDER BY stream, version\n""")  # noqa: S608',
            '    ORDER BY stream, version DESC\n""")  # noqa: S608',
            "told backwards",
            seen_by="test_what_redis_has_lost_is_published_again_from_the_log",
        ),
        Mutant(
            "AND stream > :beyond",
            "AND stream >= :beyond",
            "looks at the last stream for ever",
            seen_by="test_what_redis_has_lost_is_published_again_from_the_log",
        ),
        Mutant(
            " AND delivered_version > 0 ORDER BY stream",
            " ORDER BY stream",
            "looks at streams of which nothing was told",
            harmless="Nothing is missing of a stream of which nothing was told: version 0 is not behind 0.",
        ),
    ),
)
