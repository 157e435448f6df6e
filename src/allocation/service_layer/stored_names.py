"""Commands about what was stored before names were kept in one form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import date
from functools import cache
from itertools import product
from operator import attrgetter
from typing import Any

from allocation.domain.errors import UnknownBatch, UnknownLine
from allocation.domain.names import Renamed, forms
from allocation.service_layer import messages
from allocation.service_layer.ports import Products, UnitOfWork


def as_stored(command: object, uow: UnitOfWork) -> object:
    """The command with each name in the form that is stored: the one that came, where only that is known."""
    if _may_have_renamed(command) and any(_renamed(command)):
        return _as_stored(command, uow.products)
    return command


def _as_stored(command: Any, products: Products) -> Any:
    lookups = messages.lookups(command)
    found: dict[str, str] = {}
    for names, is_there in ((lookups.skus, _is_product), (lookups.batchrefs, _is_batch)):
        renamed = [name for name in names if isinstance(name, Renamed) and not is_there(products, name)]
        found |= {name: name.sent for name in renamed if is_there(products, name.sent)}
    command = _with(command, found)
    lookups = messages.lookups(command)
    for orderid, lineid in lookups.lines:
        keys = product(forms(orderid), forms(lineid))
        if stored := next((key for key in keys if _is_line(products, *key)), None):
            command = _with(command, dict(zip((orderid, lineid), stored, strict=True)))
    for orderid in lookups.orders:
        if stored_order := next((form for form in forms(orderid) if products.lines_of(form)), None):
            command = _with(command, {orderid: stored_order})
            lineids = {line.lineid for line in products.lines_of(stored_order)}
            ours = [name for name in _renamed(command) if name not in lineids and name.sent in lineids]
            command = _with(command, {name: name.sent for name in ours})
    return command


def _renamed(value: object) -> Iterator[Renamed]:
    if isinstance(value, Renamed):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _renamed(one)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _renamed(getattr(value, field.name))


def _is_line(products: Products, orderid: str, lineid: str) -> bool:
    try:
        return bool(products.line(orderid, lineid))
    except UnknownLine:
        return False


def _is_product(products: Products, sku: str) -> bool:
    return products.get(sku).is_known


def _is_batch(products: Products, ref: str) -> bool:
    try:
        return bool(products.get_by_batchref(ref))
    except UnknownBatch:
        return False


@cache
def _values_of(kind: type) -> Callable[[object], tuple[object, ...]]:
    names = [field.name for field in fields(kind)]
    return attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),)


_PLAIN = {str, int, bool, date, type(None)}


def _may_have_renamed(command: object) -> bool:
    """Nearly none has, and each is asked."""
    kind: Any = type(command)
    return not _PLAIN.issuperset(map(type, _values_of(kind)(command)))


def _with(value: Any, names: Mapping[str, str]) -> Any:
    """The same with other names, however deep they stand."""
    if isinstance(value, str):
        return names.get(value, value) if isinstance(value, Renamed) else value
    if isinstance(value, tuple | list):
        return type(value)(_with(one, names) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _with(getattr(value, field.name), names) for field in fields(value)})
    return value
