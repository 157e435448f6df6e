"""The outbox: effects of what was committed, delivered by relays, at least once, in the order of their stream."""
