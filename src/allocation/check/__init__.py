"""Proves that the data is consistent: whatever is stored twice, or follows from something else, is compared with that.

All of it is read in one snapshot, so that a service may go on writing, and in streams, so that memory does not grow
with the database.
"""

from allocation.check.difference import Difference
from allocation.check.names import in_another_form
from allocation.check.snapshot import Figures, Verdict, check_consistency, open_snapshot

__all__ = ["Difference", "Figures", "Verdict", "check_consistency", "in_another_form", "open_snapshot"]
