"""Messages to JSON and back, under wire names that outlive the classes that bear them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from messaging.errors import UnknownMessage, UnreadableMessage

JsonObject: TypeAlias = dict[str, Any]
Upcaster: TypeAlias = Callable[[JsonObject], tuple[str, JsonObject]]


class Codec:
    """Knows each kind by an explicit, versioned name such as `allocated.v1`.

    An upcaster stands under the name of an old version and gives the name and data of a newer one.
    """

    def __init__(self, kinds: Mapping[str, type], upcasters: Mapping[str, Upcaster] | None = None) -> None:
        self._adapters: dict[str, TypeAdapter[Any]] = {name: TypeAdapter(kind) for name, kind in kinds.items()}
        self._names = {kind: name for name, kind in kinds.items()}
        self._upcasters = dict(upcasters or {})

    def name(self, kind: type) -> str:
        return self._names[kind]

    def encode(self, message: object) -> tuple[str, JsonObject]:
        """The wire name and the fields as JSON values, but for those that are as they are when nobody says: so a
        message without a newer field is what it was before there was one."""
        name = self._names[type(message)]
        return name, self._adapters[name].dump_python(message, mode="json", exclude_defaults=True)

    def decode(self, name: str, data: JsonObject) -> object:
        """The message. Raises UnknownMessage for a name we do not know (yet), else UnreadableMessage."""
        try:
            while name in self._upcasters:
                name, data = self._upcasters[name](data)
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableMessage(f"not a {name}: {error!r}") from error
        if name not in self._adapters:
            raise UnknownMessage(name)
        try:
            return self._adapters[name].validate_python(data)
        except ValidationError as error:
            raise UnreadableMessage(f"not a {name}: {error}") from error
