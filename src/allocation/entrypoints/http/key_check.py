"""Refuses to open a door to the world when nobody could come in, or everybody."""

from __future__ import annotations

import logging

from allocation import migrations
from allocation.adapters.engine import short_lived_engine
from allocation.adapters.keys import SqlKeys
from allocation.config import SettingError, Settings
from messaging.errors import Unavailable
from messaging.retry import Retry

log = logging.getLogger(__name__)


def require_keys(settings: Settings, *, migrate_first: bool = False) -> None:
    """Raises SettingError when keys are asked for and there is none.

    A database that can't be asked is no reason not to start: until it can, nobody is let in.
    """
    if not settings.asks_for_keys:
        return
    try:
        if migrate_first:
            migrations.upgrade(settings.database_url)
        with short_lived_engine(settings.database_url) as engine:
            is_anybody_let_in = SqlKeys(engine, Retry()).any_holds()
    except Unavailable as error:
        log.warning("can't tell whether there are API keys; nobody is let in without one", extra={"error": str(error)})
        return
    if not is_anybody_let_in:
        why = "API_KEYS is 'required'" if settings.is_on_loopback else f"HOST is {settings.host!r}"
        raise SettingError(
            f"{why}, and there is no API key, so nobody could come in; create one with "
            "`allocation keys create NAME --scope SCOPE`, or set API_KEYS=trust-everybody if whoever reaches "
            "the API may do everything"
        )
