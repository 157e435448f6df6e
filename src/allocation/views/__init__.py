"""Questions answered around the domain model: of orders from a read model, of stock from the tables that are written,
and of why there are as many as there are from the log.
"""

from allocation.views.batches import Batch
from allocation.views.orders import AllocatedLine, Order
from allocation.views.products import Incoming, Room, Stock
from allocation.views.views import Views

__all__ = ["AllocatedLine", "Batch", "Incoming", "Order", "Room", "Stock", "Views"]
