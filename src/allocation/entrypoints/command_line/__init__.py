"""The subcommands of `allocation`, and what they share."""
