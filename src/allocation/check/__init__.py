"""Proves that the books balance: whatever is stored twice, or follows from something else, is compared with that.

All of it is read in one snapshot, so that a service may go on writing, and in streams, so that memory does not grow
with the database.
"""

from allocation.check.books import balance, open_books

__all__ = ["balance", "open_books"]
