"""Everything is said in pyproject.toml; this file lets `python setup.py` and older tools find it."""

from setuptools import setup

setup()
