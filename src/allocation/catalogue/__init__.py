"""The catalogue of messages over Redis, in both directions: names, fields and limits, derived from the code.

The schema of every version that was ever published is kept in `published/`, one file each.
"""

from allocation.catalogue.messages import ACCEPTED, SENT, Channel, Message, messages

__all__ = ["ACCEPTED", "SENT", "Channel", "Message", "messages"]
