"""What the stock team is mailed."""

from __future__ import annotations

from dataclasses import dataclass

from allocation.domain import events
from allocation.service_layer.ports import Mail, Notifications
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
        about = f"Out of stock for {event.sku}"
        line = f"Order {event.orderid}, line {event.lineid}, asked for {event.qty}; no batch has that many available."
        self.notifications.send(
            Mail(metadata.id, metadata.correlation_id, self.stock_team, about, f"{about}\n\n{line}\n")
        )


@dataclass(frozen=True, slots=True)
class SendShortagesNotification:
    notifications: Notifications
    stock_team: str

    def __call__(self, delivery: Delivery[events.ShortagesReported]) -> None:
        event, metadata = delivery.recorded.event, delivery.recorded.metadata
        others, unlisted = event.lines - 1, event.lines - len(event.listed)
        lines = [f"Out of stock for {line}" for line in event.listed] + [f"and {unlisted:,} more"] * (unlisted > 0)
        also = f" and {others:,} more line{'s' * (others > 1)}" if others else ""
        about = f"Out of stock for {event.sku}{also}"
        body = "\n".join(["An import has ended, and no batch has that many available:", "", *lines, ""])
        self.notifications.send(Mail(metadata.id, metadata.correlation_id, self.stock_team, about, body))
