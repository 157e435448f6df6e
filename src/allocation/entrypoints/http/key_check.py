"""Refuses to serve others than this machine when nobody could sign in, or everybody."""

from __future__ import annotations

import logging

from allocation.access.sql_keys import SqlKeys
from allocation.config import SettingError, Settings
from allocation.database import migrations
from allocation.database.engine import short_lived_engine
from messaging.errors import Unavailable
from messaging.sql.connections import Database

log = logging.getLogger(__name__)


def require_keys(settings: Settings, *, migrate_first: bool = False) -> None:
    """Raises SettingError when API keys are required and there is none.

    A database that is unavailable is no reason not to start: until it is back, every key is refused.
    """
    if not settings.asks_for_keys:
        return
    try:
        if migrate_first:
            migrations.upgrade(settings.database_url)
        with short_lived_engine(settings.database_url) as engine:
            has_valid_key = SqlKeys(Database(engine)).any_holds()
    except Unavailable as error:
        log.warning("can't tell whether there are API keys; all requests need one", extra={"error": str(error)})
        return
    if not has_valid_key:
        why = "API_KEYS is 'required'" if settings.is_on_loopback else f"HOST is {settings.host!r}"
        raise SettingError(
            f"{why}, and there is no API key, so no request could be authorized; create one with "
            "`allocation keys create NAME --scope SCOPE`, or set API_KEYS=trust-everybody if whoever reaches "
            "the API may do everything"
        )
