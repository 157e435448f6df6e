"""Mutants of the rules of allocation, and of the rows they leave."""

from __future__ import annotations

from tests.mutants.part import Mutant, Part

MODEL = Part(
    "allocation/domain/model.py",
    ("unit/test_product.py", "unit/test_product_laws.py"),
    (
        Mutant("self.available_quantity >= line.qty", "True", "more is promised than there is"),
        Mutant(
            "self.available_quantity >= line.qty", "self.available_quantity > line.qty", "the last unit is never sold"
        ),
        Mutant(
            "return self.eta is not None, self.eta",
            "return self.eta is None, self.eta",
            "shipments before the warehouse",
        ),
        Mutant(
            "self.eta or date.min, self.added", "self.eta or date.min, -self.added", "the batch added last is preferred"
        ),
        Mutant(
            "if seen is not None and batch.quantities not in seen:",
            "if False:",
            "a batch is changed on the ground of what is no longer so",
        ),
        Mutant("            if promise.line != line:", "            if False:", "one line, two quantities"),
        Mutant("if promise := self._find_promise(line.key):", "if promise := None:", "one line has two promises"),
        Mutant(
            "        for promise in reversed(broken):", "        for promise in broken:", "placed again newest first"
        ),
        Mutant("            if too_much <= 0:\n                return", "            pass", "breaks more than it must"),
        Mutant(
            "        if batch.purchased_quantity == qty:\n            return\n",
            "",
            "the same quantity again is an event",
        ),
        Mutant(
            "for promise in reversed(self.promises):", "for promise in self.promises:", "breaks the oldest promises"
        ),
        Mutant(
            "            if promise.line.key not in self._promises:\n",
            "            if True:\n",
            "one promise is broken twice",
        ),
    ),
)

REPOSITORY = Part(
    "allocation/adapters/repository.py",
    (
        "integration/test_unit_of_work.py",
        "integration/test_repository.py",
        "integration/test_plans.py",
        "integration/test_round_trips.py",
    ),
    (
        Mutant(
            "    .where(batches.c.sku == _skus.c.sku, batches.c.is_open)\n",
            "    .where(batches.c.sku == _skus.c.sku)\n",
            "an allocation costs the more, the more batches were ever exhausted",
            seen_by="test_an_allocation",
        ),
        Mutant(
            "    .order_by(batches.c.eta.nulls_first(), batches.c.added)",
            "    .order_by(batches.c.added)",
            "of many open batches one is chosen that is not the best",
            seen_by="test_of_more_batches_than_a_product_is_loaded_with_the_preferred_is_found",
        ),
        Mutant(
            "if len(open_batches) == AT_HAND else None",
            "if len(open_batches) > AT_HAND else None",
            "a line is out of stock although the twenty-first batch has room",
            seen_by="test_of_more_batches_than_a_product_is_loaded_with_the_preferred_is_found",
        ),
        Mutant(
            "if len(open_batches) == AT_HAND else None",
            "if len(open_batches) >= 2 else None",
            "a product with few open batches is asked for again when it has no room",
            seen_by="test_a_line_that_finds_no_room_costs_no_more",
        ),
        Mutant(
            '    .limit(literal_column("500"))\n',
            "",
            "a cut reads all promises of its batch, however few it breaks",
            seen_by="test_a_batch_that_is_cut",
        ),
        Mutant(
            "    .order_by(products.c.sku)\n    .with_for_update()\n",
            "    .order_by(products.c.sku)\n",
            "what is reserved is written by others",
            seen_by="test_who_reserves_a_product_wins_against_who_does_not",
        ),
        Mutant(
            "                select(batch_references.c.sku).join_from(_to_lock, batch_references, _of_references),\n",
            "",
            "a batch that changes is not reserved",
            seen_by="test_who_reserves_a_product_wins_against_who_does_not",
        ),
    ),
)

CHANGES = Part(
    "allocation/adapters/changes.py",
    ("integration/test_unit_of_work.py", "integration/test_repository.py"),
    (
        Mutant("            yield _UPDATE_PRODUCTS, known", "            pass", "the version is not kept"),
        Mutant(
            "            yield _INSERT_BATCH_REFERENCES, ",
            "            ",
            "one reference, two batches",
        ),
        Mutant("            yield _INSERT_ORDER_LINES, new", "            pass", "one line, two SKUs"),
        Mutant(
            "            yield _DELETE_ORDER_LINES, broken",
            "            pass",
            "a broken promise keeps its line",
        ),
        Mutant(
            "            yield _UPDATE_ORDER_LINES, moved",
            "            pass",
            "a line leads to its old promise",
        ),
        Mutant("            yield _DELETE_ALLOCATIONS, left", "            pass", "a broken promise stays"),
        Mutant(".allocated_by -= event.qty", ".allocated_by -= 0", "what was promised stays promised"),
    ),
)

ROUTING = Part(
    "allocation/service_layer/routing.py",
    ("unit/test_handlers.py", "unit/test_routing.py", "integration/test_concurrency.py"),
    (
        Mutant(
            "handlers.remove_from_allocations_view, handlers.reallocate)",
            "handlers.remove_from_allocations_view)",
            "a promise that was broken is not placed again",
        ),
        Mutant("    route.effect(events.Deallocated, publish)\n", "", "nobody is told of a broken promise"),
        Mutant(
            "route.event(events.Allocated, handlers.add_to_allocations_view)", "pass", "a reader does not see the line"
        ),
    ),
)

PROCESSES = Part(
    "allocation/entrypoints/command_line/processes.py",
    ("unit/test_processes.py",),
    (
        Mutant(
            "if os.getppid() != parent:",
            "if False:",
            "a part stays when its parent is killed while it is being started",
            seen_by="test_a_part_whose_parent_was_killed_before_it_could_ask_to_die_with_it_does_not_stay",
        ),
    ),
)
