"""Questions answered around the domain model: of orders from a read model, of stock from the tables that are written,
and of why there are as many as there are from the log.
"""

from allocation.views.at_risk import AtRisk, AtRiskCursor
from allocation.views.availability import Availability, Day, OnHand, Overdue, Waiting
from allocation.views.backorders import Backorder, BackorderCursor
from allocation.views.batches import Batch, BatchCursor
from allocation.views.holds import Hold, HoldCursor
from allocation.views.moves import Moved
from allocation.views.orders import Line, Order, OrderCursor, OrderSummary, Promise
from allocation.views.products import Incoming, ProductCursor, Room, Stock
from allocation.views.views import Views

__all__ = [
    "AtRisk",
    "AtRiskCursor",
    "Availability",
    "Backorder",
    "BackorderCursor",
    "Batch",
    "BatchCursor",
    "Day",
    "Hold",
    "HoldCursor",
    "Incoming",
    "Line",
    "Moved",
    "OnHand",
    "Order",
    "OrderCursor",
    "OrderSummary",
    "Overdue",
    "ProductCursor",
    "Promise",
    "Room",
    "Stock",
    "Views",
    "Waiting",
]
