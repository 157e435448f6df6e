"""The table that says what is done about what. A handler paired with the wrong message fails type checking."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Any, Generic, TypeVar

from messaging.errors import RoutingError
from messaging.outbox.effects import Effect

M = TypeVar("M")
U = TypeVar("U")


class Routes(Generic[U]):
    """`streams` gives those that a command changes, if it names them: then it shares a transaction with the commands
    that wait beside it. `name_of` a command is what its fingerprints are made with. `translate` gives the command that
    its handler gets.
    """

    def __init__(
        self,
        *,
        streams: Callable[[object], Collection[str]] = lambda _: (),
        name_of: Callable[[object], str] = lambda command: type(command).__name__,
        translate: Callable[[object, U], object] = lambda command, _: command,
    ) -> None:
        self.streams = streams
        self.name_of = name_of
        self.translate = translate
        self._commands: dict[type, Callable[[Any, U], object]] = {}
        self._policies: dict[type, tuple[Callable[[Any, U], object], ...]] = {}
        self._effects: defaultdict[type, dict[str, Effect[Any]]] = defaultdict(dict)

    def command(self, kind: type[M], handler: Callable[[M, U], object]) -> None:
        """Have commands of this kind handled; what the handler returns is the answer to the caller."""
        if kind in self._commands:
            raise RoutingError(f"{kind.__name__} has a handler already")
        self._commands[kind] = handler

    def event(self, kind: type[M], *policies: Callable[[M, U], object]) -> None:
        """Do this about such events in the transaction that recorded them."""
        self._policies[kind] = (*self._policies.get(kind, ()), *policies)

    def effect(self, kind: type[M], *effects: Effect[M]) -> None:
        """Have an effect outside for such events, after the commit."""
        for effect in effects:
            if effect.name in self._effects[kind]:
                raise RoutingError(f"{kind.__name__} has an effect {effect.name} already")
            self._effects[kind][effect.name] = effect

    def handler(self, kind: type) -> Callable[[Any, U], object]:
        try:
            return self._commands[kind]
        except KeyError:
            raise RoutingError(f"{kind.__name__} has no handler") from None

    def policies(self, kind: type) -> tuple[Callable[[Any, U], object], ...]:
        return self._policies.get(kind, ())

    def effect_names(self, kind: type) -> tuple[str, ...]:
        return tuple(self._effects.get(kind, ()))

    def find_effect(self, kind: type, name: str) -> Effect[Any]:
        try:
            return self._effects[kind][name]
        except KeyError:
            raise RoutingError(f"{kind.__name__} has no effect {name}") from None

    def workers(self, name: str) -> int:
        """How many deliver the effect of this name at once."""
        return max((effects[name].workers for effects in self._effects.values() if name in effects), default=1)

    def all_effect_names(self) -> Iterator[str]:
        """Each name once, in the table's order."""
        yield from dict.fromkeys(name for effects in self._effects.values() for name in effects)
