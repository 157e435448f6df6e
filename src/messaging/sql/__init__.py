"""The machinery's tables and transactions on PostgreSQL, in SQLAlchemy Core."""
