"""Where requests come in. Entrypoints do not know each other."""
