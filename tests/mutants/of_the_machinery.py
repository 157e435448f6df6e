"""Mutants of the machinery that knows no database: bus, groups, retry, relay."""

from __future__ import annotations

from tests.mutants.part import Mutant, Part

BUS = Part(
    "messaging/bus.py",
    (
        "unit/test_bus.py",
        "unit/test_correlation.py",
        "integration/test_inbox.py",
        "integration/test_unit_of_work.py",
        "integration/test_concurrency.py",
    ),
    (
        Mutant(
            "                    uow.commit()\n",
            "                    pass\n",
            "nothing is committed",
            seen_by="test_commits_events_of_policies_with_those_that_caused_them",
        ),
        Mutant(
            "            WORKING_ON.set(request.metadata.correlation_id)\n",
            "",
            "of those who share a transaction all are logged under one id",
            seen_by="test_commands_that_share_a_transaction_are_each_named_and_the_first_for_what_concerns_all",
        ),
        Mutant(
            "if attempts.lost or ",
            "if ",
            "who comes back to back starves the rest",
            seen_by="test_who_has_lost_reserves_what_it_will_write_before_anything_is_read",
        ),
        Mutant(
            " or self._contention.is_fresh(streams):",
            ":",
            "who comes next meets the others, and loses first",
            seen_by="test_so_do_those_who_come_to_the_same_stream_a_moment_later",
        ),
        Mutant(
            "                    if uow.event_log.has(event):\n                        return outcomes\n",
            "                    pass\n",
            "what was committed unheard is done twice",
            seen_by="test_does_not_run_again_when_it_turns_out_that_it_was_committed",
        ),
        Mutant(
            "lambda: self.retry(lambda: self._attempt(attempts)),",
            "lambda: self._attempt(attempts),",
            "whoever loses to another writer fails",
            seen_by="test_runs_the_whole_unit_of_work_again_after",
        ),
        Mutant(
            "outcomes.append(known or self._run",
            "outcomes.append(self._run",
            "a message that comes again runs again",
            seen_by="test_a_message_id_makes_a_command_take_effect_once",
        ),
        Mutant(
            "if not attempts.strangers:",
            "if True:",
            "who sends a message again delays all who come with it",
            seen_by="test_whose_message_id_is_in_its_way_does_not_delay_those_who_came_with_it",
        ),
        Mutant(
            "tell(lambda: self.observer.happened(log))",
            "self.observer.happened(log)",
            "what is committed is called a failure, since its count could not be kept",
            seen_by="test_an_observer_that_fails_is_nobodys_concern",
        ),
        Mutant(
            "if list(uow.collect_new_events()):",
            "if False:",
            "a refusal after a change goes unnoticed",
            seen_by="test_refusing_after_a_change_is_a_fault_in_the_program",
        ),
        Mutant(
            "outcome = Outcome(refusal=refusal)",
            "raise",
            "a refusal is not remembered, and takes those with it that share the transaction",
            seen_by="test_a_refusal_is_remembered_too",
        ),
        Mutant(
            "uow.inbox.remember(request.message_id, request.fingerprint, outcome)",
            "pass",
            "no inbox mark: each delivery of a message has an effect",
            seen_by="test_a_message_id_makes_a_command_take_effect_once",
        ),
        Mutant(
            "if fingerprint != request.fingerprint:",
            "if False:",
            "another body gets the first one's answer",
            seen_by="test_a_message_id_with_another_body_is_refused",
        ),
        Mutant(
            "if value != default}",
            "}",
            "a field that a release adds makes old messages look new",
            seen_by="test_a_field_that_a_later_release_adds_does_not_make_old_messages_look_new",
        ),
        Mutant(
            "{sorted(body.items())}",
            "",
            "two bodies of one kind look the same",
            seen_by="test_a_field_that_a_later_release_adds_does_not_make_old_messages_look_new",
        ),
        Mutant(
            "uow.event_log.append(happened, effects)",
            "pass",
            "no event in the log",
            seen_by="test_commits_events_of_policies_with_those_that_caused_them",
        ),
        Mutant(
            "uow.outbox.post(happened, effect)",
            "pass",
            "no outbox row: nobody is told",
            seen_by="test_posts_a_row_for_each_effect",
        ),
        Mutant(
            "policy(happened.event, uow)",
            "pass",
            "what must be true together is not",
            seen_by="test_commits_events_of_policies_with_those_that_caused_them",
        ),
        Mutant(
            "queue.extend(self._new_events(uow, happened.metadata))",
            "list(self._new_events(uow, happened.metadata))",
            "what a policy did is neither in the log nor told",
            seen_by="test_commits_events_of_policies_with_those_that_caused_them",
        ),
        Mutant(
            "queue.extend(self._new_events(uow, happened.metadata))",
            "queue.extend(self._new_events(uow, cause))",
            "a consequence names the wrong cause",
            seen_by="test_all_that_follows_shares_the_correlation_id_and_names_its_cause",
        ),
        Mutant(
            "happened = queue.popleft()",
            "happened = queue.pop()",
            "events are followed up out of their order",
            seen_by="test_the_version_is_the_number_of_events",
        ),
        Mutant(
            "if stream else self.handle_together",
            "if False else self.handle_together",
            "those who wait for one product do not run together",
            seen_by="test_commands_that_wait_for_the_same_product_in_one_process_share_a_transaction",
        ),
    ),
)

GROUPING = Part(
    "messaging/grouping.py",
    ("unit/test_grouping.py",),
    (
        Mutant(
            "range(min(len(queue), self._most))",
            "range(len(queue))",
            "a group of any size",
            seen_by="test_no_more_run_together_than_is_allowed",
        ),
        Mutant(
            "self._serve([waiter])",
            "waiter.fail(error)",
            "the fault of one is everyone's",
            seen_by="test_a_fault_of_one_is_not_the_others_fault",
        ),
        Mutant(
            "isinstance(error, Unavailable) or not isinstance(error, Exception)",
            "not isinstance(error, Exception)",
            "in an outage each waits for its own time-out, one after another",
            seen_by="test_when_the_surroundings_fail_all_are_told_at_once",
        ),
        Mutant(
            "queue.append(waiter)",
            "queue.insert(min(len(queue), 1), waiter)",
            "who comes last is served first",
            seen_by="test_those_who_wait_run_together_in_the_order_in_which_they_came",
        ),
        Mutant(
            "            if len(group) == 1 or",
            "            if",
            "a single command that fails runs for ever",
            seen_by="test_a_fault_of_one_is_not_the_others_fault",
        ),
    ),
)

RETRY = Part(
    "messaging/retry.py",
    ("unit/test_bus.py", "integration/test_inbox.py", "integration/test_concurrency.py"),
    (
        Mutant(
            "            attempt.last_conflict = now\n",
            "",
            "after a second of conflicts nobody asks what became of a commit",
            seen_by="test_an_outage_after_conflicts_has_the_time_of_an_outage",
        ),
        Mutant(
            "(ConcurrencyConflict, Disconnected, OutcomeUnknown, StillRunning)",
            "(Disconnected, OutcomeUnknown, StillRunning)",
            "no retry",
            seen_by="test_runs_the_whole_unit_of_work_again_after",
        ),
        Mutant(
            "(ConcurrencyConflict, Disconnected, OutcomeUnknown, StillRunning)",
            "(ConcurrencyConflict, OutcomeUnknown, StillRunning)",
            "a connection that broke fails a command that could run again",
            seen_by="test_runs_the_whole_unit_of_work_again_after",
        ),
        Mutant(
            "(ConcurrencyConflict, Disconnected, OutcomeUnknown, StillRunning)",
            "(ConcurrencyConflict, Disconnected, OutcomeUnknown)",
            "who sends a message while it is at work is not answered",
            seen_by="test_runs_the_whole_unit_of_work_again_after",
        ),
        Mutant(
            "(ConcurrencyConflict, Disconnected, OutcomeUnknown, StillRunning)",
            "(ConcurrencyConflict, Disconnected, StillRunning)",
            "the log is not asked what became of a commit",
            seen_by="test_runs_again_when_it_turns_out_that_it_was_not_committed",
        ),
    ),
)

RELAY = Part(
    "messaging/relay.py",
    ("unit/test_relay.py", "integration/test_outbox_relay.py"),
    (
        Mutant(
            "            errands.run(claims)\n",
            "            for claim in claims:\n"
            "                claim.delivered = [one.version for one in claim.letters]\n"
            "            self.deliveries.settle(effect, claims)\n"
            "            for claim in claims:\n                claim.delivered = []\n"
            "            errands.run(claims)\n",
            "marked before it is told: a relay that dies between loses an event",
            seen_by="test_what_fails_holds_back_its_stream_and_no_other",
        ),
        Mutant(
            "            self.deliveries.settle(effect, claims)",
            "            pass",
            "told again and again",
            seen_by="test_delivers_in_the_order_of_the_stream",
        ),
        Mutant(
            "time_is_up=lambda: self.clock() > enough",
            "time_is_up=lambda: False",
            "goes on until its claim runs out",
            seen_by="test_stops_delivering_before_its_claim_runs_out",
        ),
        Mutant(
            '            except Exception:\n                log.exception("the relay failed',
            '            except Unavailable:\n                log.exception("the relay failed',
            "a relay ends at its first fault",
            seen_by="test_a_fault_does_not_stop_the_relay",
        ),
        Mutant(
            "                    claim.lost = True",
            "                    pass",
            "a relay does not know that it was replaced",
            seen_by="test_stops_when_a_claim_could_not_be_kept_up",
        ),
        Mutant(
            "                if claim.stream not in still_ours:\n                    claim.lost = True",
            "                claim.lost = claim.stream not in still_ours",
            "what Redis knows to be another's counts as ours again, as the database does not know it",
            seen_by="test_what_was_found_lost_stays_lost",
        ),
        Mutant(
            "still_ours = self.deliveries.extend(effect, claims)",
            "still_ours = [claim.stream for claim in claims]",
            "no claim is kept up: an effect that takes long is carried out twice",
            seen_by="test_stops_when_a_claim_could_not_be_kept_up",
        ),
        Mutant(
            "_held[get_ident()] = effect, claims",
            "_held[0] = effect, claims",
            "threads forget each other's claims",
            seen_by="test_delivers_in_the_order_of_the_stream",
        ),
        Mutant(
            "for _ in range(self.side_by_side if self.routes.may_be_slow(name) else 1)",
            "for _ in range(1)",
            "a mail that is slow for one product delays all mails",
            seen_by="test_an_effect_that_is_slow_for_one_stream_delays_no_other",
        ),
        Mutant(
            "1 if one_by_one else self.streams_at_once",
            "self.streams_at_once",
            "one thread holds the streams that another could serve",
            seen_by="test_an_effect_that_is_slow_for_one_stream_delays_no_other",
        ),
        Mutant(
            "target=self._run, args=(name, stop), name=name",
            "target=self._run, args=(names[0], stop)",
            "one effect only",
            seen_by="test_a_slow_effect_delays_no_other",
        ),
        Mutant(
            "            if self._outage(effect).is_on:\n",
            "            if False:\n",
            "in an outage each relay asks the database and Redis a hundred times a second",
            seen_by="test_an_effect_that_is_away_is_left_alone_for_a_while_then_tried_with_one_stream_until_it_is_back",
        ),
        Mutant(
            "self.routes.may_be_slow(effect) or outage.is_on",
            "self.routes.may_be_slow(effect)",
            "in an outage a hundred streams are claimed and let go for each try",
            seen_by="test_an_effect_that_is_away_is_left_alone_for_a_while_then_tried_with_one_stream_until_it_is_back",
        ),
        Mutant(
            "            elif not busy:\n                stop.wait(pause)",
            "            else:\n                stop.wait(pause)",
            "rests at work",
            seen_by="test_rests_longer_and_longer_while_there_is_nothing_to_do",
        ),
        Mutant(
            "min(pause * self.growth, self.longest_pause)",
            "pause",
            "asks the database a hundred times a second for nothing",
            seen_by="test_rests_longer_and_longer_while_there_is_nothing_to_do",
        ),
    ),
)

ERRANDS = Part(
    "messaging/errands.py",
    (
        "unit/test_errands.py",
        "unit/test_relay.py",
        "integration/test_outbox_relay.py",
        "integration/test_event_stream.py",
    ),
    (
        Mutant(
            "return claim.is_over or self._all_are_left or self.time_is_up()",
            "return claim.is_over or self._all_are_left",
            "goes on until its claim runs out",
            seen_by="test_when_time_is_up_nothing_more_is_gathered_and_what_was_gathered_is_told",
        ),
        Mutant(
            "if not (errand.claim.is_over or self._all_are_left)]",
            "if not self._all_are_left]",
            "one effect overtakes another that failed; what was gathered is told though the claim is lost",
            seen_by="test_no_effect_overtakes_another_of_the_same_stream_that_failed",
        ),
        Mutant(
            "can't be read, other streams must go on\n                self._carry_out_gathered()\n",
            "can't be read, other streams must go on\n",
            "what fails before a letter that can't be read is struck off with it",
            seen_by="test_a_letter_that_can_not_be_read_is_not_blamed_for_those_before_it",
        ),
        Mutant(
            "if not self._must_wait(claim):",
            "if True:",
            "a letter is given up before those that come before it",
            seen_by="test_a_letter_that_can_not_be_read_is_not_blamed_for_those_before_it",
        ),
        Mutant(
            "            after = letter.version\n",
            "",
            "Redis is told the wrong predecessor",
            seen_by="test_each_delivery_says_what_came_before_and_by_which_claim",
        ),
        Mutant(
            "Delivery(recorded, after, claim.token)",
            "Delivery(recorded, after, 0)",
            "no fence: nobody is late",
            seen_by="test_each_delivery_says_what_came_before_and_by_which_claim",
        ),
        Mutant(
            "if len(self._gathered) >= effect.at_once:",
            "if False:",
            "no bound: all that was claimed goes in one call, and is told though the time is up",
            seen_by="test_no_more_at_once_than_the_effect_takes",
        ),
        Mutant(
            "            self._gather(claim)\n        self._carry_out_gathered()\n",
            "            self._gather(claim)\n",
            "the last ones wait for ever",
            seen_by="test_streams_are_told_together_each_in_its_order",
        ),
        Mutant(
            "gathered, self._gathered = self._gathered, []",
            "gathered = self._gathered",
            "told twice",
            seen_by="test_no_more_at_once_than_the_effect_takes",
        ),
        Mutant(
            "key=lambda errand: id(errand.effect)",
            "key=lambda errand: None",
            "one effect is given what is another's",
            seen_by="test_events_of_one_stream_keep_their_order_though_different_effects_tell_them",
        ),
        Mutant(
            "        except Exception as error:  # noqa: BLE001 - whatever an effect",
            "        except Unavailable as error:  # noqa: BLE001 - whatever an effect",
            "a fault of one stream holds up all",
            seen_by="test_the_fault_of_one_event_is_its_own_and_what_came_before_it_is_told",
        ),
        Mutant(
            "            if failure is None:",
            "            if True:",
            "what was refused counts as told",
            seen_by="test_a_stream_that_fails_holds_back_no_other",
        ),
        Mutant(
            "len(errands) == 1 or isinstance(failure, (ClaimLost, Unavailable))",
            "True",
            "an event that can't be told holds up all that are told with it, and another is given up for it",
            seen_by="test_the_fault_of_one_event_is_its_own_and_what_came_before_it_is_told",
        ),
        Mutant(
            "(ClaimLost, Unavailable)):",
            "ClaimLost):",
            "in an outage each event is tried alone",
            seen_by="test_later_letters_wait_behind_one_that_failed",
        ),
        Mutant(
            "return claim.is_over or self._all_are_left or self.time_is_up()",
            "return self._all_are_left or self.time_is_up()",
            "later events overtake the one that failed",
            seen_by="test_the_fault_of_one_event_is_its_own_and_what_came_before_it_is_told",
        ),
        Mutant(
            "            if self._must_wait(errand.claim):\n                return\n",
            "",
            "one by one, later events overtake the one that failed",
            seen_by="test_the_fault_of_one_event_is_its_own_and_what_came_before_it_is_told",
        ),
        Mutant(
            "of_claim[0].letter, failure)",
            "of_claim[-1].letter, failure)",
            "the wrong letter waits to be tried again",
            seen_by="test_a_stream_that_fails_holds_back_no_other",
        ),
        Mutant(
            "        if isinstance(error, ClaimLost):\n            claim.lost = True\n",
            "        if isinstance(error, ClaimLost):\n",
            "tells on after another relay has told",
            seen_by="test_a_stream_that_another_relay_has_is_left_to_it_and_the_others_go_on",
        ),
        Mutant(
            "        if isinstance(error, ClaimLost):",
            "        if False:",
            "late is a fault",
            seen_by="test_whoever_comes_late_leaves_the_rest_to_the_one_who_has_taken_over",
        ),
        Mutant(
            "if isinstance(error, MessagingError) and not isinstance(error, Unavailable):",
            "if False:",
            "what can't be read is tried ten times",
            seen_by="test_what_no_effect_is_known_for_is_dead_at_once",
        ),
        Mutant(
            "is_fault = not isinstance(error, Unavailable)",
            "is_fault = True",
            "an outage gives effects up",
            seen_by="test_is_told_again_once_the_surroundings_are_back",
        ),
        Mutant(
            "if isinstance(error, UnknownMessage):",
            "if False:",
            "an event of a newer release is given up by an older relay",
            seen_by="test_an_event_of_a_newer_release_waits_until_a_relay_knows_it",
        ),
        Mutant(
            "given_up = is_fault and letter.faults + 1 >= self.most_faults",
            "given_up = False",
            "never given up",
            seen_by="test_what_keeps_failing_for_its_own_sake_is_dead_after_some_attempts_and_later_ones_wait",
        ),
        Mutant(
            "letter.faults + 1 >= self.most_faults",
            "letter.attempts + 1 >= self.most_faults",
            "outages count",
            seen_by="test_waits_longer_after_each_failure_but_not_for_ever",
        ),
    ),
)

OUTAGE_IN_ERRANDS = Part(
    "messaging/errands.py",
    ("unit/test_errands.py", "unit/test_relay.py", "integration/test_outbox_relay.py"),
    (
        Mutant(
            "if isinstance(error, Unavailable) and self.outage.meet(failures, error):",
            "if False:",
            "in an outage each of thousands of streams is tried, noted and logged, again and again",
            seen_by="test_an_outage_leaves_all_that_was_to_be_told_and_one_stream_notes_why",
        ),
        Mutant(
            "                errands[0].claim.failure = self.retry_later.after(errands[0].letter, error)\n",
            "",
            "in an outage nobody sees in the outbox why",
            seen_by="test_an_outage_leaves_all_that_was_to_be_told_and_one_stream_notes_why",
        ),
        Mutant(
            "errands[0].claim.failure = self.retry_later.after(errands[0].letter, error)",
            "errands[0].claim.failure = self.retry_later.after(errands[-1].letter, error)",
            "in an outage the wrong letter waits to be tried again",
            seen_by="test_in_an_outage_a_stream_notes_why_with_its_first_letter",
        ),
        Mutant(
            "                self._all_are_left = True\n",
            "",
            "one stream after another waits for a time-out of its own",
            seen_by="test_in_an_outage_nothing_more_is_tried",
        ),
        Mutant(
            "if not (errand.claim.is_over or self._all_are_left)]",
            "if not errand.claim.is_over]",
            "in an outage other effects of the same name each wait for a time-out of their own",
            seen_by="test_in_an_outage_no_other_effect_of_the_same_name_is_tried",
        ),
        Mutant(
            "            self.outage.end()\n",
            "            pass\n",
            "after an outage streams are told one by one for ever",
            seen_by="test_an_outage_is_said_once_and_that_it_is_over_too",
        ),
    ),
)

OUTAGE = Part(
    "messaging/outage.py",
    ("unit/test_errands.py", "unit/test_relay.py"),
    (
        Mutant(
            "return len(self._met_by) > 1",
            "return len(self._met_by) > 0",
            "an address that takes no mail today holds back all mails",
            seen_by="test_one_stream_alone_fails_for_itself_and_the_others_go_on",
        ),
        Mutant(
            "        if self.is_on:\n            return True\n",
            "",
            "says in an outage many times a second that there is one",
            seen_by="test_an_outage_is_said_once_and_that_it_is_over_too",
        ),
        Mutant(
            "        self._met_by.clear()\n",
            "        pass\n",
            "two that fail for themselves, hours apart, count as an outage",
            seen_by="test_what_is_told_between_two_that_fail_shows_that_it_is_no_outage",
        ),
        Mutant(
            "random.uniform(self.longest_rest / 2, self.longest_rest)",
            "self.longest_rest",
            "all relays try at the same moment",
            seen_by="test_an_effect_that_is_away_is_left_alone_for_a_while_then_tried_with_one_stream_until_it_is_back",
        ),
    ),
)

EFFECTS = Part(
    "messaging/effects.py",
    ("unit/test_relay.py", "unit/test_errands.py"),
    (
        Mutant(
            "            self.effect(delivery)\n",
            "            pass\n",
            "counts as carried out, and is not",
            seen_by="test_delivers_in_the_order_of_the_stream",
        ),
        Mutant(
            "at_once: ClassVar[int] = 1",
            "at_once: ClassVar[int] = 2",
            "a mail that was sent is sent again when the next one fails",
            seen_by="test_what_fails_holds_back_its_stream_and_no_other",
        ),
    ),
)

ROUTES = Part(
    "messaging/routes.py",
    ("unit/test_bus.py", "unit/test_relay.py", "unit/test_routing.py"),
    (
        Mutant(
            "if kind in self._commands:",
            "if False:",
            "the last of two handlers wins in silence",
            seen_by="test_a_command_has_one_handler",
        ),
        Mutant(
            "if effect.name in self._effects[kind]:",
            "if False:",
            "the last of two effects wins in silence",
            seen_by="test_an_effect_has_a_name_of_its_own",
        ),
        Mutant(
            "(*self._policies.get(kind, ()), *policies)",
            "policies",
            "policies that were named before are forgotten",
            seen_by="test_all_policies_are_followed_whenever_they_were_named",
        ),
        Mutant(
            "effect if isinstance(effect, EffectOnMany) else OneByOne(effect)",
            "effect",
            "an effect for one event at a time is never carried out",
            seen_by="test_delivers_in_the_order_of_the_stream",
        ),
    ),
)
