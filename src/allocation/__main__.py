"""`python -m allocation` is the `allocation` command."""

from allocation.entrypoints.cli import main

main()
