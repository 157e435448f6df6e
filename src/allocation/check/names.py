"""Names that were stored before all were kept in one form."""

from __future__ import annotations

from sqlalchemy import Connection, text


def in_another_form(connection: Connection, most: int) -> list[str]:
    """At most so many of them, each with what it names. It is no fault: they are found as they were sent."""
    return [f"{row.what} {row.name!a}" for row in connection.execute(_IN_ANOTHER_FORM, {"most": most})]


_IN_ANOTHER_FORM = text("""
    SELECT 'SKU' AS what, sku AS name FROM products WHERE sku IS NOT NFC NORMALIZED
    UNION ALL SELECT 'batch', reference FROM batch_references WHERE reference IS NOT NFC NORMALIZED
    UNION ALL (SELECT DISTINCT 'order', orderid FROM order_lines WHERE orderid IS NOT NFC NORMALIZED)
    UNION ALL (SELECT DISTINCT 'line', lineid FROM order_lines WHERE lineid IS NOT NFC NORMALIZED)
    LIMIT :most
""")
