"""Questions answered around the domain model: of orders from a read model, of stock from the tables that are written,
and of why there are as many as there are from the log.
"""

from allocation.views.at_risk import AtRisk, Missed
from allocation.views.availability import Availability, Day, OnHand, Overdue, Waiting
from allocation.views.backorders import Backorder, Place
from allocation.views.batches import Batch, ListedBatch
from allocation.views.holds import Hold
from allocation.views.moves import Moved
from allocation.views.orders import Line, Listed, Order, Promise, Summary
from allocation.views.products import Incoming, Room, Stock
from allocation.views.views import Views

__all__ = [
    "AtRisk",
    "Availability",
    "Backorder",
    "Batch",
    "Day",
    "Hold",
    "Incoming",
    "Line",
    "Listed",
    "ListedBatch",
    "Missed",
    "Moved",
    "OnHand",
    "Order",
    "Overdue",
    "Place",
    "Promise",
    "Room",
    "Stock",
    "Summary",
    "Views",
    "Waiting",
]
