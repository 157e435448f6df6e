"""Measures the service against what is beneath it: `python -m benchmarks`, or `make bench`."""
