"""What is too old to be kept, where the database's clock may be wrong, or ours."""

from __future__ import annotations


def too_old_since(seconds: str) -> str:
    """The moment, in SQL, before which all is older than the parameter named `seconds` by both clocks: a jump of one
    throws nothing away. The parameter `clock` is ours, in seconds since 1970, and believed to be behind by 30 days at
    most."""
    return (
        f"least(now(), greatest(to_timestamp(:clock), now() - interval '30 days')) - make_interval(secs => :{seconds})"
    )
