"""Questions answered around the domain model: of orders from a read model, of stock from the tables that are written,
and of why there are as many as there are from the log.
"""

from allocation.views.batches import Batch
from allocation.views.moves import Moved
from allocation.views.orders import Line, Order, Promise
from allocation.views.products import Incoming, Room, Stock
from allocation.views.views import Views

__all__ = ["Batch", "Incoming", "Line", "Moved", "Order", "Promise", "Room", "Stock", "Views"]
