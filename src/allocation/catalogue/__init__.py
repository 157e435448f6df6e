"""What is said over Redis, in both directions: every message, its fields and limits, read off the code that says it.

The schema of every version that was ever published is kept in `published/`, one file each.
"""

from allocation.catalogue.messages import ACCEPTED, SENT, Channel, Message, messages

__all__ = ["ACCEPTED", "SENT", "Channel", "Message", "messages"]
