"""Mutants of what is asked of the log, of products, batches and orders."""

from __future__ import annotations

from tests.mutants.part import Mutant, Part

LOG_READER = Part(
    "messaging/sql/log_reader.py",
    ("integration/test_v1.py", "integration/test_plans.py", "integration/test_console.py"),
    (
        Mutant(
            "SELECT {_ENTRY} FROM event_log WHERE {_COMPLETE} AND {_IN_TIME}\n    ORDER BY transaction_id DESC",
            "SELECT {_ENTRY} FROM event_log WHERE {_IN_TIME}\n    ORDER BY transaction_id DESC",
            "an event that commits late is never shown",
            seen_by="test_an_event_is_shown_only_when_none_can_come_before_it_any_more",
        ),
        Mutant(
            "about_it AS MATERIALIZED (SELECT * ",
            "about_it AS NOT MATERIALIZED (SELECT * ",
            "the whole log is read for one order",
            harmless="the planner finds the right index by itself on these tables; with other statistics it may not",
        ),
    ),
)

BATCHES = Part(
    "allocation/views/batches.py",
    ("integration/test_v1.py", "integration/test_console.py"),
    (
        Mutant('IS_SOLD = f"coalesce(expires >= {TODAY}, true)"', 'IS_SOLD = "true"', "what has expired is for sale"),
        Mutant(" - dispatched_quantity - ", " - ", "what has left is still promised"),
        Mutant('= {sku} AND NOT is_open"', '= {sku} AND NOT is_open AND false"', "what was used up was never there"),
        Mutant(
            "({_PLACE}) > (",
            "({_PLACE}) >= (",
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
        Mutant(" AND {AVAILABLE} > 0),", "),", "promised stock is said to come"),
        Mutant("WHERE eta >= {TODAY} AND", "WHERE", "what is overdue is said to come"),
    ),
)

AVAILABILITY = Part(
    "allocation/views/availability.py",
    ("integration/test_availability.py",),
    (
        Mutant(" AS every WHERE {IS_SOLD}", " AS every", "what has expired can be had"),
        Mutant(" > 0 OR eta IS NOT NULL)", " > 0)", "a day on which all is promised is forgotten"),
        Mutant("purchased_quantity - dispatched_quantity", "purchased_quantity", "what has left is on hand"),
        Mutant("sum(qty), 0)", "max(qty), 0)", "of those who wait one is counted"),
    ),
)

AT_RISK = Part(
    "allocation/views/at_risk.py",
    ("integration/test_at_risk.py", "integration/test_plans.py"),
    (
        Mutant("needed_by < greatest(eta, {TODAY})", "needed_by < eta", "what is overdue is not at risk"),
        Mutant("greatest(eta, {TODAY}) AS there_on", "eta AS there_on", "what is overdue came on its day"),
        Mutant("WHERE needed_by < {TODAY}", "WHERE needed_by <= {TODAY}", "who waits is late on the day itself"),
        Mutant(
            "(needed_by, version) > (:needed_by",
            "(needed_by, version) >= (:needed_by",
            "the last promise of a page is told again",
        ),
        Mutant(
            "(needed_by, sku, since, true) > (:needed_by",
            "(needed_by, sku, since, true) >= (:needed_by",
            "a line that waits is told again",
            seen_by="test_it_is_listed_by_pages_in_the_order_of_the_days_missed",
        ),
        Mutant(
            "(needed_by, since, true) > (:needed_by",
            "(needed_by, since, true) >= (:needed_by",
            "a line of one SKU that waits is told again",
            seen_by="test_it_is_listed_by_pages_in_the_order_of_the_days_missed",
        ),
        Mutant(
            "(needed_by, sku, since, true)", "(needed_by, sku, since, false)", "what waits of a line is passed over"
        ),
        Mutant(
            "(needed_by, since, true)", "(needed_by, since, false)", "what waits of a line of one SKU is passed over"
        ),
        Mutant("THEN {2**63 - 1} ", "THEN 0 ", "a SKU that is done is begun anew"),
        Mutant("ELSE 0 END", "ELSE :version END", "of the next SKU the first promises are passed over"),
        Mutant(
            "batchref = batches.reference AND qty > 0",
            "batchref = batches.reference",
            "all that was ever promised is read",
        ),
        Mutant(
            " AND {PROMISED} > 0 ", " ", "batches are looked at that promise nothing", harmless="they have nothing late"
        ),
    ),
)

ORDERS = Part(
    "allocation/views/orders.py",
    ("integration/test_v1.py", "integration/test_views.py"),
    (
        Mutant(
            "ORDER BY view.position, line.lineid",
            "ORDER BY line.lineid DESC",
            "lines are out of order",
        ),
    ),
)
