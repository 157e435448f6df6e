"""Questions answered around the domain model: of orders from a read model, of stock from the tables that are written,
and of why there are as many as there are from the log.
"""

from allocation.views.backorders import Backorder, Place
from allocation.views.batches import Batch
from allocation.views.holds import Hold
from allocation.views.moves import Moved
from allocation.views.orders import Line, Listed, Order, Promise, Summary
from allocation.views.products import Incoming, Room, Stock
from allocation.views.views import Views

__all__ = [
    "Backorder",
    "Batch",
    "Hold",
    "Incoming",
    "Line",
    "Listed",
    "Moved",
    "Order",
    "Place",
    "Promise",
    "Room",
    "Stock",
    "Summary",
    "Views",
]
