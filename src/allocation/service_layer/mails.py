"""What the stock team is mailed."""

from __future__ import annotations

from dataclasses import dataclass

from allocation.domain import events
from allocation.service_layer.ports import Notifications
from messaging.envelope import Delivery

IMPORT = "import"
"""The source of messages that come from a file: what is out of stock then is mailed together, at the end."""


@dataclass(frozen=True, slots=True)
class SendOutOfStockNotification:
    notifications: Notifications
    stock_team: str

    def __call__(self, delivery: Delivery[events.OutOfStock]) -> None:
        event, metadata = delivery.recorded.event, delivery.recorded.metadata
        if metadata.source == IMPORT and metadata.principal:  # a sender over Redis may call itself that, and has none
            return
        self.notifications.send(
            message_id=metadata.id,
            correlation_id=metadata.correlation_id,
            to=self.stock_team,
            subject=f"Out of stock for {event.sku}",
            body=f"Out of stock for {event.sku}\n\n"
            f"Order {event.orderid}, line {event.lineid}, asked for {event.qty}; no batch has that many available.\n",
        )


@dataclass(frozen=True, slots=True)
class SendShortagesNotification:
    notifications: Notifications
    stock_team: str

    def __call__(self, delivery: Delivery[events.ShortagesReported]) -> None:
        event = delivery.recorded.event
        others, unlisted = event.lines - 1, event.lines - len(event.listed)
        lines = [f"Out of stock for {line}" for line in event.listed] + [f"and {unlisted:,} more"] * (unlisted > 0)
        also = f" and {others:,} more line{'s' * (others > 1)}" if others else ""
        self.notifications.send(
            message_id=delivery.recorded.metadata.id,
            correlation_id=delivery.recorded.metadata.correlation_id,
            to=self.stock_team,
            subject=f"Out of stock for {event.sku}{also}",
            body="An import has ended, and no batch has that many available:\n\n"
            + "".join(f"{line}\n" for line in lines),
        )
