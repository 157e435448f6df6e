"""Mutants of the scripts that Redis runs."""

from __future__ import annotations

from tests.mutants.part import Mutant, Part

EVENT_STREAM = Part(
    "messaging/redis/event_stream.py",
    ("integration/test_event_stream.py", "integration/test_redis_eventpublisher.py"),
    (
        Mutant(
            "if tonumber(ARGV[5]) < tonumber(token) then return 'late:' .. token end",
            "",
            "no fence: a relay that was replaced tells late",
            seen_by="test_a_relay_that_was_replaced_can_not_publish_late",
        ),
        Mutant(
            "then return 'late:' .. token end",
            "then return 'late:0' end",
            "a token that the database has lost holds up its SKU until the clock is there",
            seen_by="test_a_token_that_was_lost_with_a_database_holds_up_its_subject_for_a_moment_only",
        ),
        Mutant(
            "if tonumber(ARGV[5]) < tonumber(token)",
            "if tonumber(ARGV[5]) <= tonumber(token)",
            "one claim can tell of one event only",
            seen_by="test_all_kinds_of_events_are_published_in_their_order",
        ),
        Mutant(
            " or self._compared != (home, incarnation)",
            "",
            "a Redis is believed that it is complete, though others have published elsewhere meanwhile",
            seen_by="test_what_another_relay_has_compared_is_not_taken_for_complete_by_one_that_has_compared_elsewhere",
        ),
        Mutant(
            " in {mark, home.encode()}",
            " == mark",
            "of two relays that compare at once the slower one begins again and again",
            seen_by="test_of_several_that_check_at_once_the_slower_has_compared_too",
        ),
        Mutant(
            "self._compared = None\n        return",
            "pass\n        return",
            "a Redis that was compared once is believed after another could not be compared",
            seen_by="test_what_could_not_be_compared_elsewhere_is_compared_here",
        ),
        Mutant(
            "if tonumber(ARGV[6]) > tonumber(version) then",
            "if false then",
            "no gap is seen",
            seen_by="test_what_is_new_waits_until_the_lost_is_back",
        ),
        Mutant(
            "if tonumber(ARGV[6]) > tonumber(version) then",
            "if tonumber(ARGV[6]) >= tonumber(version) then",
            "everything is a gap",
            seen_by="test_all_kinds_of_events_are_published_in_their_order",
        ),
        Mutant(
            "    redis.call('HSET', hash, '', 'gap')\n",
            "",
            "a gap is seen, and nobody fills it",
            seen_by="test_a_gap_is_seen_though_redis_is_the_same",
        ),
        Mutant(
            "    redis.call('DEL', hash)\n    redis.call('XDEL'",
            "    redis.call('XDEL'",
            "what is new comes before what was lost",
            harmless="this step is refused all the same, and the next one finds fewer entries than were left",
        ),
        Mutant(
            "    redis.call('XDEL', stream, redis.call('XADD', stream, '*', 'event', ''))\n",
            "",
            "checked for ever",
            seen_by="test_a_redis_that_is_given_nothing_but_old_events_is_complete",
        ),
        Mutant(
            "ARGV[5] .. ':' .. ARGV[7], ' kept'",
            "token .. ':' .. ARGV[7], ' kept'",
            "the highest token is not remembered",
            seen_by="test_a_relay_that_was_replaced_can_not_publish_late",
        ),
        Mutant(
            "ARGV[5] .. ':' .. ARGV[7], ' kept'",
            "ARGV[5] .. ':' .. version, ' kept'",
            "the last version is not remembered",
            seen_by="test_a_gap_is_seen_though_redis_is_the_same",
        ),
        Mutant(
            "redis.call('XTRIM', stream, 'MINID', '~', (now - ARGV[2]) .. '000')",
            "0",
            "the stream grows for ever",
            seen_by="test_what_is_too_old_is_trimmed",
        ),
        Mutant(
            "math.min(time, tonumber(ARGV[3]))",
            "time",
            "a clock of Redis that jumps empties the stream",
            seen_by="test_what_is_too_old_by_one_clock_only_stays",
        ),
        Mutant(
            "length and size < tonumber(length) and",
            "false and",
            "what another client deletes is gone",
            seen_by="test_what_a_stranger_or_a_clock_takes_from_the_stream_is_noticed_and_published_again_without_a_gap",
        ),
        Mutant(
            "and not is_ours(newest) then",
            "and false then",
            "a stream that another client has made anew with as many entries is taken for ours",
            seen_by="test_what_a_stranger_or_a_clock_takes_from_the_stream_is_noticed_and_published_again_without_a_gap",
        ),
        Mutant(
            " and entry[2][1] == 'event'",
            "",
            "a stranger's entry that has the id of our newest is taken for ours",
            seen_by="test_what_a_stranger_or_a_clock_takes_from_the_stream_is_noticed_and_published_again_without_a_gap",
        ),
        Mutant(
            "    redis.call('XTRIM', stream, 'MAXLEN', 0)\n",
            "",
            "what is published again after another client has deleted some comes behind what followed it",
            seen_by="test_what_a_stranger_or_a_clock_takes_from_the_stream_is_noticed_and_published_again_without_a_gap",
        ),
        Mutant(
            "redis.pcall('PUBLISH'",
            "redis.call('PUBLISH'",
            "who may not publish appends again and again",
            seen_by="test_a_step_that_is_refused_leaves_nothing_twice",
        ),
        Mutant(
            "for entry = 8, #ARGV, 4 do",
            "for entry = 8, 8, 4 do",
            "of several only the first is told",
            seen_by="test_all_kinds_of_events_are_published_in_their_order",
        ),
        Mutant(
            "PUBLISH', ARGV[entry + 2], ARGV[entry + 3])",
            "PUBLISH', ARGV[10], ARGV[11])",
            "the first message is published again and again",
            seen_by="test_several_are_heard_in_their_order",
        ),
        Mutant(
            "if mark == ARGV[1] then",
            "if true then",
            "what is lost during a check is not looked for",
            seen_by="test_what_is_seen_missing_during_a_check_is_not_taken_for_complete_after_it",
        ),
        Mutant(
            "if mark == ARGV[1] then",
            "if string.sub(mark or '', 1, 9) == 'checking:' then",
            "a check ends with the mark of another, which has not seen what was lost before",
            harmless="no relay takes for complete what it has not compared itself since the loss",
        ),
        Mutant(
            "if string.sub(mark, 1, #ARGV[2]) == ARGV[2] then return mark end\n",
            "",
            "of relays that always begin before another has ended, none ever ends",
            seen_by="test_of_several_that_check_at_once_the_first_to_end_says_that_all_is_there",
        ),
        Mutant(
            "if mark ~= '' and string.sub(mark, 1, #ARGV[1]) ~= ARGV[1] then redis.call('SET', KEYS[3], ARGV[4]) end\n",
            "",
            "readers pass over events whose ids a Redis that has come back has given before",
            seen_by="test_who_reads_by_ids_begins_anew_after_a_restart_of_redis_whatever_is_missing",
        ),
    ),
)


GROUP = Part(
    "messaging/redis/group.py",
    ("integration/test_command_stream.py", "integration/test_late_consumer.py", "integration/test_housekeeping.py"),
    (
        Mutant(
            "and fields.pending == 0 then",
            "then",
            "with a consumer goes what it had read",
            seen_by="test_who_is_forgotten_has_nothing_pending",
        ),
    ),
)
