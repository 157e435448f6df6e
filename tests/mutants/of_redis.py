"""Mutants of what speaks to Redis: events out, their refill, commands in."""

from __future__ import annotations

from tests.mutants.part import Mutant, Part

EVENT_STREAM = Part(
    "messaging/redis/event_stream.py",
    ("integration/test_event_stream.py", "integration/test_redis_eventpublisher.py"),
    (
        Mutant(
            "if tonumber(ARGV[2]) < tonumber(token) then return 'late' end",
            "",
            "no fence: a relay that was replaced tells late",
            seen_by="test_a_relay_that_was_replaced_can_not_tell_late",
        ),
        Mutant(
            "if tonumber(ARGV[2]) < tonumber(token)",
            "if tonumber(ARGV[2]) <= tonumber(token)",
            "one claim can tell of one event only",
            seen_by="test_all_kinds_of_events_are_told_in_their_order",
        ),
        Mutant(
            "if tonumber(ARGV[3]) > tonumber(version) then",
            "if false then",
            "no gap is seen",
            seen_by="test_what_is_new_waits_until_the_lost_is_back",
        ),
        Mutant(
            "if tonumber(ARGV[3]) > tonumber(version) then",
            "if tonumber(ARGV[3]) >= tonumber(version) then",
            "everything is a gap",
            seen_by="test_all_kinds_of_events_are_told_in_their_order",
        ),
        Mutant(
            "    redis.call('HDEL', hash, '')\n",
            "",
            "a gap is seen, and nobody fills it",
            seen_by="test_a_gap_is_seen_though_redis_is_the_same",
        ),
        Mutant(
            "    redis.call('DEL', hash)\n",
            "",
            "what is new comes before what was lost",
            seen_by="test_what_is_new_waits_until_the_lost_is_back",
        ),
        Mutant(
            "    redis.call('XDEL', stream, redis.call('XADD', stream, '*', 'event', ''))\n",
            "",
            "checked for ever",
            seen_by="test_a_redis_that_is_given_nothing_but_old_news_is_complete",
        ),
        Mutant(
            "ARGV[2] .. ':' .. ARGV[4])",
            "token .. ':' .. ARGV[4])",
            "the highest token is not remembered",
            seen_by="test_a_relay_that_was_replaced_can_not_tell_late",
        ),
        Mutant(
            "ARGV[2] .. ':' .. ARGV[4])",
            "ARGV[2] .. ':' .. version)",
            "the last version is not remembered",
            seen_by="test_a_gap_is_seen_though_redis_is_the_same",
        ),
        Mutant("'MINID', '~', oldest, ", "", "the stream grows for ever", seen_by="test_what_is_too_old_is_trimmed"),
        Mutant(
            '    if answer == b"late":\n        return ClaimLost(',
            '    if answer == b"late":\n        return None\n        return ClaimLost(',
            "a relay that is late believes that it has told",
            seen_by="test_a_relay_that_was_replaced_can_not_tell_late",
        ),
        Mutant(
            'return Unavailable(f"redis has lost',
            'return None and Unavailable(f"redis has lost',
            "what was refused counts as told",
            seen_by="test_what_is_new_waits_until_the_lost_is_back",
        ),
        Mutant(
            "if not self._client.exists(self._keys[0]):",
            "if False:",
            "a lost stream is not filled again",
            seen_by="test_what_redis_has_lost_is_told_again_from_the_log",
        ),
        Mutant(
            "bool(there) and ",
            "",
            "a stream that was lost counts as complete",
            seen_by="test_what_redis_has_lost_is_told_again_from_the_log",
        ),
        Mutant(
            'self._client.hget(self._told, "") == home.encode()',
            "True",
            "nobody looks what is missing",
            seen_by="test_a_lost_tail_is_told_again",
        ),
        Mutant(
            'hget(self._told, "") == home.encode()',
            'hget(self._told, "") is not None',
            "another Redis is not noticed",
            seen_by="test_a_lost_tail_is_told_again",
        ),
        Mutant(
            '    return Unavailable(f"redis: {answer}")',
            "    return None",
            "what Redis could not do counts as told",
            seen_by="test_what_redis_can_not_do_is_tried_again",
        ),
        Mutant(
            "execute(raise_on_error=False)",
            "execute()",
            "what Redis refuses of one SKU holds up those that were told with it",
            seen_by="test_what_redis_refuses_of_one_sku_holds_back_no_other",
        ),
        Mutant(
            "                raise answers[0]\n",
            "                pass\n",
            "while Redis is full, each of thousands of streams is tried, noted and logged, again and again",
            seen_by="test_what_redis_can_not_do_is_tried_again",
        ),
        Mutant(
            "for entry = 6, #ARGV, 3 do",
            "for entry = 6, 6, 3 do",
            "of several only the first is told",
            seen_by="test_all_kinds_of_events_are_told_in_their_order",
        ),
        Mutant(
            "PUBLISH', ARGV[entry + 1], ARGV[entry + 2])",
            "PUBLISH', ARGV[7], ARGV[8])",
            "the first message is published again and again",
            seen_by="test_several_are_heard_in_their_order",
        ),
        Mutant(
            "return {subject: refusal for subject, refusal in refusals if refusal}",
            "return {subject: refusal for subject, refusal in refusals if refusal} and {}",
            "what was refused counts as told",
            seen_by="test_what_is_new_waits_until_the_lost_is_back",
        ),
        Mutant(
            "            raise refusal\n",
            "            pass\n",
            "a refill that was refused believes that it has told",
            seen_by="test_what_is_seen_missing_during_a_check_is_not_taken_for_complete_after_it",
        ),
        Mutant(
            "if redis.call('HGET', KEYS[2], '') == ARGV[1] then",
            "if true then",
            "what is lost during a check is not looked for",
            seen_by="test_what_is_seen_missing_during_a_check_is_not_taken_for_complete_after_it",
        ),
        Mutant(
            "if redis.call('HGET', KEYS[2], '') == ARGV[1] then",
            "if string.sub(redis.call('HGET', KEYS[2], '') or '', 1, 9) == 'checking:' then",
            "a check ends with the mark of another, which has not seen what was lost before",
            seen_by="test_a_check_does_not_end_with_the_mark_of_another_that_began_after_a_loss",
        ),
        Mutant(
            "if mark and string.sub(mark, 1, 9) == 'checking:' then return mark end\n",
            "",
            "of relays that always begin before another has ended, none ever ends",
            seen_by="test_of_several_that_check_at_once_the_first_to_end_says_that_all_is_there",
        ),
        Mutant(
            """return f"{server.get('run_id')}:{replication.get('master_replid')}\"""",
            'return "home"',
            "a Redis that comes back with an older dump is believed that it is complete",
            seen_by="test_a_redis_that_comes_back_with_an_older_dump_is_told_what_it_lacks",
        ),
        Mutant(
            "            pipeline.script_load(_TELL)",
            '            pipeline.echo("")',
            "a Redis that was begun anew is never told anything",
            seen_by="test_news_of_many_are_told_in_one_round_trip_though_redis_has_forgotten_the_script",
        ),
    ),
)

REFILL = Part(
    "messaging/redis/refill.py",
    ("integration/test_event_stream.py",),
    (
        Mutant(
            "mark = self.stream.begin_check()",
            'mark = b""',
            "no check ever ends",
            seen_by="test_what_redis_has_lost_is_told_again_from_the_log",
        ),
        Mutant(
            "complete and len(claims) == len(behind)",
            "complete",
            "streams that were claimed stay incomplete",
            seen_by="test_what_another_has_claimed_is_looked_at_again",
        ),
        Mutant(
            "                    complete = False",
            "                    pass",
            "a relay was faster, and nobody looks again",
            seen_by="test_what_another_has_taken_over_meanwhile_is_looked_at_again",
        ),
        Mutant(
            "self.deliveries.settle(self.effect, claims)",
            "pass",
            "refilled streams are held until the claim runs out",
            seen_by="test_long_histories_of_many_products_come_back_whole",
        ),
        Mutant(
            "if here[stream] < last}",
            "}",
            "streams that lack nothing are claimed",
            harmless="A little work for nothing: there is nothing between what is there and what was told.",
        ),
        Mutant(
            "here[claim.stream], claim.after)",
            "0, claim.after)",
            "all is told again, not what is missing",
            seen_by="test_a_lost_tail_is_told_again",
        ),
        Mutant(
            "self.stream.tell_all([*batch, *caught_up])",
            "self.stream.tell_all(batch)",
            "old news is a gap for ever",
            seen_by="test_a_redis_that_is_given_nothing_but_old_news_is_complete",
        ),
        Mutant(
            "self.stream.tell_all([*batch, *caught_up])",
            "self.stream.tell_all(caught_up)",
            "counts as told, and is not",
            seen_by="test_what_redis_has_lost_is_told_again_from_the_log",
        ),
        Mutant(
            "while not stop.is_set() and (\n",
            "while (\n",
            "a relay that is told to end compares all streams first, and is killed",
            seen_by="test_a_long_refill_stops_between_batches_when_it_is_told_to_and_the_next_one_goes_on",
        ),
        Mutant(
            "                if stop.is_set():\n                    return events\n",
            "",
            "a relay that is told to end tells all of a long history first, and is killed",
            seen_by="test_a_long_refill_stops_between_batches_when_it_is_told_to_and_the_next_one_goes_on",
        ),
        Mutant(
            "self.refill(stop)",
            "self.refill()",
            "a relay that is told to end tells again all that is missing first, and is killed",
            seen_by="test_a_long_refill_stops_between_batches_when_it_is_told_to_and_the_next_one_goes_on",
        ),
        Mutant(
            "if complete and not stop.is_set():",
            "if complete:",
            "a refill that was told to stop counts as complete",
            seen_by="test_a_long_refill_stops_between_batches_when_it_is_told_to_and_the_next_one_goes_on",
        ),
        Mutant(
            "after = dict(here)",
            "after = dict.fromkeys(here, 0)",
            "what Redis loses between comparing and telling is lost for good",
            seen_by="test_what_is_lost_between_comparing_and_telling_is_told_in_the_next_round",
        ),
        Mutant(
            "            after[stream] = version\n",
            "",
            "one that was refused in the middle of a refill is passed over",
            seen_by="test_what_is_told_again_follows_on_what_was_told_before_it",
        ),
        Mutant(
            "                batch.clear()\n",
            "",
            "told twice and more",
            seen_by="test_long_histories_of_many_products_come_back_whole",
        ),
        Mutant(
            '                    log.error("the log holds what',
            '                    return log.error("the log holds what',
            "what can't be read holds up the rest",
            seen_by="test_what_can_not_be_read_does_not_hold_up_the_rest",
        ),
        Mutant(
            "            if stream not in beyond_us:\n",
            "            if True:\n",
            "what follows on an event of a newer release is told without it",
            seen_by="test_what_only_a_newer_release_can_tell_again_is_left_to_it",
        ),
        Mutant(
            " if claim.stream not in beyond_us]",
            "]",
            "an event of a newer release is passed over, and never told again",
            seen_by="test_what_only_a_newer_release_can_tell_again_is_left_to_it",
        ),
        Mutant(
            "            beyond = max(last_versions)\n",
            "            break\n",
            "some streams are looked at, others never",
            seen_by="test_long_histories_of_many_products_come_back_whole",
        ),
        Mutant(
            "                self.deliveries.extend(self.effect, claims)\n",
            "",
            "a relay takes over a stream that is being filled",
            harmless="The token then refuses the refill, which begins again: it costs time, not order.",
        ),
    ),
)

PUBLISHER = Part(
    "allocation/adapters/redis_eventpublisher.py",
    ("integration/test_redis_eventpublisher.py", "integration/test_event_stream.py", "integration/test_restore.py"),
    (
        Mutant(
            "token=first.token",
            "token=2**62",
            "nobody is ever late",
            seen_by="test_a_relay_that_was_replaced_can_not_tell_late",
        ),
        Mutant(
            "after=first.after", "after=0", "no gap is seen", seen_by="test_what_is_new_waits_until_the_lost_is_back"
        ),
        Mutant(
            "version=last.recorded.version",
            "version=0",
            "what was told is not remembered",
            seen_by="test_what_redis_has_lost_is_told_again_from_the_log",
        ),
        Mutant(
            "version=last.recorded.version",
            "version=first.recorded.version",
            "of several only the first is remembered, and the next is a gap",
            seen_by="test_a_lost_tail_is_told_again",
        ),
        Mutant(
            "token=first.token,\n            after=first.after",
            "token=first.token,\n            after=last.after",
            "what follows is a gap that is none, and what is lost is not seen",
            seen_by="test_all_kinds_of_events_are_told_in_their_order",
        ),
        Mutant(
            "for delivery in deliveries],",
            "for delivery in deliveries[:1]],",
            "of several only the first is told",
            seen_by="test_all_kinds_of_events_are_told_in_their_order",
        ),
    ),
)

CLIENT = Part(
    "messaging/redis/client.py",
    ("unit/test_redis_client.py", "integration/test_bootstrap.py"),
    (
        Mutant(
            "of_a_sentinel | _NO_RETRY)",
            "of_a_sentinel)",
            "sentinels that are away hold a relay up for ten seconds a time",
            seen_by="test_sentinels_that_are_away_are_each_asked_once",
        ),
        Mutant(
            "_client(url, _LIMITS | _PROBING, of_a_sentinel=_PROBING)",
            "_client(url, _LIMITS, of_a_sentinel=_PROBING)",
            "a probe waits for five seconds for a Redis that is silent",
            seen_by="test_is_degraded_and_says_so_within_a_second_when_redis_takes_connections_and_never_answers",
        ),
    ),
)

GROUP = Part(
    "messaging/redis/group.py",
    ("integration/test_command_stream.py", "integration/test_late_consumer.py", "integration/test_housekeeping.py"),
    (
        Mutant(
            'id="0", mkstream=True',
            'id="$", mkstream=True',
            "what was sent before the first start is lost",
            seen_by="test_all_three_commands_are_accepted_and_told_of_as_caused_by_their_message",
        ),
        Mutant(
            "self._client.xclaim(self.stream, self._group, self._consumer, 0, ids, justid=True)",
            "pass",
            "what a consumer that died had read is never handled",
            seen_by="test_what_was_read_but_not_handled_comes_first",
        ),
        Mutant(", ids, justid=True)", ", ids)", "a takeover counts as a try", seen_by="test_taking_over_is_no_try"),
        Mutant(
            "and fields.pending == 0 then",
            "then",
            "with a consumer goes what it had read",
            seen_by="test_who_is_forgotten_has_nothing_pending",
        ),
        Mutant(
            'return any(holder["name"] != self._consumer.encode() for holder in holders)',
            "return False",
            "what a replaced consumer reads before it knows is never handled",
            seen_by="test_what_a_replaced_consumer_has_read_takes_effect_in_its_order",
        ),
        Mutant(
            "oldest.append(_id(pending))",
            "pass",
            "deletes what was read and not handled",
            seen_by="test_handled_messages_go_after_a_while_and_no_others",
        ),
        Mutant(
            'oldest.append(_id(group["last-delivered-id"]))',
            "pass",
            "deletes what nobody has read",
            seen_by="test_handled_messages_go_after_a_while_and_no_others",
        ),
        Mutant(
            "                    self._make_group()\n                raise",
            "                    raise",
            "stuck when Redis forgets",
            harmless="Whoever begins again takes over first, and that makes the group too.",
        ),
        Mutant(
            'entries = self._read("0", 1, None)',
            "entries = []",
            "what was read and not handled is left behind",
            seen_by="test_what_was_read_but_not_handled_comes_first",
        ),
        Mutant(
            'int(counted[0]["times_delivered"]) if counted else 1',
            "1",
            "what ends every consumer does so for ever",
            seen_by="test_what_ends_every_consumer_is_a_dead_letter_after_some_tries",
        ),
    ),
)

COMMANDS = Part(
    "allocation/entrypoints/redis_commands.py",
    ("integration/test_command_stream.py", "integration/test_succession.py"),
    (
        Mutant(
            "outcome := service.command_bus.recall(request)",
            "outcome := None",
            "what took effect is a dead letter, and has a second effect when it is retried",
            seen_by="test_what_was_handled_but_never_acknowledged_keeps_its_first_outcome_however_often_it_was_read",
        ),
        Mutant(
            "            outcome.unwrap()",
            "            pass",
            "a refusal that was not acknowledged is forgotten",
            seen_by="test_what_was_handled_but_never_acknowledged_keeps_its_first_outcome_however_often_it_was_read",
        ),
        Mutant(
            "        elif not service.command_bus.is_ours():",
            "        elif False:",
            "who is idle has no lock any more, and nobody seems to read",
            seen_by="test_an_idle_consumer_has_its_locks_again_soon_after_its_connections_were_cut",
        ),
        Mutant(
            "    try:\n        outcomes = ",
            "    service.command_group.acknowledge(entries)\n    try:\n        outcomes = ",
            "acknowledged before the commit: a crash between loses messages",
            seen_by="test_what_meets_a_fault_in_the_program_is_tried_some_times_and_kept",
        ),
        Mutant(
            "    try:\n        done = until_possible(",
            "    service.command_group.acknowledge([entry])\n    try:\n        done = until_possible(",
            "acknowledged before the commit: a crash between loses the message",
            seen_by="test_what_meets_a_fault_in_the_program_is_tried_some_times_and_kept",
        ),
        Mutant(
            "    for entry, reason, correlation_id in refused:\n",
            "    service.command_group.acknowledge(entries)\n    for entry, reason, correlation_id in refused:\n",
            "acknowledged before the dead letter is kept: a crash between loses it",
            seen_by="test_a_dead_letter_that_could_not_be_kept_is_not_forgotten",
        ),
        Mutant(
            "    service.command_group.acknowledge(entries)\n",
            "",
            "handled again and again",
            seen_by="test_all_three_commands_are_accepted_and_told_of_as_caused_by_their_message",
        ),
        Mutant(
            "        if entry.tries <= MOST_TRIES:",
            "        if True:",
            "what ends every consumer does so for ever",
            seen_by="test_what_ends_every_consumer_is_a_dead_letter_after_some_tries",
        ),
        Mutant(
            "        if entry.tries < MOST_TRIES:",
            "        if True:",
            "a fault of the program stops all",
            seen_by="test_what_meets_a_fault_in_the_program_is_tried_some_times_and_kept",
        ),
        Mutant(
            "        if entry.tries < MOST_TRIES:",
            "        if False:",
            "one fault of the program is the end of a message",
            seen_by="test_what_meets_a_fault_in_the_program_is_tried_some_times_and_kept",
        ),
        Mutant(
            "    some_are_pending = True  #",
            "    some_are_pending = False  #",
            "what was read is not handled first",
            seen_by="test_what_was_read_but_not_handled_comes_first",
        ),
        Mutant(
            "some_are_pending = not _handle_together(service, entries)",
            "_handle_together(service, entries)",
            "what failed together is passed over",
            seen_by="test_what_meets_a_fault_in_the_program_is_tried_some_times_and_kept",
        ),
        Mutant(
            "service.command_bus.handle_together(",
            "service.bus.handle_together(",
            "who was replaced can still commit, out of order",
            seen_by="test_who_was_replaced_can_not_let_a_message_take_effect_late",
        ),
        Mutant(
            "service.command_bus.handle(request",
            "service.bus.handle(request",
            "who was replaced can still commit",
            seen_by="test_who_was_replaced_can_not_let_a_message_take_effect_late",
        ),
        Mutant(
            "service.command_bus.handle(request.command, request.metadata, request.message_id)",
            "service.command_bus.handle(request.command, request.metadata)",
            "no inbox mark for what is handled alone",
            seen_by="test_what_was_committed_but_not_acknowledged_is_read_again_and_has_no_second_effect",
        ),
    ),
)

BRIDGE = Part(
    "allocation/entrypoints/redis_eventconsumer.py",
    ("integration/test_bridge.py", "integration/test_redis_eventconsumer.py", "integration/test_succession.py"),
    (
        Mutant(
            "service.pubsub_bus.handle(",
            "service.bus.handle(",
            "a consumer that was replaced can still commit",
            seen_by="test_who_lost_the_bridge_cannot_let_a_late_message_take_effect",
        ),
        Mutant(
            "_bury(service, body, str(error))",
            "pass",
            "a refused message is lost",
        ),
        Mutant(
            "_bury(service, body, repr(error))",
            "pass",
            "a message that met a fault is lost",
        ),
        Mutant(
            '        log.exception("lost: neither handled nor kept", extra=about | {"body": repr(body)})',
            "        raise",
            "a message that can't be kept is nowhere",
            seen_by="test_a_message_that_can_be_neither_handled_nor_kept_is_logged_and_the_next_one_has_its_turn",
        ),
        Mutant(
            "            done = until_possible(partial(_keep, service, body, reason, received), stop)",
            "            done = True",
            "what was heard before another had the bridge disappears",
            seen_by="test_what_was_heard_before_another_took_the_bridge_is_kept_and_what_that_one_hears_is_its_own",
        ),
        Mutant(
            "        if outcome and not outcome.refusal:",
            "        if False:",
            "what took effect is a dead letter too, and has a second effect when it is retried",
            seen_by="test_what_took_effect_is_no_dead_letter_though_the_answer_was_lost_and_another_has_the_bridge",
        ),
        Mutant(
            "taken_anew_only_if(lambda: not channel.has_been_succeeded())",
            "taken_anew_only_if(lambda: True)",
            "who gets the bridge back lets the old take effect after the new",
            seen_by="test_what_was_heard_before_another_took_the_bridge_is_kept_and_what_that_one_hears_is_its_own",
        ),
        Mutant(
            "        if not service.pubsub_bus.is_ours():  # still",
            "        if False:  # still",
            "who lost the bridge while it began to listen does not know who has listened meanwhile",
            seen_by="test_who_loses_the_bridge_while_it_begins_to_listen_does_not_begin",
        ),
        Mutant(
            "            channel.hear_out()",
            "            pass",
            "what was said just before a consumer is told to stop disappears",
            seen_by="test_what_was_said_before_a_consumer_was_told_to_stop_takes_effect",
        ),
        Mutant(
            "elif not channel.has_kept_some and not _is_still_ours(service, stands):",
            "elif False:",
            "who is idle has no lock any more, and nobody seems to listen",
            seen_by="test_an_idle_consumer_has_its_locks_again_soon_after_its_connections_were_cut",
        ),
        Mutant(
            "service.pubsub_bus.handle(request.command, request.metadata, message_id)",
            "service.pubsub_bus.handle(request.command, request.metadata)",
            "a commit whose answer was lost takes effect twice",
            seen_by="test_a_message_takes_effect_once_though_the_answer_to_its_commit_was_lost_for_long",
        ),
    ),
)

LISTENING = Part(
    "messaging/redis/listening.py",
    ("integration/test_listening.py", "integration/test_succession.py"),
    (
        Mutant(
            'return f"{channel}.listener.{number}"',
            'return f"{channel}.listener.0"',
            "two installations that share a Redis take the channel from each other without end",
            seen_by="test_who_listens_for_another_database_of_the_same_redis_succeeds_nobody",
        ),
        Mutant(
            "            raise Succeeded\n",
            "            return None\n",
            "what another hears too is kept as a dead letter",
            seen_by="test_hears_what_is_said_before_another_begins_and_nothing_after",
        ),
        Mutant(
            "self._kept.extend(self._hear_until(word))",
            "list(self._hear_until(word))",
            "what is said while it asks is lost, and who came meanwhile is overlooked",
            seen_by="test_knows_that_nobody_else_has_begun_and_keeps_what_was_said_meanwhile",
        ),
        Mutant(
            "            self._kept.append(_ANOTHER)\n",
            "            pass\n",
            "who can't know believes that nobody came",
            seen_by="test_who_is_not_brought_its_own_word_can_not_know",
        ),
        Mutant(
            'if found["type"] != "message":  # subscribed',
            "if False:  # subscribed",
            "a broken subscription is mended silently, and who came meanwhile is overlooked",
            seen_by="test_whose_subscription_was_broken_and_mended_is_told",
        ),
        Mutant(
            "if hearers == 1 or heard == _ANOTHER)",
            "if True)",
            "what is said while one begins is two consumers' at once",
            seen_by="test_what_is_said_while_one_begins_is_for_who_listened_before_if_there_is_one",
        ),
        Mutant(
            "if hearers == 1 or heard == _ANOTHER)",
            "if heard == _ANOTHER)",
            "what is said while one begins is nobody's",
            seen_by="test_what_is_said_while_redis_confirms_is_heard",
        ),
        Mutant(
            "                self._kept.append(self._meaning(found))",
            "                pass",
            "what is said while Redis confirms is nobody's",
            seen_by="test_what_is_said_while_redis_confirms_is_heard",
        ),
    ),
)

INBOUND = Part(
    "allocation/entrypoints/inbound.py",
    ("unit/test_inbound.py",),
    (
        Mutant(
            "                if in_the_way[-_SO_OFTEN:] == [in_the_way[-1]] * _SO_OFTEN:",
            "                if False:",
            "one command whose place is taken in the data blocks all others for ever",
            seen_by="test_what_stands_in_the_way_and_is_nobodys_doing_is_not_waited_for",
        ),
        Mutant(
            "                if in_the_way[-_SO_OFTEN:] == [in_the_way[-1]] * _SO_OFTEN:",
            "                if len(in_the_way) == _SO_OFTEN:",
            "a message is given up because others are at work",
            seen_by="test_others_at_work_are_waited_for_as_long_as_it_takes",
        ),
        Mutant(
            "                in_the_way.clear()",
            "                pass",
            "a message is given up because of outages",
            seen_by="test_others_at_work_are_waited_for_as_long_as_it_takes",
        ),
        Mutant(
            "except (Unavailable, StillRunning, ConcurrencyConflict) as error:",
            "except (Unavailable, StillRunning) as error:",
            "a message whose dead letter meets a lock is lost",
            seen_by="test_tries_again_after_a_moment_when_others_were_faster",
        ),
        Mutant(
            "                say_at = now + _SAY_AGAIN",
            "                say_at = float('inf')",
            "a lock that stays blocks all without a word",
            seen_by="test_says_once_in_a_while_what_it_waits_for_and_that_it_is_possible_again",
        ),
        Mutant(
            "            if stop.wait(pause):",
            "            if stop.is_set():",
            "the database is asked without a pause",
            seen_by="test_tries_again_while_the_surroundings_fail",
        ),
    ),
)

STANDING = Part(
    "allocation/entrypoints/standing.py",
    (
        "integration/test_succession.py",
        "integration/test_command_stream.py",
        "integration/test_redis_eventconsumer.py",
    ),
    (
        Mutant(
            "                if bus.is_ours():",
            "                if True:",
            "several work at the same time",
            seen_by="test_who_is_not_at_work_reads_nothing",
        ),
        Mutant(
            "        bus.close()",
            "        pass",
            "who has stopped keeps the others from it",
            seen_by="test_who_is_told_to_stop_lets_another_go_on_though_its_process_is_still_there",
        ),
        Mutant(
            '                stands.log.exception(f"the work at {place} failed, and goes on")',
            "                raise",
            "a fault ends the consumer",
            seen_by="test_a_fault_while_taking_over_ends_no_task_of_the_consumer",
        ),
        Mutant(
            "        if words != self._said:",
            "        if True:",
            "four warnings a second while the database is away",
            seen_by="test_an_outage_is_said_once_and_that_it_is_over_too",
        ),
        Mutant(
            "            self._said = words\n",
            "            self._said = self._said or words\n",
            "nobody is told that it is over",
            seen_by="test_an_outage_is_said_once_and_that_it_is_over_too",
        ),
    ),
)

SIDE_BY_SIDE = Part(
    "allocation/entrypoints/tasks.py",
    ("unit/test_tasks.py",),
    (
        Mutant(
            "            stop.set()  #",
            "            pass  #",
            "half a process stays, and nobody starts the other half again",
            seen_by="test_no_process_outlives_a_task_of_it",
        ),
        Mutant(
            "        raise died_of[0]",
            "        pass",
            "nobody is told of what it died",
            seen_by="test_when_one_dies_the_others_are_told_to_stop_and_it_is_said_of_what",
        ),
        Mutant(
            "        raise died_of[0]",
            "        raise died_of[-1]",
            "what followed from a fault is taken for it",
            seen_by="test_what_the_first_died_of_is_what_is_said",
        ),
        Mutant(
            "        thread.join()\n",
            "        pass\n",
            "the process ends while a task is at work",
            seen_by="test_when_one_dies_the_others_are_told_to_stop_and_it_is_said_of_what",
        ),
    ),
)
