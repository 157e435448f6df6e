"""Who may use the service: principals, scopes, API keys, sessions and rate limits."""
