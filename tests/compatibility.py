"""Whether a change of a schema breaks those on the other side, who know only the published one.

What we send must stay within what was published: they read it. What was published must stay within what we accept:
they send it. So a limit may become tighter on what we send and wider on what we accept, never the other way. A field
may be added, though not a required one to what we accept. None may be taken away, and renaming does that too. Any
other keyword of JSON Schema that changes counts as breaking: better asked once too often.
"""

from __future__ import annotations

from collections.abc import Iterator

from allocation.catalogue.messages import ACCEPTED, SENT, Direction
from messaging.codec import JsonObject

_AT_LEAST = ("minimum", "minLength", "minItems")
_AT_MOST = ("maximum", "maxLength", "maxItems")
_FOR_PEOPLE = ("title", "description", "examples", "default")
_KNOWN = {*_AT_LEAST, *_AT_MOST, *_FOR_PEOPLE, "type", "const", "enum", "anyOf", "items", "properties", "required"}

_VERDICTS: dict[Direction, str] = {SENT: "sent now, and was never published", ACCEPTED: "no longer accepted"}

_JSON_TYPES: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def breaks(published: JsonObject, today: JsonObject, direction: Direction, where: str = "the message") -> Iterator[str]:
    """Each way in which today's schema breaks those who know the published one, in words."""
    narrow, wide = (today, published) if direction == SENT else (published, today)
    verdict = _VERDICTS[direction]
    for branch in _branches(narrow):
        problems = [list(_not_within(branch, other, direction, where)) for other in _branches(wide)]
        if all(problems):
            plain = "anyOf" not in narrow and "anyOf" not in wide
            yield from problems[0] if plain else [f"{where}: {_shown(branch)} is {verdict}"]
    yield from _fields(published, today, direction, where)


def _fields(published: JsonObject, today: JsonObject, direction: Direction, where: str) -> Iterator[str]:
    before, after = published.get("properties", {}), today.get("properties", {})
    for name in before:
        path = name if where == "the message" else f"{where}.{name}"
        if name in after:
            yield from breaks(before[name], after[name], direction, path)
        else:
            yield f"{path}: is gone"
    must_before, must_after = set(published.get("required", ())), set(today.get("required", ()))
    lost, new = must_before - must_after, must_after - must_before
    for name in sorted(lost & after.keys() if direction == SENT else new):
        path = name if where == "the message" else f"{where}.{name}"
        yield f"{path}: {'may be missing' if direction == SENT else 'is required'} now"


def _not_within(narrow: JsonObject, wide: JsonObject, direction: Direction, where: str) -> Iterator[str]:
    """Why not every value that the narrow one allows is allowed by the wide one; their fields are not looked at, but
    for those of what is in a list."""
    verdict = _VERDICTS[direction]
    given, allowed = _choices(narrow), _choices(wide)
    if allowed is not None:
        for value in given if given is not None else ["any other value"]:
            if value not in allowed:
                yield f"{where}: {value!r} is {verdict}"
    elif "type" in wide:
        for kind in sorted(_types(narrow) - _types(wide)):
            yield f"{where}: {kind} is {verdict}"
    for bound in _AT_LEAST:
        if bound in wide and (bound not in narrow or narrow[bound] < wide[bound]):
            yield f"{where}: {bound} {narrow.get(bound, 'none')} is {verdict}"
    for bound in _AT_MOST:
        if bound in wide and (bound not in narrow or narrow[bound] > wide[bound]):
            yield f"{where}: {bound} {narrow.get(bound, 'none')} is {verdict}"
    if "items" in wide:
        published, today = (wide, narrow) if direction == SENT else (narrow, wide)
        yield from breaks(published.get("items", {}), today.get("items", {}), direction, f"{where}[]")
    for keyword in sorted(wide.keys() - _KNOWN):
        if narrow.get(keyword) != wide[keyword]:
            yield f"{where}: {keyword} is not what it was"


def _branches(schema: JsonObject) -> list[JsonObject]:
    others = {keyword: value for keyword, value in schema.items() if keyword != "anyOf"}
    return [others | branch for branch in schema.get("anyOf", [{}])]


def _choices(schema: JsonObject) -> list[object] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _types(schema: JsonObject) -> set[str]:
    choices = _choices(schema)
    if choices is not None and "type" not in schema:
        return {_JSON_TYPES.get(type(choice), "any type") for choice in choices}
    kinds = schema.get("type", "any type")
    found = set(kinds) if isinstance(kinds, list) else {kinds}
    return found | {"integer"} if "number" in found else found


def _shown(schema: JsonObject) -> str:
    return repr(schema["const"]) if "const" in schema else str(schema.get("type", "any type"))
