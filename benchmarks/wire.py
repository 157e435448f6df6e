"""What the clients ask, as bytes on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random

_POST = b"POST /allocate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"


def allocate(orderid: str, sku: str) -> bytes:
    body = b'{"orderid":"%b","sku":"%b","qty":1}' % (orderid.encode(), sku.encode())
    return _POST % (len(body), body)


def get(path: str) -> bytes:
    return _GET % path.encode()


def orders(prefix: str, skus: list[str], seed: int = 1) -> Iterator[bytes]:
    """One new order after another, each for one of the SKUs, the same ones every time."""
    choose = Random(seed).choice
    for number in count():
        yield allocate(f"{prefix}-{number}", choose(skus))


def always(request: bytes) -> Iterator[bytes]:
    while True:
        yield request
