"""Stock allocation for shops and warehouses: the bounded context."""
