"""The database: its tables, the way to it, and its schema step by step."""
