"""What time it is, where a clock may be wrong: the database's, ours, or that of whoever recorded an event."""

PRESENT = """(
    SELECT greatest(least(database, here), least(greatest(database, here), recorded)) FROM (
        SELECT now() AS database, to_timestamp(:clock) AS here, coalesce(
            (SELECT time FROM event_log ORDER BY transaction_id DESC, position DESC LIMIT 1), now()) AS recorded
    ) AS clocks
)"""
"""In SQL, the middle one of three: of the database, of ours, in seconds since 1970 as the parameter `clock`, and of the
last event. One that jumps decides nothing; the last event of an idle service is old, and the earlier of the others is
taken."""
