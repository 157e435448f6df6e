"""Mutants of what is asked over HTTP: the log in its order, stock, pages, conditions."""

from __future__ import annotations

from tests.mutants.part import Mutant, Part

LOG_READER = Part(
    "messaging/sql/log_reader.py",
    ("integration/test_v1.py", "integration/test_plans.py"),
    (
        Mutant(
            "transaction_id < CAST(CAST(pg_snapshot_xmin(",
            "transaction_id < CAST(CAST(pg_snapshot_xmax(",
            "an event that is committed late is missed",
            seen_by="test_nothing_is_told_before_what_may_still_come_before_it",
        ),
        Mutant(
            "     OR transaction_id >= CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint))",
            ")",
            "a log from another server is not told",
            seen_by="test_a_log_from_another_server_is_told_and_goes_on_once_it_is_renumbered",
        ),
        Mutant(
            "key=lambda place: time_of(place) + SLACK)",
            "key=lambda place: time_of(place))",
            "what a late clock recorded is left out of its time",
            seen_by="test_a_span_of_time_is_told_whichever_way_it_is_asked_for",
        ),
        Mutant(
            "key=lambda place: time_of(place) - SLACK)",
            "key=lambda place: time_of(place))",
            "what an early clock recorded is left out of its time",
            seen_by="test_a_span_of_time_is_told_whichever_way_it_is_asked_for",
        ),
        Mutant(
            "about_it AS MATERIALIZED (SELECT * ",
            "about_it AS NOT MATERIALIZED (SELECT * ",
            "the whole log is read for one order",
            harmless="the planner finds the right index by itself on these tables; with other statistics it may not",
        ),
        Mutant(
            "        if after and after.stream != stream:\n            raise UnknownPosition\n",
            "",
            "a cursor of one SKU leads into the middle of another",
            seen_by="test_a_place_that_is_not_in_the_log_is_said_so",
        ),
        Mutant(
            "first = max(first, after.version + 1 if after else 1)",
            "first = max(first, after.version if after else 1)",
            "an event is on two pages",
            seen_by="test_page_after_page_is_the_same_as_all_at_once",
        ),
        Mutant(
            "max(_order(log, after), (first - 1, _LAST_POSITION))",
            "_order(log, after)",
            "a page of yesterday is looked for from the beginning of the log",
            harmless="slow only: what is out of time is left out of the page all the same",
        ),
    ),
)

BATCHES = Part(
    "allocation/views/batches.py",
    ("integration/test_v1.py", "integration/test_console.py"),
    (
        Mutant('= {sku} AND NOT is_open"', '= {sku} AND NOT is_open AND false"', "what was used up was never there"),
        Mutant(
            "({_PLACE}) > (SELECT",
            "({_PLACE}) >= (SELECT",
            "the last batch of a page is told again",
            seen_by="test_batches_of_a_product_are_listed_in_the_order_in_which_they_are_allocated",
        ),
        Mutant(
            "    ORDER BY {_PLACE} LIMIT :most",
            "    LIMIT :most",
            "batches come in any order",
            seen_by="test_batches_of_a_product_are_listed_in_the_order_in_which_they_are_allocated",
        ),
        Mutant(
            "LIMIT {most}) UNION ALL (",
            "LIMIT 0) UNION ALL (",
            "of many batches those with room are not shown",
            seen_by="test_of_many_batches_the_open_ones_are_shown_first_and_all_are_counted",
        ),
    ),
)

PRODUCTS = Part(
    "allocation/views/products.py",
    ("integration/test_v1.py",),
    (
        Mutant(" AND allocated_quantity < purchased_quantity) AS", ") AS", "promised stock is said to come"),
        Mutant("WHERE eta >= current_date", "WHERE true", "what is overdue is said to come"),
    ),
)

ORDERS = Part(
    "allocation/views/orders.py",
    ("integration/test_v1.py", "integration/test_views.py"),
    (
        Mutant(
            "    WHERE orderid = :orderid ORDER BY position\n",
            "    WHERE orderid = :orderid ORDER BY lineid DESC\n",
            "lines are out of order",
        ),
    ),
)

CONDITIONS = Part(
    "allocation/entrypoints/http/conditions.py",
    ("unit/test_v1.py",),
    (
        Mutant('return f"{batch.qty}-{batch.allocated}"', 'return f"{batch.qty}-0"', "an allocation goes unseen"),
        Mutant(
            "        raise PreconditionRequired(problems",
            "        return None\n        raise PreconditionRequired(problems",
            "who has seen nothing may change all",
        ),
        Mutant("request.if_match.as_set()", "request.if_match.as_set(include_weak=True)", "a weak ETag counts"),
    ),
)

READING_COMMANDS = Part(
    "allocation/entrypoints/http/routes.py",
    ("unit/test_v1.py", "integration/test_v1.py"),
    (
        Mutant("schema, self.largest_body, **given)", "schema, self.largest_body)", "no batch is changed by its path"),
        Mutant("replace(command, **expected) if expected else command", "command", "a condition is not looked at"),
    ),
)

BATCHES = Part(
    "allocation/entrypoints/v1/batches.py",
    ("integration/test_v1.py",),
    (
        Mutant(
            "        service.bus.handle(command, g.metadata, message_id)\n",
            "        now = stored(command.ref)\n"
            "        as_seen = command.seen is not None and (now.qty, now.allocated) in command.seen\n"
            "        kind, asked = type(command), (command.ref, command.qty)\n"
            "        service.bus.handle(kind(*asked) if as_seen else command, g.metadata, message_id)\n",
            "the condition is looked at before the change",
            seen_by="test_of_many_who_have_seen_the_same_batch_one_changes_it",
        ),
    ),
)

EVENTS = Part(
    "allocation/entrypoints/v1/events.py",
    ("integration/test_v1.py",),
    (
        Mutant(
            "following = resume if len(found) > asked.limit else None",
            "following = None",
            "the log ends after its first page",
        ),
    ),
)

ALLOCATIONS = Part(
    "allocation/entrypoints/v1/allocations.py",
    ("unit/test_v1.py",),
    (
        Mutant(
            "service.views.room(command.sku), outcome.changed,",
            "service.views.room(command.sku), True,",
            "who repeats a request is told to repeat it, for a day",
            seen_by="test_a_shortage_that_is_told_again_says_how_to_try_anew",
        ),
    ),
)
