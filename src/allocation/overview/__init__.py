"""The service at a glance: what runs, what waits, what is in stock, and whether a person is needed.

Everything here answers within seconds, also when a server is away or silent, and reads a bounded number of rows.
"""

from allocation.overview.api import Api
from allocation.overview.diagnosis import Problem, problems
from allocation.overview.glance import Overview, Unreachable, look, why

__all__ = ["Api", "Overview", "Problem", "Unreachable", "look", "problems", "why"]
