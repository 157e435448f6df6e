"""Mutants of the event catalogue: what it calls harmless, and what it keeps of the past."""

from __future__ import annotations

from tests.mutants.part import Mutant, Part

COMPATIBILITY = Part(
    "allocation/catalogue/compatibility.py",
    ("unit/test_compatibility.py", "unit/test_catalogue.py"),
    (
        Mutant(
            "(today, published) if direction == SENT else (published, today)",
            "(published, today)",
            "wider limits on what is sent break nobody",
            seen_by="test_what_is_wider_breaks_those_who_read_it_and_not_those_who_send_it",
        ),
        Mutant(
            'yield f"{path}: is gone"',
            "pass",
            "a field may be taken away",
            seen_by="test_what_is_taken_away_renamed_or_made_another_breaks_both_sides",
        ),
        Mutant(
            "(lost & after.keys() if direction == SENT else new)",
            "(())",
            "a field may become required, or be missing",
            seen_by="test_what_is_tighter_breaks_those_who_send_it_and_not_those_who_read_it",
        ),
        Mutant(
            "narrow[bound] < wide[bound]",
            "False",
            "a lower bound may rise",
            seen_by="test_what_is_tighter_breaks_those_who_send_it_and_not_those_who_read_it",
        ),
        Mutant(
            "narrow[bound] > wide[bound]",
            "False",
            "an upper bound may fall",
            seen_by="test_what_is_tighter_breaks_those_who_send_it_and_not_those_who_read_it",
        ),
        Mutant(
            "sorted(_types(narrow) - _types(wide))",
            "()",
            "a type may change",
            seen_by="test_what_is_taken_away_renamed_or_made_another_breaks_both_sides",
        ),
        Mutant(
            "        if all(problems):",
            "        if all(problems[1:]):",
            "null may be refused, or sent",
            seen_by="test_what_breaks_nobody_lets_nothing_new_out_and_everything_old_in",
        ),
        Mutant(
            "if narrow.get(keyword) != wide[keyword]:",
            "if False:",
            "a pattern may change",
            seen_by="test_what_is_taken_away_renamed_or_made_another_breaks_both_sides",
        ),
    ),
)

HISTORY = Part(
    "allocation/catalogue/history.py",
    ("unit/test_catalogue.py",),
    (
        Mutant(
            'yield f"{name}: is no longer accepted; {ADVICE}"',
            "pass",
            "an old command may be dropped",
            seen_by="test_what_has_no_upcaster_never_goes_away",
        ),
        Mutant(
            "            yield from _unreadable(name, schema, codec)\n",
            "            pass\n",
            "an old event needs no upcaster",
            seen_by="test_an_old_version_of_an_event_needs_an_upcaster",
        ),
        Mutant(
            "[message.example, *earlier]",
            "[message.example]",
            "examples of the past are forgotten",
            seen_by="test_an_example_that_was_ever_given_is_kept",
        ),
    ),
)
