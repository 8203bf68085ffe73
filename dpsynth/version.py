"""The version of the package, which `pyproject.toml` takes from here.

It stands here as a word because asking the installed package takes every process 40 milliseconds.
"""

__version__ = "0.1.0"
