"""Proves that the books balance: whatever is stored twice, or follows from something else, is compared with that.

All of it is read in one snapshot, so that a service may go on writing, and in streams, so that memory does not grow
with the database.
"""

from allocation.check.books import Figures, Verdict, check_books, open_books
from allocation.check.difference import Difference

__all__ = ["Difference", "Figures", "Verdict", "check_books", "open_books"]
